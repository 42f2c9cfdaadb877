//! What the page of chapter 7 shows.

use crate::support::session::Session;

pub const SESSIONS: &[Session] = &[];
