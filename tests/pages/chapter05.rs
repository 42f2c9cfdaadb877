//! What the page of chapter 5 shows.

use crate::support::session::Session;

pub const SESSIONS: &[Session] = &[];
