//! Chapter 3: volumes, directories and files of the host that the container gets to see.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::statvfs::FsFlags;

use super::mount::is_directory;
use super::root::NewRoot;
use super::stage::{Otherwise, Stage};
use super::sys;
use crate::told::errors::{Advise, Error, Result};

/// `SOURCE:TARGET[:ro]`, as Docker writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    source: PathBuf,
    target: PathBuf,
    read_only: bool,
    owners: Owners,
}

/// To whom a volume's files belong, as the container sees it (chapter 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owners {
    /// To whom they belong on disk: outside. Inside that may be nobody.
    OnDisk,
    /// Inside to the user who has the number that they have on disk.
    Mapped {
        /// Even where others could run what the container's root puts there.
        set_user_id: bool,
    },
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
        Ok(Volume { source: source.into(), target: target.into(), read_only, owners: Owners::OnDisk })
    }
}

impl Volume {
    /// What is at `source`, at `target` inside.
    pub fn plain(source: &Path, target: &Path) -> Volume {
        let (source, target) = (source.to_path_buf(), target.to_path_buf());
        Volume { source, target, read_only: false, owners: Owners::OnDisk }
    }

    // ANCHOR: volume-mount
    /// Mounts the source, with all that is mounted below it, into the new root.
    ///
    /// In hand first, then made read-only, then put down: at no moment is it there and writable. `ro`
    /// holds for the mounts below it too, which MS_BIND|MS_REMOUNT|MS_RDONLY does not do: mount(8)
    /// tells of it under "bind mounts"; mount_setattr(2) with AT_RECURSIVE is the cure.
    pub fn mount(&self, root: &NewRoot) -> Result<()> {
        let target = self.target.display();
        let tree = self.pick_up()?;
        let target_inside = self.target.to_string_lossy();
        let is_directory = is_directory(&tree)?;
        let place = if is_directory { root.directory(&target_inside)? } else { root.file(&target_inside)? };
        sys::move_mount(&format!("put it down at {target} of the new root"), tree.as_fd(), place.as_fd())
    }

    fn pick_up(&self) -> Result<OwnedFd> {
        let why = format!("pick up {} with everything mounted below it", self.source.display());
        let tree = sys::open_tree(&why, AT_FDCWD, &self.source, true)
            .remedy_for(Errno::ENOENT, "make it first: what is not there is not made")?;
        if self.read_only {
            sys::mount_setattr_read_only("let nothing in it be written, however deep", tree.as_fd())?;
        }
        Ok(tree)
    }
    // ANCHOR_END: volume-mount

    // ANCHOR: volume-on-stage
    /// Chapter 8: the same volume, with its source on the stage. The runtime may reach it, the container's users perhaps
    /// not; and what comes from there is locked: its mounts can't be taken apart, nor made writable.
    pub fn on_stage(&self, stage: &mut Stage) -> Result<Volume> {
        let otherwise = match self.owners {
            Owners::OnDisk => Otherwise::Unmapped,
            Owners::Mapped { .. } if stage.has_other_users() => {
                self.must_not_plant()?;
                Otherwise::Fail
            }
            // An ordinary user's own files belong to the container's root, who is that user.
            Owners::Mapped { .. } => Otherwise::Unmapped,
        };
        let source = stage.take_volume(self.pick_up()?, &self.source, otherwise)?;
        Ok(Volume { source, target: self.target.clone(), read_only: false, owners: Owners::OnDisk })
    }
    // ANCHOR_END: volume-on-stage

