//! Bundles, and the runtime that is told about them.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use cooperage::workshop::rootfs::{self, Rootfs};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Gid, Uid, chown};
use serde_json::{Value, json};

use crate::support::Who;
use crate::support::run::{Host, NOBODY, code, eventually, program, real_root};

/// The root directory that bundles share unless they have one of their own.
pub const ROOTFS: &str = "/tmp/rootfs";

/// The runtime, to be told something.
pub fn runtime(who: Who) -> Command {
    program("chapter10", who)
}

/// What a command has said. A container keeps what it inherits of its runtime, so these are files and no pipes: nobody waits for
/// their end.
pub struct Said {
    pub status: i32,
    pub out: String,
    pub err: String,
    out_file: File,
    err_file: File,
}

impl Said {
    /// What is there by now: what the container says comes later.
    pub fn out_now(&self) -> String {
        read(&self.out_file)
    }

    /// The same of stderr.
    pub fn err_now(&self) -> String {
        read(&self.err_file)
    }

    /// It must have worked, without a word of complaint.
    #[track_caller]
    pub fn good(self) -> Said {
        assert_eq!((self.status, self.err.as_str()), (0, ""), "{}", self.out);
        self
    }

    /// It must have failed with this status, and with these words in what it says.
    #[track_caller]
    pub fn bad(self, status: i32, words: &str) -> Said {
        assert!(
            self.status == status && self.err.contains(words),
            "status {} and not {status}, or no {words:?} in: {}{}",
            self.status,
            self.err,
            self.out
        );
        self
    }
}

fn memory() -> File {
    memfd_create(c"said", MFdFlags::MFD_CLOEXEC).expect("memory").into()
}

fn read(file: &File) -> String {
    // Not this file's own place in it: the writer shares that.
    let mut file =
        File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file))).expect("open");
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes)).expect("readable");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs any command line of the runtime to its end, which may not be the container's.
pub fn say(command: &mut Command) -> Said {
    let (out_file, err_file) = (memory(), memory());
    command.stdout(out_file.try_clone().expect("a copy")).stderr(err_file.try_clone().expect("a copy"));
    let status = command.status().expect("the runtime starts");
    Said { status: code(status), out: read(&out_file), err: read(&err_file), out_file, err_file }
}

/// `chapter10 ARGUMENT...`
pub fn oci(who: Who, arguments: &[&str]) -> Said {
    say(runtime(who).args(arguments))
}

/// A bundle: config.json as a value to be changed, and where it is written.
pub struct Bundle {
    pub who: Who,
    pub directory: PathBuf,
    pub config: Value,
}

impl Bundle {
    /// A bundle that runs this command, as `chapter10 spec` has it otherwise: without a terminal, and with a root directory that can be
    /// written to.
    pub fn new(who: Who, name: &str, arguments: &[&str]) -> Bundle {
        shared_rootfs(who);
        let directory = Path::new("/tmp/bundles").join(name);
        fs::create_dir_all(&directory).expect("the lab's /tmp is writable");
        give(&directory, who);
        let _ = fs::remove_file(directory.join("config.json"));
        let rootless = if who == Who::User { &["--rootless"][..] } else { &[] };
        say(runtime(who).args(["spec", "--bundle"]).arg(&directory).args(rootless)).good();
        let text = fs::read(directory.join("config.json")).expect("spec has written it");
        let mut config: Value = serde_json::from_slice(&text).expect("JSON");
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(arguments);
        config["root"] = json!({"path": ROOTFS});
        Bundle { who, directory, config }.write()
    }

    /// One whose command is a script of the container's shell.
    pub fn sh(who: Who, name: &str, script: &str) -> Bundle {
        Bundle::new(who, name, &["/bin/sh", "-c", script])
    }

    /// One that does nothing until it is killed.
    pub fn idle(who: Who, name: &str) -> Bundle {
        Bundle::new(who, name, &["/bin/sleep", "1000"])
    }

    /// Its own root directory, a copy that may be spoiled.
    pub fn own_rootfs(self) -> Bundle {
        let to = self.rootfs();
        fs::create_dir(&to).expect("new");
        rootfs::copy(Path::new(ROOTFS), &to).expect("a copy");
        give(&to, self.who);
        self.set("/root/path", json!("rootfs"))
    }

    /// Where its own root directory is.
    pub fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// Changes a field, which need not be there: `/linux/sysctl`.
    pub fn set(mut self, pointer: &str, value: Value) -> Bundle {
        let (above, name) = pointer.rsplit_once('/').expect("a pointer begins with /");
        let above = self.config.pointer_mut(above).unwrap_or_else(|| panic!("there is no {above}"));
        match (above, name.parse::<usize>()) {
            (Value::Array(list), Ok(index)) => list[index] = value,
            (above, _) => above[name] = value,
        }
        self.write()
    }

    /// Takes a field away.
    pub fn without(mut self, pointer: &str) -> Bundle {
        let (above, name) = pointer.rsplit_once('/').expect("a pointer begins with /");
        let above = self.config.pointer_mut(above).and_then(Value::as_object_mut).expect("an object");
        above.remove(name).unwrap_or_else(|| panic!("there is no {pointer}"));
        self.write()
    }

