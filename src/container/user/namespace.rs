//! Chapter 8: which user namespace this is. (The chapters before need to know, too.)

use std::fs::File;
use std::path::Path;

use crate::container::sys;
use crate::told::errors::{Error, Result};

// ANCHOR: same-namespace
/// Is this open namespace the one that the process is in already?
pub fn same_namespace(namespace: &File, kind: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata(format!("/proc/self/ns/{kind}"));
    match (namespace.metadata(), own) {
        (Ok(theirs), Ok(own)) => theirs.ino() == own.ino() && theirs.dev() == own.dev(),
        _ => false,
    }
}
// ANCHOR_END: same-namespace

/// Is this process in the first user namespace, where root is really root?
pub fn in_first_user_namespace() -> Result<bool> {
    let map = sys::read_file(Path::new("/proc/self/uid_map"))
        .map_err(|error| Error::io("see who is who here", "/proc/self/uid_map", &error))?;
    let numbers: Vec<&str> = map.split_whitespace().collect();
    Ok(numbers == ["0", "0", "4294967295"])
}
