//! The lab, seen from the machine: its worst inhabitant cannot be noticed outside.

#![allow(clippy::panic)] // that is how a test fails

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::{Case, ROOT};

fn main() -> std::process::ExitCode {
    support::on_the_machine(vec![
        Case::new("worst_inhabitant_is_not_noticed", ROOT, |_| worst_inhabitant_is_not_noticed())
            .needs(&["program-ip"]),
        Case::new("killed_lab_leaves_no_process", ROOT, |_| killed_lab_leaves_no_process()),
        Case::new("lab_keeps_the_working_directory", ROOT, |_| lab_keeps_the_working_directory()),
        Case::new("lab_gives_the_commands_status", ROOT, |_| lab_gives_the_commands_status()),
    ])
}

/// Everything that a process with all rights could think of. Each line may fail; none may be seen outside.
const WORST: &str = r#"
cp "$(command -v sleep)" /tmp/coopdaemon
setsid /tmp/coopdaemon 1000 &
(setsid /tmp/coopdaemon 1000 &)
for d in / /etc /usr /bin /lib /var /home /root /opt /srv /boot /dev /sys /proc /run /tmp /mnt; do
    touch $d/coopevil; mkdir $d/coopevildir; echo evil > $d/coopevil2
done
echo evil >> /etc/passwd; echo evil >> /etc/hosts; rm -f /etc/hostname; chmod 777 /etc/shadow
echo evil >> "$HOME/.bashrc"; rm -rf "$HOME/.coopevil"
mount -t tmpfs evil /etc; mount -t tmpfs evil /usr/share; mount --bind /tmp /var; mount --make-rshared /
mount -t tmpfs evil /sys/fs/cgroup/x; mount -t tmpfs evil / ; umount -l /boot; umount -l /home
ip link add coopevil0 type bridge; ip link add coopevil1 type veth peer name coopevil2; ip link set lo down
hostname coopevil; ipcmk -M 4096; ipcmk -Q; echo evil > /dev/shm/coopevil
find /sys/fs/cgroup -maxdepth 1 -mindepth 1 -type d | while read d; do
    mkdir $d/coopevil $d/coopevil/below
    echo $$ > $d/coopevil/below/cgroup.procs
done
mkdir /sys/fs/cgroup/freezer/coopfrozen && sh -c 'echo 0 > /sys/fs/cgroup/freezer/coopfrozen/tasks; exec /tmp/coopdaemon 1000' &
sleep 0.2; echo FROZEN > /sys/fs/cgroup/freezer/coopfrozen/freezer.state
mknod /tmp/disk b $(stat -c '%Hd %Ld' . 2>/dev/null || echo 254 0) && head -c 1 /tmp/disk && echo the disk can be read
kill -9 -1
"#;

#[derive(Debug, PartialEq, Eq)]
struct Machine {
    mounts: String,
    links: Vec<String>,
    cgroups: Vec<PathBuf>,
    daemons: usize,
    hostname: String,
    files: BTreeMap<PathBuf, u64>,
    ipc: Vec<String>,
}

impl Machine {
    fn now(trees: &[&Path]) -> Machine {
        let mut cgroups = Vec::new();
        walk(Path::new("/sys/fs/cgroup"), &mut |path, is_directory| {
            if is_directory {
                cgroups.push(path.to_path_buf());
            }
        });
        let mut files = BTreeMap::new();
        for tree in trees {
            walk(tree, &mut |path, _| {
                let mut hasher = DefaultHasher::new();
                fs::read(path).unwrap_or_default().hash(&mut hasher);
                fs::symlink_metadata(path)
                    .map(|found| format!("{:?}", found.permissions()))
                    .ok()
                    .hash(&mut hasher);
                files.insert(path.to_path_buf(), hasher.finish());
            });
        }
        for directory in ["/", "/tmp", "/var", "/dev/shm"] {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().contains("coopevil") {
                    files.insert(entry.path(), 0);
                }
            }
        }
        Machine {
            mounts: fs::read_to_string("/proc/self/mountinfo").expect("readable"),
            links: support::run::links(),
            cgroups,
            daemons: support::run::processes().iter().filter(|name| *name == "coopdaemon").count(),
            hostname: nix::unistd::gethostname().expect("a name").to_string_lossy().into_owned(),
            files,
            ipc: ["shm", "sem", "msg"]
                .map(|kind| fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap_or_default())
                .to_vec(),
        }
    }
}