    /// Adds to a list, which need not be there.
    pub fn add(mut self, pointer: &str, value: Value) -> Bundle {
        if self.config.pointer(pointer).is_none() {
            self = self.set(pointer, json!([]));
        }
        self.config.pointer_mut(pointer).and_then(Value::as_array_mut).expect("a list").push(value);
        self.write()
    }

    /// Adds a mount.
    pub fn mount(self, source: &str, destination: &str, kind: &str, options: &[&str]) -> Bundle {
        self.add(
            "/mounts",
            json!({"destination": destination, "type": kind, "source": source, "options": options}),
        )
    }

    /// Leaves a mount out.
    pub fn without_mount(mut self, destination: &str) -> Bundle {
        let all = self.config["mounts"].as_array_mut().expect("a list");
        let before = all.len();
        all.retain(|mount| mount["destination"] != destination);
        assert!(all.len() < before, "nothing was mounted on {destination}");
        self.write()
    }

    /// A namespace: new, or the one at this path.
    pub fn namespace(mut self, kind: &str, path: Option<&str>) -> Bundle {
        self = self.without_namespace(kind);
        let mut entry = json!({"type": kind});
        if let Some(path) = path {
            entry["path"] = json!(path);
        }
        self.add("/linux/namespaces", entry)
    }

    /// Without one of this kind.
    pub fn without_namespace(mut self, kind: &str) -> Bundle {
        let all = self.config["linux"]["namespaces"].as_array_mut().expect("a list");
        all.retain(|namespace| namespace["type"] != kind);
        self.write()
    }

    /// Root's container with users of its own, as 100000 and up.
    pub fn own_users(self) -> Bundle {
        self.namespace("user", None)
            .set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]))
            .set("/linux/gidMappings", json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]))
    }

    /// Writes config.json.
    pub fn write(self) -> Bundle {
        let file = self.directory.join("config.json");
        fs::write(&file, self.config.to_string()).expect("writable");
        give(&file, self.who);
        self
    }

    /// A command line with this bundle: `create` or `run`.
    pub fn command(&self, command: &str, options: &[&str], id: &str) -> Command {
        let mut line = runtime(self.who);
        line.args([command, "--bundle"]).arg(&self.directory).args(options).arg(id);
        line
    }

    /// `create`
    pub fn create(&self, id: &str) -> Said {
        say(&mut self.command("create", &[], id))
    }

    /// `run`, with its end.
    pub fn run(&self, id: &str) -> Said {
        say(&mut self.command("run", &[], id))
    }

    /// What its command says, which must end well.
    #[track_caller]
    pub fn says(&self, id: &str) -> String {
        self.run(id).good().out
    }

    /// `run --detach`: it runs when this returns.
    #[track_caller]
    pub fn up(&self, id: &str) -> Up {
        let said = say(&mut self.command("run", &["--detach"], id)).good();
        Up { who: self.who, id: id.to_string(), said }
    }
}

/// A container that runs until this goes.
pub struct Up {
    pub who: Who,
    pub id: String,
    pub said: Said,
}

impl Up {
    /// The host's number of its first process.
    pub fn pid(&self) -> i32 {
        pid(self.who, &self.id)
    }

    /// What a script says that is run in it.
    #[track_caller]
    pub fn says(&self, script: &str) -> String {
        oci(self.who, &["exec", &self.id, "/bin/sh", "-c", script]).good().out
    }

    /// Waits until it has said this.
    pub fn until(&self, words: &str) {
        eventually(words, || self.said.out_now().contains(words));
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = oci(self.who, &["delete", "--force", &self.id]);
    }
}

/// The state of a container.
#[track_caller]
pub fn state(who: Who, id: &str) -> Value {
    let said = oci(who, &["state", id]).good();
    serde_json::from_str(&said.out).expect("JSON")
}

/// Its status.
#[track_caller]
pub fn status(who: Who, id: &str) -> String {
    state(who, id)["status"].as_str().expect("a text").to_string()
}

/// The number of its first process.
#[track_caller]
pub fn pid(who: Who, id: &str) -> i32 {
    state(who, id)["pid"].as_i64().expect("a number") as i32
}

/// Waits until its process has ended.
pub fn until_stopped(who: Who, id: &str) {
    eventually("its end", || status(who, id) == "stopped");
}

/// Runs something that must leave nothing behind.
#[track_caller]
pub fn leaves_nothing<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let before = Host::now();
    let result = work();
    let mut tries = 0;
    // A process that was killed may need a moment.
    while Host::now() != before && tries < 100 {
        std::thread::sleep(std::time::Duration::from_millis(10));
        tries += 1;
    }
    Host::now().must_be(&before, what);
    result
}

/// The root directory that bundles share: a copy in the lab.
fn shared_rootfs(who: Who) {
    if Path::new(ROOTFS).exists() {
        return;
    }
    let machines = Rootfs::find(None).expect("a rootfs");
    fs::create_dir(ROOTFS).expect("the lab's /tmp is writable");
    rootfs::copy(machines.path(), Path::new(ROOTFS)).expect("a copy");
    if who == Who::User && real_root() {
        let done = Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}"), ROOTFS]).status();
        assert!(done.expect("chown").success());
    }
    // Where the notes are: it stays.
    oci(who, &["list"]).good();
}

/// Gives a file to the user.
pub fn give(path: &Path, who: Who) {
    if who == Who::User && real_root() {
        chown(path, Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY))).expect("chown");
    }
}
