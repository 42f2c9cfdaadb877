//! `create`: the first of the five commands. After it there is a container, and nothing in it runs but a process that waits.

use std::convert::Infallible;
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command as Program;

use cooperage::container::console::Console;
use cooperage::container::net::netlink::{Message, Netlink};
use cooperage::container::power::exe;
use cooperage::container::power::paths::make_root_read_only;
use cooperage::container::process::{Newborn, Parent, bear};
use cooperage::container::sys::{self, CloneFlags};
use cooperage::container::user::map::{Extent, Map};
use cooperage::container::user::{Mode, User};
use cooperage::told::errors::{Error, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use oci_spec::runtime::{Hooks, Linux, LinuxIdMapping, LinuxNamespaceType};

use crate::bundle::Bundle;
use crate::cgroups::Cgroups;
use crate::cli::{Global, Making};
use crate::command::Command;
use crate::idmaps::{self, Mapped};
use crate::mounts::{self, Surroundings};
use crate::namespaces::{CLONE_NEWTIME, Namespaces};
use crate::record::{Place, Record, Status, born};
use crate::systemd::{self, Scope};
use crate::{devices, hooks, paths, root, start};

/// A container that was created.
pub struct Created {
    /// Its place.
    pub place: Place,
    /// What is known of it.
    pub record: Record,
    /// Its first process.
    pub newborn: Newborn,
}

/// What has been made so far. If it is not finished, nothing of it stays.
struct Unfinished<'a> {
    place: &'a Place,
    cgroups: Cgroups,
    pid: Option<Pid>,
    undoing: Option<(Hooks, serde_json::Value)>,
    finished: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if let Some(pid) = self.pid {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(pid, None);
        }
        let _ = self.cgroups.destroy();
        let _ = self.place.remove();
        // What other hooks have made is theirs to undo, and they learn of the end by these.
        if let Some((all, state)) = &self.undoing {
            hooks::run_all("poststop", all.poststop(), state, |_| {});
        }
    }
}

// ANCHOR: create
/// Makes a container of a bundle. The console is the one that it gets if it is to have one.
pub fn create(
    global: &Global,
    making: &Making,
    id: &str,
    bundle: &Bundle,
    console: &Console,
) -> Result<Created> {
    let process =
        bundle.spec.process().as_ref().ok_or_else(|| crate::bundle::wrong("process", "it is not there"))?;
    let namespaces = Namespaces::of(&bundle.linux)?;
    paths::check_sysctls(bundle, &namespaces)?;
    let mut command = Command::new(process, &bundle.linux, making.preserve_fds, handed_on())?;
    let mapped = idmaps::of(bundle, &namespaces)?;

    let place = Place::claim(global, id)?;
    let mut unfinished =
        Unfinished { place: &place, cgroups: Cgroups::None, pid: None, undoing: None, finished: false };
    let resources = bundle.linux.resources().as_ref();
    let scope = Scope::of(global, id, bundle.linux.cgroups_path().as_deref())?;
    let cgroups = match &scope {
        Some(_) => Cgroups::None, // systemd takes in a process that is there
        None => Cgroups::find(global, id, bundle.linux.cgroups_path().as_deref())?,
    };
    cgroups.check_free()?;
    // Noted before they are made: whatever happens, it is known what is to be removed.
    let mut record = Record::new(id, bundle, cgroups.clone(), namespaces.has_new(CloneFlags::CLONE_NEWPID));
    record.scope = scope.as_ref().map(|scope| scope.unit.clone());
    place.write(&record)?;
    place.keep_config(&bundle.text)?;
    unfinished.cgroups = cgroups.clone();
    let cgroups = cgroups.create(global, resources)?;
    record.cgroups = cgroups.clone();
    if let Some(resources) = resources {
        cgroups.set(resources, is_first())?;
    }
    let gate = place.gate()?;

    let child = Inside {
        id,
        bundle,
        namespaces: &namespaces,
        cgroups: &cgroups,
        mapped: &mapped,
        making,
        console,
        by_systemd: scope.is_some(),
    };
    let half = |parent: &Parent| {
        place.leave_to_maker()?;
        child.live(parent, &mut command, gate)
    };
    let mut newborn = bear(cgroups.open()?, namespaces.at_birth(), half)?;
    unfinished.pid = Some(newborn.pid());

    newborn.until_arrival()?;
    unfinished.pid = Some(newborn.pid());
    if let Some(scope) = &scope {
        record.cgroups = scope.start(global, newborn.pid(), resources)?;
        unfinished.cgroups = record.cgroups.clone();
        if let Some(resources) = resources {
            record.cgroups.set(resources, is_first())?;
        }
    }
    write_maps(newborn.pid(), bundle, &namespaces)?;
    command.set_limits(newborn.pid())?;
    paths::set_oom_score(newborn.pid(), command.oom_score)?;
    record.pid = newborn.pid().as_raw();
    record.born = born(record.pid).unwrap_or(0);
    place.write(&record)?;
    newborn.release();

    newborn.until_arrival()?;
    let state = record.state(Status::Creating);
    if let Some(all) = bundle.spec.hooks() {
        unfinished.undoing = Some((all.clone(), record.state(Status::Stopped)));
        #[allow(deprecated)]
        hooks::run("prestart", all.prestart(), &state)?;
        hooks::run("createRuntime", all.create_runtime(), &state)?;
    }
    newborn.release();

    newborn.until_arrival()?;
    if let Some(file) = &making.pid_file {
        write_pid(file, newborn.pid())?;
    }
    place.show_gate()?;
    unfinished.finished = true;
    drop(unfinished);
    Ok(Created { place, record, newborn })
}
// ANCHOR_END: create

