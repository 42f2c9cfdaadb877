//! The places of a container's cgroups: in version 2 one directory, in version 1 one for each hierarchy.
//!
//! A container that was created outlives the runtime, so its cgroups are noted by their paths.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use cooperage::container::cgroup::v2::V2;
use cooperage::container::cgroup::{self, Mount, own_directory};
use cooperage::container::sys;
use cooperage::told::errors::{Error, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use crate::bundle::wrong;
use crate::cli::{CgroupManager, Global};
use crate::resources::{self, Setting};

/// One hierarchy of version 1, with the directory of the container's cgroup in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tree {
    /// Its controllers; its name, for one without, as `name=systemd`.
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub point: PathBuf,
    /// The cgroup.
    pub directory: PathBuf,
}

/// A container's cgroups.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cgroups {
    /// None: it may have none, or wants none.
    None,
    /// Version 1.
    V1(Vec<Tree>),
    /// Version 2: its directory.
    V2(PathBuf),
}

impl Cgroups {
    /// Where they will be, by `cgroupsPath`.
    pub fn find(global: &Global, id: &str, path: Option<&Path>) -> Result<Cgroups> {
        // As good as not there, to clients that leave nothing out.
        let path = path.filter(|path| !path.as_os_str().is_empty());
        if global.cgroup_manager == CgroupManager::Disabled {
            return Ok(Cgroups::None);
        }
        if path.is_some_and(|path| path.components().any(|part| part == Component::ParentDir)) {
            return Err(wrong("linux.cgroupsPath", "it leads up"));
        }
        let read = |file: &str| {
            sys::read_file(Path::new(file)).map_err(|error| Error::io("look for cgroups", file, &error))
        };
        let (memberships, mounts) = (read("/proc/self/cgroup")?, Mount::all(&read("/proc/self/mountinfo")?));
        // A path that begins with / begins at the top of what is mounted, any other below this process's own cgroup.
        let below = |mount: &Mount, own: PathBuf| match path {
            Some(path) if path.is_absolute() => mount.point.join(path.strip_prefix("/").unwrap_or(path)),
            Some(path) => own.join(path),
            None => own.join(id),
        };
        if let Some((mount, own)) = own_directory(&mounts, &memberships, None)
            && words(&mount.point.join("cgroup.controllers"))
                .iter()
                .any(|name| ["memory", "cpu", "pids"].contains(&name.as_str()))
        {
            let own = V2::parent(mount, own);
            return Ok(Cgroups::V2(below(mount, own)));
        }
        let mut trees = Vec::new();
        for line in memberships.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(number), Some(names)) = (parts.next(), parts.next()) else { continue };
            if number == "0" || names.is_empty() {
                continue;
            }
            let first = names.split(',').next().unwrap_or(names);
            if let Some((mount, own)) = own_directory(&mounts, &memberships, Some(first)) {
                trees.push(Tree {
                    controllers: names.split(',').map(str::to_string).collect(),
                    point: mount.point.clone(),
                    directory: below(mount, own),
                });
            }
        }
        Ok(if trees.is_empty() { Cgroups::None } else { Cgroups::V1(trees) })
    }

    /// Their directories.
    pub fn directories(&self) -> Vec<&Path> {
        match self {
            Cgroups::None => Vec::new(),
            Cgroups::V1(trees) => trees.iter().map(|tree| tree.directory.as_path()).collect(),
            Cgroups::V2(directory) => vec![directory],
        }
    }

    /// The directory of the cgroup that has this controller.
    pub fn directory(&self, controller: &str) -> Option<&Path> {
        match self {
            Cgroups::None => None,
            Cgroups::V1(trees) => {
                let has = |tree: &&Tree| tree.controllers.iter().any(|name| name == controller);
                trees.iter().find(has).map(|tree| tree.directory.as_path())
            }
            Cgroups::V2(directory) => Some(directory),
        }
    }

    /// All that is in them ends with the container. So they may not be everybody's, and nobody may be in them.
    pub fn check_free(&self) -> Result<()> {
        const FIELD: &str = "linux.cgroupsPath";
        if let Cgroups::V1(trees) = self
            && trees.iter().any(|tree| is_top(&tree.point, &tree.directory))
        {
            return Err(wrong(FIELD, "it is the top of a hierarchy"));
        }
        for directory in self.directories() {
            let mut found = Vec::new();
            collect(directory, &mut found);
            if let Some(pid) = found.first() {
                return Err(wrong(
                    FIELD,
                    format!("{}: process {pid} of somebody else's is in it", directory.display()),
                ));
            }
        }
        Ok(())
    }

    /// Makes them. An ordinary user without a right to any has none, if nothing is asked for that would need one.
    pub fn create(self, global: &Global, resources: Option<&LinuxResources>) -> Result<Cgroups> {
        match self.make() {
            Ok(()) => Ok(self),
            Err(_) if global.is_rootless() && !resources::needs_cgroup(resources) => Ok(Cgroups::None),
            Err(error) => Err(error),
        }
    }

    fn make(&self) -> Result<()> {
        match self {
            Cgroups::None => Ok(()),
            Cgroups::V1(trees) => {
                let made = trees.iter().try_for_each(|tree| {
                    make_directories(&tree.point, &tree.directory)?;
                    inherit_cpuset(tree)
                });
                if made.is_err() {
                    self.remove_empty();
                }
                made
            }
            Cgroups::V2(directory) => make_v2(directory),
        }
    }

    /// Writes what config.json or `update` says.
    pub fn set(&self, resources: &LinuxResources, rules: bool) -> Result<()> {
        for Setting { controller, file, value, optional } in resources::settings(self, resources)? {
            let Some(directory) = self.directory(&controller) else {
                if optional {
                    continue;
                }
                return Err(wrong(
                    format!("linux.resources: {file}"),
                    format!("the controller {controller} is not there"),
                ));
            };
            let path = directory.join(&file);
            if optional && !path.exists() {
                continue;
            }
            sys::write_file(&format!("set linux.resources: {file}"), &path, &value)?;
        }
        if rules { resources::devices(self, resources) } else { Ok(()) }
    }

    /// The cgroup of version 2, opened, for a child to be born in.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        let Cgroups::V2(directory) = self else { return Ok(None) };
        let how = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        nix::fcntl::open(directory, how, Mode::empty())
            .map(Some)
            .map_err(|errno| Error::call("open the cgroup", format!("open({})", directory.display()), errno))
    }

    /// Moves the calling process in.
    pub fn enter(&self) -> Result<()> {
        const WHY: &str = "enter the cgroup: 0 is the writer itself";
        match self {
            Cgroups::None => Ok(()),
            Cgroups::V1(trees) => {
                trees.iter().try_for_each(|tree| sys::write_file(WHY, &tree.directory.join("tasks"), "0"))
            }
            Cgroups::V2(directory) => sys::write_file(WHY, &directory.join("cgroup.procs"), "0"),
        }
    }

    /// Is the container paused?
    pub fn is_frozen(&self) -> bool {
        match self {
            Cgroups::None => false,
            Cgroups::V1(_) => self.directory("freezer").is_some_and(|directory| {
                let state = sys::read_file(&directory.join("freezer.state")).unwrap_or_default();
                matches!(state.trim(), "FROZEN" | "FREEZING")
            }),
            Cgroups::V2(directory) => {
                sys::read_file(&directory.join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")
            }
        }
    }

    /// Stops all its processes, or lets them go on.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let why = if frozen { "stop all processes" } else { "let all processes go on" };
        match self {
            Cgroups::None => Err(Error::new(why, "the container has no cgroup")),
            Cgroups::V1(_) => {
                let directory = self
                    .directory("freezer")
                    .ok_or_else(|| Error::new(why, "the freezer controller is not there"))?;
                let file = directory.join("freezer.state");
                sys::write_file(why, &file, if frozen { "FROZEN" } else { "THAWED" })?;
                // Version 1 may need to be asked more than once, when processes are being born meanwhile.
                let mut tries = 0;
                while frozen
                    && tries < 1000
                    && sys::read_file(&file).is_ok_and(|text| text.trim() == "FREEZING")
                {
                    std::thread::sleep(std::time::Duration::from_micros(500));
                    sys::write_file(why, &file, "FROZEN")?;
                    tries += 1;
                }
                Ok(())
            }
            Cgroups::V2(directory) => {
                sys::write_file(why, &directory.join("cgroup.freeze"), if frozen { "1" } else { "0" })
            }
        }
    }

    /// The processes in it and below.
    pub fn processes(&self) -> Vec<Pid> {
        let directory = match self {
            Cgroups::None => None,
            Cgroups::V1(trees) => {
                let with = |name: &str| self.directory(name);
                ["pids", "devices", "freezer"]
                    .into_iter()
                    .find_map(with)
                    .or(trees.first().map(|tree| tree.directory.as_path()))
            }
            Cgroups::V2(directory) => Some(directory.as_path()),
        };
        let mut found = Vec::new();
        if let Some(directory) = directory {
            collect(directory, &mut found);
        }
        found.sort();
        found.dedup();
        found
    }

    /// Sends a signal to all of them. Returns who they were.
    pub fn signal(&self, signal: i32) -> Vec<Pid> {
        let all = self.processes();
        for pid in &all {
            // SAFETY: numbers are all that it takes. (nix knows no signal that has only a number.)
            unsafe { libc::kill(pid.as_raw(), signal) };
        }
        all
    }

    /// Removes them, with all that is in them.
    pub fn destroy(&self) -> Result<()> {
        self.directories().into_iter().try_for_each(cgroup::destroy)
    }

    /// Removes those in which nothing is.
    fn remove_empty(&self) {
        for directory in self.directories() {
            let _ = fs::remove_dir(directory);
        }
    }
}

