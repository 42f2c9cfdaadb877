//! What the pages that are no chapter's show.

use crate::support::session::Session;

pub const SESSIONS: &[Session] = &[];