/// Before anything is opened: has the runtime begin once more from where nobody in the container can write to its program. An image can have it run inside, as
/// /proc/self/exe, and then hold on to the file (CVE-2019-5736). Where the container's users are all strangers to the host, the owner
/// of the file is none of them.
pub fn keep_out_of_reach(linux: &Linux) -> Result<()> {
    let own = geteuid().as_raw();
    let mut new = false;
    for namespace in linux.namespaces().iter().flatten() {
        new |= namespace.typ() == LinuxNamespaceType::User && namespace.path().is_none();
    }
    let is_own =
        |one: &LinuxIdMapping| own.checked_sub(one.host_id()).is_some_and(|offset| offset < one.size());
    if new && !linux.uid_mappings().iter().flatten().any(is_own) {
        return Ok(());
    }
    if geteuid().is_root() { exe::keep_out_of_reach(Mode::Host) } else { exe::keep_own_out_of_reach() }
}

/// What the child's half needs to know.
struct Inside<'a> {
    id: &'a str,
    bundle: &'a Bundle,
    namespaces: &'a Namespaces,
    cgroups: &'a Cgroups,
    mapped: &'a Mapped,
    making: &'a Making,
    console: &'a Console,
    by_systemd: bool,
}

/// Why a process in the container is not dumpable before it is the command.
pub const OUT_OF_REACH: &str = "let nobody follow /proc/PID/exe to the runtime's own program";

