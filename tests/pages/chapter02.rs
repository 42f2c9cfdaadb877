//! What the page of chapter 2 shows.

use crate::support::session::Session;

pub const SESSIONS: &[Session] = &[];