fn is_top(point: &Path, directory: &Path) -> bool {
    directory.components().eq(point.components())
}

fn collect(directory: &Path, found: &mut Vec<Pid>) {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid > 0).map(Pid::from_raw));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
}

fn make_directories(point: &Path, directory: &Path) -> Result<()> {
    if !directory.starts_with(point) {
        return Err(wrong("linux.cgroupsPath", "it leads out of the hierarchy"));
    }
    fs::create_dir_all(directory).map_err(|error| Error::io("make a cgroup", directory, &error))
}

/// A cpuset of version 1 begins empty, and takes no process as long as it is.
fn inherit_cpuset(tree: &Tree) -> Result<()> {
    if !tree.controllers.iter().any(|name| name == "cpuset") {
        return Ok(());
    }
    let mut path = tree.point.clone();
    let below = tree.directory.strip_prefix(&tree.point).unwrap_or(Path::new(""));
    for part in below.components() {
        let above = path.clone();
        path.push(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let read = |directory: &Path| sys::read_file(&directory.join(file)).unwrap_or_default();
            if read(&path).trim().is_empty() {
                let value = read(&above);
                sys::write_file("have the processors of the cgroup above", &path.join(file), value.trim())?;
            }
        }
    }
    Ok(())
}

/// Makes it, and lets it and all between have every controller that there is.
fn make_v2(directory: &Path) -> Result<()> {
    let top = directory.ancestors().skip(1).find(|above| above.is_dir()).unwrap_or(Path::new("/"));
    let mut path = top.to_path_buf();
    for part in directory.strip_prefix(top).unwrap_or(Path::new("")).components() {
        let offered = words(&path.join("cgroup.controllers"));
        let names: Vec<&str> = offered.iter().map(String::as_str).collect();
        V2::offer(&path, &names)?;
        path.push(part);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io("make a cgroup", &path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn words(file: &Path) -> Vec<String> {
    sys::read_file(file).unwrap_or_default().split_whitespace().map(str::to_string).collect()
}
