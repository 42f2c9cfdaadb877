//! The list of chapters. Whoever wants to know which there are, or from which on something holds, asks here.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::told::errors::{Error, Result};

/// A part of the book. The programs of one part have one command line, and each chapter's has that of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// I, a container: the command line is Docker's.
    Container,
    /// II, the standard: the command line is that of an OCI runtime.
    Standard,
}

/// What is known of a chapter.
#[derive(Debug)]
pub struct Chapter {
    /// Its number.
    pub number: u8,
    /// The part that it belongs to.
    pub part: Part,
    /// Its folder in chapters/, and its page in the book.
    pub folder: &'static str,
    /// What it adds to the chapter before.
    pub adds: &'static str,
    /// The options that it adds to those of the chapter before, if that is of the same part.
    pub options: &'static [&'static str],
    /// Features of the machine, by the doctor's names, that it and every later chapter need.
    pub needs: &'static [&'static str],
    /// Features that it needs, and its successors do not: they have something better, or go without.
    pub alone_needs: &'static [&'static str],
}

/// Every chapter, in order.
pub const CHAPTERS: &[Chapter] = &[
    Chapter {
        number: 1,
        part: Part::Container,
        folder: "01-chroot",
        adds: "chroot",
        options: &["--rootfs", "--explain"],
        needs: &["kernel", "user-namespace", "capabilities", "rootfs", "close-range"],
        alone_needs: &["chroot"],
    },
    Chapter {
        number: 2,
        part: Part::Container,
        folder: "02-pid",
        adds: "PID namespace, its own /proc",
        options: &[],
        needs: &["pid-namespace", "proc"],
        alone_needs: &["chroot"],
    },
    Chapter {
        number: 3,
        part: Part::Container,
        folder: "03-mount",
        adds: "mount namespace, overlay root, pivot_root",
        options: &["--upper", "--volume"],
        needs: &["mount-namespace", "mount-api", "openat2", "overlay", "pivot-root", "devices", "devpts"],
        alone_needs: &[],
    },
    Chapter {
        number: 4,
        part: Part::Container,
        folder: "04-uts-ipc",
        adds: "UTS and IPC namespaces",
        options: &["--hostname"],
        needs: &["uts-namespace", "ipc-namespace"],
        alone_needs: &[],
    },
    Chapter {
        number: 5,
        part: Part::Container,
        folder: "05-network",
        adds: "network namespace, veth pair, bridge, NAT",
        options: &["--network"],
        needs: &["network-namespace", "bridge", "veth"],
        alone_needs: &["nft", "upstream", "ip-forward"],
    },
    Chapter {
        number: 6,
        part: Part::Container,
        folder: "06-cgroups",
        adds: "cgroups: memory, cpu, pids; cgroup namespace",
        options: &["--memory", "--cpus", "--pids-limit", "--device-write-bps"],
        needs: &["cgroup-namespace"],
        alone_needs: &["cgroups", "cgroup-memory", "cgroup-cpu", "cgroup-pids"],
    },
    Chapter {
        number: 7,
        part: Part::Container,
        folder: "07-init",
        adds: "an init that reaps and forwards signals",
        options: &["--init", "--no-init", "--stop-timeout"],
        needs: &[],
        alone_needs: &[],
    },
    Chapter {
        number: 8,
        part: Part::Container,
        folder: "08-user",
        adds: "user namespace: root that is not root",
        options: &["--userns", "--user", "--group-add"],
        needs: &["own-users"],
        alone_needs: &["subordinate-users", "idmap", "uplink"],
    },
    Chapter {
        number: 9,
        part: Part::Container,
        folder: "09-power",
        adds: "fewer capabilities, system calls, files and devices",
        options: &[
            "--cap-add",
            "--cap-drop",
            "--privileged",
            "--security-opt",
            "--read-only",
            "--tmpfs",
            "--ulimit",
            "--device",
            "--sysctl",
            "--shm-size",
            "--oom-score-adj",
        ],
        needs: &["seccomp"],
        alone_needs: &["landlock", "cgroup-devices", "apparmor", "apparmor-profile", "selinux"],
    },
    Chapter {
        number: 10,
        part: Part::Standard,
        folder: "10-oci",
        adds: "the standard: an OCI runtime",
        options: &["--root", "--bundle", "--pid-file"],
        needs: &[],
        alone_needs: &["cgroup-devices", "apparmor", "selinux"],
    },
];

/// The first chapter.
pub const FIRST: u8 = 1;

/// The newest chapter.
pub const NEWEST: u8 = CHAPTERS[CHAPTERS.len() - 1].number;

/// The last chapter of Part I: the newest whose program runs a command in a container by Docker's options. What is tried at
/// every such program ends here.
pub const NEWEST_CONTAINER: u8 = {
    let mut index = CHAPTERS.len() - 1;
    while !matches!(CHAPTERS[index].part, Part::Container) {
        index -= 1;
    }
    CHAPTERS[index].number
};

impl Chapter {
    /// The name of its program, "chapter05"; that of its exercise is "exercise05", and so on.
    pub fn program(&self, kind: &str) -> String {
        program(kind, self.number)
    }

