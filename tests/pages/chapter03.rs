//! What the page of chapter 3 shows.

use crate::support::session::Session;

pub const SESSIONS: &[Session] = &[];