impl Inside<'_> {
    // ANCHOR: create-inside
    /// The child's half.
    fn live(&self, parent: &Parent, command: &mut Command, gate: OwnedFd) -> Result<Infallible> {
        let (bundle, namespaces) = (self.bundle, self.namespaces);
        // Not before the maps are written, where nobody else can be there: what belongs to a process that is not dumpable is root's.
        if namespaces.has_others() {
            sys::set_not_dumpable(OUT_OF_REACH)?;
        }
        if !parent.born_in_cgroup() {
            self.cgroups.enter()?;
        }
        namespaces.enter(parent)?;
        parent.report_arrival();
        parent.until_released()?;

        if namespaces.has(CloneFlags::CLONE_NEWUSER) {
            User::root().become_it()?;
        }
        sys::set_not_dumpable(OUT_OF_REACH)?;
        if !self.making.no_new_keyring {
            cooperage::container::user::keys::leave_keyring()?;
        }
        let cgroups_of_scope = self.by_systemd.then(|| systemd::directory_of("self")).transpose()?;
        if namespaces.has_new(CloneFlags::CLONE_NEWCGROUP) {
            sys::unshare("see this cgroup as the root of all cgroups", CloneFlags::CLONE_NEWCGROUP)?;
        }
        if namespaces.has_new(CLONE_NEWTIME) {
            set_clocks(bundle, namespaces.has_others())?;
        }
        if namespaces.has_new(CloneFlags::CLONE_NEWNET) {
            let netlink = Netlink::open("ask the kernel for changes to the container's own network")?;
            netlink.send("switch on its loopback", &[Message::up("lo")])?;
        }
        let root = root::take(bundle)?;
        let own_cgroups = namespaces.has(CloneFlags::CLONE_NEWCGROUP);
        let cgroups = match cgroups_of_scope {
            Some(directory) => &Cgroups::V2(directory),
            None => self.cgroups,
        };
        let around = Surroundings { bundle, cgroups, own_cgroups, mapped: self.mapped };
        let later = mounts::all(&root, &around)?;
        devices::make(&root, bundle)?;
        if self.console.is_own() {
            self.console.open(&root, Some(command.user()))?;
            set_size(bundle);
        } else {
            sys::setsid("begin a session of its own: nobody outside is in it")?;
        }
        parent.report_arrival();
        parent.until_released()?;

        // While the machine's /proc is still there: the number that others know it by.
        let number = fs::File::open("/proc").ok().and_then(number_in);
        if let Some(all) = bundle.spec.hooks() {
            let state = own_state(self.id, bundle, Status::Creating, std::process::id());
            hooks::run("createContainer", all.create_container(), &state)?;
        }
        mounts::make_read_only(later)?;
        paths::set_names(bundle)?;
        paths::set_sysctls(&root, bundle)?;
        paths::make_read_only(&root, bundle)?;
        paths::mask(&root, bundle)?;
        root::enter(&root, bundle, self.making.no_pivot)?;
        drop(root);
        command.make_directory()?;
        if bundle.spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
            make_root_read_only()?;
        }
        let program = command.find_program()?;
        parent.report_arrival();

        start::wait_to_be_started(gate, || {
            if let Some(all) = bundle.spec.hooks() {
                let state = own_state(self.id, bundle, Status::Created, std::process::id());
                hooks::run("startContainer", all.start_container(), &state)?;
            }
            let state = own_state(self.id, bundle, Status::Created, number.unwrap_or(0));
            command.become_it(&program, number, &state)
        })
    }
    // ANCHOR_END: create-inside
}

