//! What a container could leave behind: the engine's own things are there before and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cooperage::container::mountinfo;

use crate::support::run::{links, processes, walk};

/// What is there now.
#[derive(Debug, PartialEq, Eq)]
pub struct Left {
    mounts: Vec<String>,
    cgroups: Vec<PathBuf>,
    processes: Vec<String>,
    network_namespaces: BTreeSet<PathBuf>,
    links: Vec<String>,
    files: Vec<PathBuf>,
}

impl Left {
    /// Looks around. Of an engine's own directories, at those in which a container has files while it is there.
    pub fn now(directories: &[PathBuf]) -> Left {
        let mut mounts: Vec<String> =
            mountinfo::here().expect("readable").iter().map(ToString::to_string).collect();
        // podman's overlay driver mounts its own directory on itself, and lets go of it when nobody uses it.
        mounts.retain(|mount| !mount.contains(" /tmp/clients/data/overlay "));
        mounts.sort();
        let mut cgroups = Vec::new();
        walk(Path::new("/sys/fs/cgroup"), &mut |path| {
            if path.is_dir() {
                cgroups.push(path.to_path_buf());
            }
        });
        let mut files = Vec::new();
        for directory in
            directories.iter().map(PathBuf::as_path).chain([Path::new("/run"), Path::new("/dev/shm")])
        {
            walk(directory, &mut |path| files.push(path.to_path_buf()));
        }
        // dockerd takes what is in netns/ away a minute later: what was mounted there counts. And crun has a place for notes.
        let kept = |path: &Path| path.parent().is_some_and(|parent| parent.ends_with("netns"));
        files.retain(|path| !kept(path) && !path.ends_with("run/crun"));
        let network = |entry: fs::DirEntry| fs::read_link(entry.path().join("ns/net")).ok();
        Left {
            mounts,
            cgroups,
            processes: processes(),
            network_namespaces: fs::read_dir("/proc")
                .expect("readable")
                .flatten()
                .filter_map(network)
                .collect(),
            links: links(),
            files,
        }
    }

    /// Fails unless everything is soon as it was. An engine clears up after its answer.
    pub fn must_come_back(&self, directories: &[PathBuf]) {
        let start = Instant::now();
        loop {
            let now = Left::now(directories);
            if now == *self {
                return;
            }
            if start.elapsed() > Duration::from_secs(20) {
                let lines =
                    |left: &Left| format!("{left:#?}").lines().map(str::to_string).collect::<Vec<_>>();
                let (now, then) = (lines(&now), lines(self));
                let new: Vec<_> = now.iter().filter(|line| !then.contains(line)).collect();
                let gone: Vec<_> = then.iter().filter(|line| !now.contains(line)).collect();
                panic!("afterwards there is {new:#?}, and gone is {gone:#?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
