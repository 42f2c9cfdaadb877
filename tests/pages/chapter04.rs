//! What the page of chapter 4 shows.

use crate::support::session::Session;

pub const SESSIONS: &[Session] = &[];
