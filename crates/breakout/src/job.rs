//! What is to be done in a lab: one attack, on one container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::peer::Peer;

/// What is to be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The attack's name.
    pub attack: String,
    /// The chapter.
    pub chapter: u8,
    /// As an ordinary user?
    pub user: bool,
    /// Another runtime in the chapter's place.
    pub peer: Option<Peer>,
    /// Where the chapters and this program are.
    pub programs: PathBuf,
    /// The root filesystem, of which the container is given a copy.
    pub rootfs: PathBuf,
}