    /// Can it not do without this feature of the machine?
    pub fn needs(&self, feature: &str) -> bool {
        self.and_earlier()
            .flat_map(|chapter| chapter.needs)
            .chain(self.alone_needs)
            .any(|need| *need == feature)
    }

    /// Does its program take this option?
    pub fn takes(&self, option: &str) -> bool {
        let of_its_part = self.and_earlier().filter(|chapter| chapter.part == self.part);
        of_its_part.flat_map(|chapter| chapter.options).any(|taken| *taken == option)
    }

    fn and_earlier(&self) -> impl Iterator<Item = &'static Chapter> {
        let last = self.number;
        CHAPTERS.iter().take_while(move |chapter| chapter.number <= last)
    }
}

/// The name of a chapter's program: of the kind "chapter", "exercise" or "solution".
pub fn program(kind: &str, number: u8) -> String {
    format!("{kind}{number:02}")
}

/// The numbers of all chapters.
pub fn numbers() -> RangeInclusive<u8> {
    FIRST..=NEWEST
}

/// The numbers of the chapters of Part I, whose programs have one command line.
pub fn containers() -> RangeInclusive<u8> {
    FIRST..=NEWEST_CONTAINER
}

/// The numbers of the chapters of Part I from this one on.
pub fn from(first: u8) -> RangeInclusive<u8> {
    first..=NEWEST_CONTAINER
}

/// The chapter with this number.
pub fn chapter(number: u8) -> Result<&'static Chapter> {
    CHAPTERS.iter().find(|chapter| chapter.number == number).ok_or_else(|| {
        Error::new("find the chapter", format!("there is no chapter {number}"))
            .remedy(format!("there are chapters {FIRST} to {NEWEST}"))
    })
}

/// The directory of the workbook: the one that cargo works in, or the nearest above this one that has chapters, or
/// where this program was built.
pub fn workbook() -> PathBuf {
    let is_it = |path: &&Path| path.join("chapters").is_dir() && path.join("Cargo.lock").is_file();
    let from_cargo = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = std::env::current_dir().ok();
    let above = [from_cargo, here].into_iter().flatten();
    above
        .filter_map(|start| start.ancestors().find(is_it).map(Path::to_path_buf))
        .next()
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")))
}

/// The directory of a chapter in the workbook at `workbook`.
pub fn directory(workbook: &Path, number: u8) -> Result<PathBuf> {
    let directory = workbook.join("chapters").join(chapter(number)?.folder);
    if directory.is_dir() {
        return Ok(directory);
    }
    Err(Error::new(format!("find chapter {number}"), format!("{} is not there", directory.display()))
        .remedy("run it in the directory of the workbook"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::workshop::doctor::FEATURES;

    #[test]
    fn the_list_is_what_is_in_the_folder() {
        let mut folders: Vec<String> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("chapters"))
            .expect("the chapters")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        folders.sort();
        assert_eq!(folders, CHAPTERS.iter().map(|chapter| chapter.folder).collect::<Vec<_>>());
        for (index, chapter) in CHAPTERS.iter().enumerate() {
            assert_eq!(usize::from(chapter.number), index + 1);
            assert!(chapter.folder.starts_with(&format!("{:02}-", chapter.number)));
        }
    }

    #[test]
    fn the_doctor_knows_every_need() {
        for need in CHAPTERS.iter().flat_map(|chapter| chapter.needs.iter().chain(chapter.alone_needs)) {
            assert!(FEATURES.iter().any(|feature| feature.name == *need), "{need}");
        }
    }

    #[test]
    fn options_are_inherited() {
        assert!(!CHAPTERS[1].takes("--volume"));
        let mut containers = CHAPTERS.iter().filter(|chapter| chapter.part == Part::Container);
        assert!(CHAPTERS[2].takes("--volume") && containers.all(|chapter| chapter.takes("--rootfs")));
        assert!(!CHAPTERS.iter().any(|chapter| chapter.takes("--gpus")));
        assert!(CHAPTERS[9].takes("--bundle") && !CHAPTERS[9].takes("--rootfs"));
    }

    #[test]
    fn needs_are_inherited() {
        assert!(!CHAPTERS[0].needs("pid-namespace"));
        assert!(CHAPTERS[1].needs("pid-namespace") && CHAPTERS[6].needs("pid-namespace"));
        assert!(CHAPTERS[5].needs("cgroups") && !CHAPTERS[6].needs("cgroups"));
        assert!(CHAPTERS[9].needs("seccomp"), "the next part stands on the first");
    }

    #[test]
    fn parts_follow_each_other() {
        let parts: Vec<Part> = CHAPTERS.iter().map(|chapter| chapter.part).collect();
        assert!(parts.is_sorted_by_key(|part| *part as u8));
        assert!(containers().all(|number| CHAPTERS[usize::from(number) - 1].part == Part::Container));
        assert_eq!(containers().count(), parts.iter().filter(|part| **part == Part::Container).count());
    }
}
