//! What the page of chapter 6 shows.

use crate::support::session::Session;

pub const SESSIONS: &[Session] = &[];
