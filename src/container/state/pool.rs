//! Before the story: one of many, such as an address or a range of users, which belongs to a runtime as long as it lives.
//!
//! What is taken has a file in a directory, named after it and locked. Whoever calls these holds a lock besides, so that
//! nobody opens a file that another one is about to remove: both would believe that they hold it.

use std::collections::HashSet;
use std::fmt::Display;
use std::fs;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::claim::Claim;
use super::directory::list;
use crate::told::errors::{Error, Result};

// ANCHOR: pool-take
/// Takes the first of `all` that is free; `None` if none is.
pub fn take<T, All>(step: &str, directory: &Path, all: impl Fn() -> All) -> Result<Option<(T, Claim)>>
where
    T: Copy + Display + Eq + FromStr + Hash,
    All: Iterator<Item = T>,
{
    fs::create_dir_all(directory).map_err(|error| Error::io(step, directory, &error))?;
    // Where there is a file, somebody lives, or has died a moment ago: such a one is the last resort.
    let name = |path: PathBuf| path.file_name()?.to_str()?.parse().ok();
    let noted: HashSet<T> = list(directory).into_iter().filter_map(name).collect();
    let fresh = all().filter(|one| !noted.contains(one));
    for one in fresh.chain(all().filter(|one| noted.contains(one))) {
        if let Some(claim) = Claim::take(step, &directory.join(one.to_string()))? {
            return Ok(Some((one, claim)));
        }
    }
    Ok(None)
}
// ANCHOR_END: pool-take

/// Gives one back; with the last one its directory goes.
pub fn give_back(claim: Claim) {
    let directory = claim.path().parent().map(Path::to_path_buf);
    claim.remove();
    let _ = directory.map(fs::remove_dir); // succeeds when this was the last one
}

/// Removes the files that nobody has locked any more.
pub fn sweep(directory: &Path) {
    list(directory).iter().filter_map(|path| Claim::inherit(path)).for_each(Claim::remove);
    let _ = fs::remove_dir(directory);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_free_is_taken() {
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("numbers");
        let take = || take("try", &directory, || 5..7).expect("no error");
        let (five, six) = (take().expect("free"), take().expect("free"));
        assert_eq!((five.0, six.0), (5, 6));
        assert!(take().is_none());
        // What somebody who has died had comes after what nobody had; here there is nothing else.
        drop(five);
        assert_eq!(take().map(|(number, _)| number), Some(5));
        sweep(&directory);
        assert!(!directory.join("5").exists() && directory.join("6").exists());
        give_back(six.1);
        assert!(!directory.exists());
    }
}