/// How many open files a service manager has handed on. See sd_listen_fds(3).
fn handed_on() -> u32 {
    std::env::var("LISTEN_FDS").ok().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The state, told from inside: hooks there are told the number that the process has there.
fn own_state(id: &str, bundle: &Bundle, status: Status, pid: u32) -> serde_json::Value {
    serde_json::json!({
        "ociVersion": bundle.spec.version(),
        "id": id,
        "status": status.word(),
        "pid": pid,
        "bundle": bundle.directory,
        "annotations": bundle.spec.annotations().clone().unwrap_or_default(),
    })
}

/// The number that this process has in the PID namespace that this /proc belongs to.
pub fn number_in(proc: impl AsFd) -> Option<u32> {
    nix::fcntl::readlinkat(proc, "self").ok()?.to_str()?.parse().ok()
}

fn is_first() -> bool {
    geteuid().is_root() && cooperage::container::user::in_first_user_namespace().unwrap_or(false)
}

/// Says who the container's users are outside. Root writes the maps itself. An ordinary user may map nobody but himself, or has two
/// programs of root's do it, newuidmap(1) and newgidmap(1), which look into /etc/subuid.
fn write_maps(pid: Pid, bundle: &Bundle, namespaces: &Namespaces) -> Result<()> {
    if !namespaces.has_new(CloneFlags::CLONE_NEWUSER) {
        return Ok(());
    }
    let (uids, gids) = (bundle.linux.uid_mappings(), bundle.linux.gid_mappings());
    let [uids, gids] = [uids, gids].map(|list| idmaps::map(list.as_deref().unwrap_or_default()));
    let file = |name: &str| format!("/proc/{pid}/{name}");
    let write = |name: &str, text: &str| {
        sys::write_file("say who is who", Path::new(&file(name)), text)
            .map_err(|error| error.detail(format!("the mapping is {}", text.trim())))
    };
    if geteuid().is_root() {
        write("uid_map", &uids.text())?;
        return write("gid_map", &gids.text());
    }
    let is_oneself =
        |map: &Map, own: u32| matches!(map.0[..], [Extent { outside, count: 1, .. }] if outside == own);
    if is_oneself(&uids, geteuid().as_raw()) && is_oneself(&gids, nix::unistd::getegid().as_raw()) {
        write("uid_map", &uids.text())?;
        write("setgroups", "deny")?;
        return write("gid_map", &gids.text());
    }
    for (program, map) in [("newuidmap", &uids), ("newgidmap", &gids)] {
        let step = format!("have {program} say who is who");
        let numbers = map.0.iter().flat_map(|one| [one.inside, one.outside, one.count]);
        let output = Program::new(program)
            .arg(pid.to_string())
            .args(numbers.map(|number| number.to_string()))
            .output()
            .map_err(|error| Error::io(&step, program, &error))?;
        if !output.status.success() {
            return Err(Error::new(step, String::from_utf8_lossy(&output.stderr).trim()));
        }
    }
    Ok(())
}

/// A time namespace is entered by execve(2), and its clocks are set before that.
fn set_clocks(bundle: &Bundle, watched: bool) -> Result<()> {
    sys::unshare("have clocks of its own", CLONE_NEWTIME)?;
    let Some(offsets) = bundle.linux.time_offsets() else { return Ok(()) };
    let text: String = offsets
        .iter()
        .map(|(clock, offset)| {
            format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0))
        })
        .collect();
    // The file is root's as long as this process is not dumpable. In namespaces that are all new nobody is there to make use of it.
    if !watched {
        nix::sys::prctl::set_dumpable(true)
            .map_err(|errno| Error::call("set linux.timeOffsets", "prctl(PR_SET_DUMPABLE)", errno))?;
    }
    sys::write_file("set linux.timeOffsets", Path::new("/proc/self/timens_offsets"), text)?;
    sys::set_not_dumpable(OUT_OF_REACH)
}

fn set_size(bundle: &Bundle) {
    let Some(size) = bundle.spec.process().as_ref().and_then(|process| process.console_size()) else {
        return;
    };
    let size = libc::winsize {
        ws_row: size.height() as u16,
        ws_col: size.width() as u16,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the size outlives the call. A terminal without a size is no failure.
    unsafe { libc::ioctl(0, libc::TIOCSWINSZ, &raw const size) };
}

/// Writes a number where a client waits for it: a file that is there whole, or not at all.
pub fn write_pid(file: &Path, pid: Pid) -> Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let new = file.with_file_name(format!(".{name}.{}", std::process::id()));
    fs::File::create(&new)
        .and_then(|mut opened| opened.write_all(pid.to_string().as_bytes()))
        .and_then(|()| fs::rename(&new, file))
        .map_err(|error| Error::io("write the pid file", file, &error))
}

/// The terminal that goes to whoever listens at the socket.
pub fn console(terminal: bool, socket: Option<&Path>) -> Result<Option<Console>> {
    const STEP: &str = "find out where the terminal goes";
    match (terminal, socket) {
        (true, Some(path)) => {
            let socket = UnixStream::connect(path).map_err(|error| Error::io(STEP, path, &error))?;
            Ok(Some(Console::for_other(socket.into())))
        }
        (false, Some(_)) => {
            Err(Error::new(STEP, "there is a --console-socket, and process.terminal is not true"))
        }
        (false, None) => Ok(Some(Console::shared())),
        (true, None) => Ok(None),
    }
}