fn walk(directory: &Path, found: &mut dyn FnMut(&Path, bool)) {
    let mut entries: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().collect();
    entries.sort_by_key(|entry| entry.path());
    for entry in entries {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        found(&entry.path(), is_directory);
        if is_directory {
            walk(&entry.path(), found);
        }
    }
}

fn lab(place: &Path) -> Command {
    let mut command = Command::new(support::built().join("lab"));
    command.current_dir(place).stdin(Stdio::null());
    command
}

/// A directory below target/; or elsewhere, where that is another user's.
fn place() -> tempfile::TempDir {
    let below = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"));
    below.or_else(|_| tempfile::tempdir()).expect("a temporary directory")
}

/// Clears up what runtimes left that were killed before this test: it is not to be seen going.
fn sweep(place: &Path) {
    assert!(lab(place).args(["--", "true"]).status().expect("the lab starts").success());
}

fn worst_inhabitant_is_not_noticed() {
    let place = place();
    sweep(place.path());
    let source = support::repository().join("src");
    let trees = [Path::new("/etc"), source.as_path()];
    let before = Machine::now(&trees);
    let Output { status, stdout, .. } =
        lab(place.path()).args(["--", "sh", "-c", WORST]).output().expect("the lab starts");
    let said = String::from_utf8_lossy(&stdout).into_owned();
    assert!(!said.contains("the disk can be read"), "{said}");
    // Its shell killed everything, itself too; or the lab's end did.
    assert!(status.code().is_some() || status.signal().is_some());
    let after = Machine::now(&trees);
    assert_eq!(before.mounts, after.mounts);
    assert_eq!(before.links, after.links);
    assert_eq!(before.cgroups, after.cgroups);
    assert_eq!(before.hostname, after.hostname);
    assert_eq!(before.ipc, after.ipc);
    assert_eq!(after.daemons, 0, "a daemon outlived the lab");
    let changed: Vec<_> =
        after.files.iter().filter(|(path, hash)| before.files.get(*path) != Some(hash)).collect();
    assert!(changed.is_empty() && before.files.len() == after.files.len(), "{changed:?}");
    // And in it everything did happen: the test is not of an idle lab.
    let Output { stdout, .. } = lab(place.path())
        .args(["--", "sh", "-c", "touch /etc/x 2>/dev/null && echo writable; mount -t tmpfs t /mnt && echo mounted; ip link add b0 type bridge && echo linked; hostname x && hostname"])
        .output()
        .expect("the lab starts");
    assert_eq!(String::from_utf8_lossy(&stdout), "mounted\nlinked\nx\n");
}

fn killed_lab_leaves_no_process() {
    let place = place();
    sweep(place.path());
    let before = Machine::now(&[]);
    for round in 0..5 {
        let script = "cp \"$(command -v sleep)\" /tmp/coopdaemon; (setsid /tmp/coopdaemon 1000 &); exec /tmp/coopdaemon 1000";
        let mut child = lab(place.path()).args(["--", "sh", "-c", script]).spawn().expect("the lab starts");
        std::thread::sleep(Duration::from_millis(20 * round));
        child.kill().expect("it is alive");
        child.wait().expect("it ends");
        let start = Instant::now();
        while support::run::processes().iter().any(|name| name == "coopdaemon") {
            assert!(start.elapsed() < Duration::from_secs(60), "a process outlived the lab");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    // What the kernel does not take away, the next lab does.
    sweep(place.path());
    let after = Machine::now(&[]);
    assert_eq!((before.mounts, before.links, before.cgroups), (after.mounts, after.links, after.cgroups));
}

fn lab_keeps_the_working_directory() {
    let place = place();
    let status =
        lab(place.path()).args(["--", "sh", "-c", "echo kept > file; echo lost > /tmp/file; pwd"]).status();
    assert!(status.expect("it starts").success());
    assert_eq!(fs::read_to_string(place.path().join("file")).expect("it was kept"), "kept\n");
    assert!(
        !Path::new("/tmp/file").exists()
            || fs::read_to_string("/tmp/file").is_ok_and(|text| text != "lost\n")
    );
}

fn lab_gives_the_commands_status() {
    let place = place();
    for (script, status) in [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143), ("exec /no/such", 127)] {
        let ended = lab(place.path()).args(["--", "sh", "-c", script]).stderr(Stdio::null()).status();
        assert_eq!(ended.expect("it starts").code(), Some(status), "{script}");
    }
}
