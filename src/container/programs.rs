//! Before the story: where this machine has a program.

use std::path::PathBuf;

use nix::unistd::{AccessFlags, access};

/// The program `name`: in the directories of PATH, or else in these, which an ordinary user's PATH may not have.
pub fn find(name: &str, also: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .chain(also.iter().map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|program| access(program, AccessFlags::X_OK).is_ok())
}
