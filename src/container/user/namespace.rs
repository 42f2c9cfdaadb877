//! Chapter 8: which user namespace this is. (The chapters before need to know, too.)

use std::fs::File;

use super::map::Map;
use crate::told::errors::Result;

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
    Ok(Map::read("/proc/self/uid_map")?.is_the_first())
}
