//! Chapter 3: volumes, directories and files of the host that the container gets to see.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{SFlag, fstat};

use super::root::NewRoot;
use super::sys;
use crate::told::errors::{Error, Result};

/// `SOURCE:TARGET[:ro]`, as Docker writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    source: PathBuf,
    target: PathBuf,
    read_only: bool,
}

impl FromStr for Volume {
    type Err = String;

    /// The source may have a colon in it, the target may not: what comes after its colon is an option.
    fn from_str(text: &str) -> Result<Volume, String> {
        let (paths, read_only) = match text {
            _ if text.ends_with(":ro") => (&text[..text.len() - 3], true),
            _ if text.ends_with(":rw") => (&text[..text.len() - 3], false),
            _ => (text, false),
        };
        let Some(at) = paths.rfind(":/") else {
            return Err(format!("{text:?} is not SOURCE:TARGET or SOURCE:TARGET:ro with an absolute TARGET"));
        };
        let (source, target) = (&paths[..at], &paths[at + 1..]);
        if let Some((_, option)) = target.split_once(':') {
            return Err(format!(
                "{option:?} is not an option of a volume: there are ro and rw (a target cannot have a colon)"
            ));
        }
        if source.is_empty() {
            return Err("the source is empty".to_string());
        }
        if !source.contains('/') && source != "." && source != ".." {
            return Err(format!("named volumes are not built yet: for the directory write ./{source}"));
        }
        let inside =
            Path::new(target).components().filter(|part| matches!(part, std::path::Component::Normal(_)));
        if inside.count() == 0 {
            return Err("the target is the root directory itself".to_string());
        }
        if Path::new(target).components().any(|part| part == std::path::Component::ParentDir) {
            return Err("the target has .. in it".to_string());
        }
        Ok(Volume { source: source.into(), target: target.into(), read_only })
    }
}

impl Volume {
    // ANCHOR: volume-mount
    /// Mounts the source, with all that is mounted below it, into the new root.
    ///
    /// In hand first, then made read-only, then put down: at no moment is it there and writable. `ro`
    /// holds for the mounts below it too, which MS_BIND|MS_REMOUNT|MS_RDONLY does not do: mount(8)
    /// tells of it under "bind mounts"; mount_setattr(2) with AT_RECURSIVE is the cure.
    pub fn mount(&self, root: &NewRoot) -> Result<()> {
        let (source, target) = (self.source.display(), self.target.display());
        let why = format!("pick up {source} with everything mounted below it");
        let tree =
            sys::open_tree(&why, AT_FDCWD, &self.source, true).map_err(|error| match error.errno() {
                Some(nix::errno::Errno::ENOENT) => {
                    error.remedy("make it first: what is not there is not made")
                }
                _ => error,
            })?;
        if self.read_only {
            sys::mount_setattr_read_only("let nothing in it be written, however deep", tree.as_fd())?;
        }
        // By the descriptor: the name may lead somewhere else by now.
        let found = fstat(&tree).map_err(|errno| {
            Error::call("look at the volume's source", format!("fstat({})", tree.as_raw_fd()), errno)
        })?;
        let is_directory = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR;
        let target_inside = self.target.to_string_lossy();
        let place = if is_directory { root.directory(&target_inside)? } else { root.file(&target_inside)? };
        sys::move_mount(&format!("put it down at {target} of the new root"), tree.as_fd(), place.as_fd())
    }
    // ANCHOR_END: volume-mount
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_writes_is_understood() {
        let volume = |source: &str, target: &str, read_only| Volume {
            source: source.into(),
            target: target.into(),
            read_only,
        };
        for (text, expected) in [
            ("/a:/b", volume("/a", "/b", false)),
            ("/a:/b:ro", volume("/a", "/b", true)),
            ("./a:/b:rw", volume("./a", "/b", false)),
            (".:/b", volume(".", "/b", false)),
            ("/with:colon:/b", volume("/with:colon", "/b", false)),
            ("/with, \\ and\nnewline:/b c", volume("/with, \\ and\nnewline", "/b c", false)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "/a",
            "/a:b",
            "/a:/b:z",
            "/a:/b:ro,z",
            ":/b",
            "name:/b",
            "/a:/",
            "/a://",
            "/a:/../b",
            "/a:/b:",
        ] {
            assert!(text.parse::<Volume>().is_err(), "{text}");
        }
    }
}