    // ANCHOR: must-not-plant
    /// In an id-mapped volume the container's root is the host's root, for files. It can make a program there that belongs
    /// to root and is set-user-ID. Whoever can start that on the host is root of the host; `nosuid` on the volume
    /// would only keep the container from it. So nobody else may get there, or the host itself must not honour the bit.
    fn must_not_plant(&self) -> Result<()> {
        let Owners::Mapped { set_user_id: false } = self.owners else { return Ok(()) };
        const STEP: &str = "map the owners of a volume";
        let failed = |error| Error::io(STEP, &self.source, &error);
        let source = std::fs::canonicalize(&self.source).map_err(failed)?;
        let flags = nix::sys::statvfs::statvfs(&source)
            .map_err(|errno| Error::call(STEP, format!("statvfs({})", source.display()), errno))?
            .flags();
        let harmless = FsFlags::ST_NOSUID | FsFlags::ST_RDONLY;
        if self.read_only || flags.intersects(harmless) {
            return Ok(());
        }
        for above in source.ancestors().skip(1) {
            let found = std::fs::metadata(above).map_err(failed)?;
            let group_may = found.mode() & 0o010 != 0 && found.gid() != 0;
            if found.uid() == 0 && found.mode() & 0o001 == 0 && !group_may {
                return Ok(());
            }
        }
        let detail = format!(
            "other users of this host can reach {}, where the container's root could put a set-user-ID program for them",
            source.display()
        );
        Err(Error::new(STEP, detail).remedy(
            "put it into a directory of root's with mode 700, or on a filesystem mounted nosuid; or add ro; or add suid to \
             allow it all the same",
        ))
    }
    // ANCHOR_END: must-not-plant
}

// ANCHOR: mapped-volume
/// Chapter 8: a volume that may say whose its files are: `SOURCE:TARGET[:ro][,idmap][,suid]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedVolume(pub Volume);
// ANCHOR_END: mapped-volume

impl FromStr for MappedVolume {
    type Err = String;

    fn from_str(text: &str) -> Result<MappedVolume, String> {
        let plain = |text: &str| text.parse().map(MappedVolume);
        let Some((paths, options)) = text.rsplit_once(':') else { return plain(text) };
        let words: Vec<&str> = options.split(',').collect();
        if !words.iter().any(|word| ["idmap", "suid"].contains(word)) && words.len() == 1 {
            return plain(text);
        }
        let has = |wanted| words.contains(&wanted);
        let known = ["ro", "rw", "idmap", "suid"];
        if let Some(unknown) = words.iter().find(|word| !known.contains(word)) {
            return Err(format!(
                "{unknown:?} is not an option of a volume: there are ro, rw, idmap and suid"
            ));
        }
        if has("ro") && has("rw") {
            return Err("it cannot be both ro and rw".to_string());
        }
        if has("suid") && !has("idmap") {
            return Err(
                "suid goes with idmap: without it the container's root owns nothing there".to_string()
            );
        }
        let mut volume: Volume = format!("{paths}{}", if has("ro") { ":ro" } else { "" }).parse()?;
        if has("idmap") {
            volume.owners = Owners::Mapped { set_user_id: has("suid") };
        }
        Ok(MappedVolume(volume))
    }
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
            owners: Owners::OnDisk,
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
    fn whose_its_files_are_can_be_said() {
        let parse = |text: &str| {
            text.parse::<MappedVolume>().map(|MappedVolume(volume)| (volume.read_only, volume.owners))
        };
        let mapped = |set_user_id| Owners::Mapped { set_user_id };
        for (text, expected) in [
            ("/a:/b", (false, Owners::OnDisk)),
            ("/a:/b:ro", (true, Owners::OnDisk)),
            ("/a:/b:idmap", (false, mapped(false))),
            ("/a:/b:ro,idmap", (true, mapped(false))),
            ("/a:/b:idmap,rw", (false, mapped(false))),
            ("/a:/b:idmap,suid", (false, mapped(true))),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in
            ["/a:/b:ro,rw", "/a:/b:suid", "/a:/b:idmap,z", "/a:/b:idmap:ro", "/a:idmap", ":idmap", "/a:/b:"]
        {
            assert!(text.parse::<MappedVolume>().is_err(), "{text}");
            assert!(text.parse::<Volume>().is_err(), "{text}");
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
