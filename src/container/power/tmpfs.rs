//! Chapter 9: a place to write to, in memory. With a read-only root it is the only kind there is. See tmpfs(5).

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::container::root::{NewRoot, is_place};
use crate::container::sys::{self, MsFlags};
use crate::told::errors::Result;

/// A tmpfs, as `--tmpfs TARGET[:OPTIONS]` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    target: PathBuf,
    flags: MsFlags,
    data: String,
}

/// What holds unless it is said otherwise. Docker's.
const USUAL: MsFlags = MsFlags::MS_NOEXEC.union(MsFlags::MS_NOSUID).union(MsFlags::MS_NODEV);

/// Options that the filesystem understands itself.
const OF_TMPFS: [&str; 6] = ["size=", "mode=", "uid=", "gid=", "nr_inodes=", "nr_blocks="];

impl FromStr for Tmpfs {
    type Err = String;

    fn from_str(text: &str) -> Result<Tmpfs, String> {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let path = Path::new(target);
        if !is_place(path) {
            return Err(format!(
                "{target:?} is no place for it: write the path of a directory, and not the root"
            ));
        }
        let (mut flags, mut data) = (USUAL, Vec::new());
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let mut set = |flag: MsFlags, on: bool| flags.set(flag, on);
            match option {
                "rw" => set(MsFlags::MS_RDONLY, false),
                "ro" => set(MsFlags::MS_RDONLY, true),
                "exec" => set(MsFlags::MS_NOEXEC, false),
                "noexec" => set(MsFlags::MS_NOEXEC, true),
                "suid" => set(MsFlags::MS_NOSUID, false),
                "nosuid" => set(MsFlags::MS_NOSUID, true),
                "dev" => set(MsFlags::MS_NODEV, false),
                "nodev" => set(MsFlags::MS_NODEV, true),
                _ if OF_TMPFS.iter().any(|known| option.starts_with(known)) => data.push(option),
                _ => {
                    return Err(format!(
                        "{option:?} is not an option of it: there are rw, ro, exec, suid, dev, these with no before them, and {}",
                        OF_TMPFS.join(" ")
                    ));
                }
            }
        }
        Ok(Tmpfs { target: path.to_path_buf(), flags, data: data.join(",") })
    }
}

impl Tmpfs {
    /// Mounts it into the new root.
    pub fn mount(&self, root: &NewRoot) -> Result<()> {
        let place = root.directory(&self.target.to_string_lossy())?;
        let why = format!("have {} in memory", self.target.display());
        let data = root.options(self.data.as_bytes());
        let data = (!data.is_empty()).then_some(&data[..]);
        sys::mount(&why, Some(Path::new("tmpfs")), place.path(), Some("tmpfs"), self.flags, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_docker_reads_them() {
        let read = |text: &str| text.parse::<Tmpfs>().map(|tmpfs| (tmpfs.flags, tmpfs.data));
        assert_eq!(read("/run"), Ok((USUAL, String::new())));
        assert_eq!(read("/run:size=1m,mode=700"), Ok((USUAL, "size=1m,mode=700".to_string())));
        assert_eq!(
            read("/run:exec,ro"),
            Ok(((USUAL - MsFlags::MS_NOEXEC) | MsFlags::MS_RDONLY, String::new()))
        );
        for text in ["", "run", "/", "/..", "/a/../b", "/run:size", "/run:bad", "/run:ro,huge=always"] {
            assert!(text.parse::<Tmpfs>().is_err(), "{text}");
        }
    }
}
