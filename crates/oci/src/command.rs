//! Becoming the command: everything that config.json's `process` says, in the order in which the kernel takes it.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use cooperage::container::capability::Capability;
use cooperage::container::power::capabilities::{Set, known_to_kernel};
use cooperage::container::power::labels::Label;
use cooperage::container::power::rlimits::Rlimit;
use cooperage::container::process::{PATH, default_signals};
use cooperage::container::seccomp::Filter;
use cooperage::container::seccomp::profile::Profile;
use cooperage::container::sys;
use cooperage::container::user::User;
use cooperage::told::errors::{self, Error, Result};
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, Gid, Pid, Uid};
use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, LinuxSeccomp, LinuxSeccompFilterFlag, MemoryPolicyFlagType, MemoryPolicyModeType,
    Process, Scheduler,
};

use crate::bundle::{check_process, wrong};

/// A process that is to be, checked as far as it can be outside.
pub struct Command {
    arguments: Vec<CString>,
    environment: Vec<String>,
    directory: PathBuf,
    user: User,
    umask: Option<u32>,
    sets: Option<Sets>,
    limits: Vec<Rlimit>,
    no_new_privileges: bool,
    label: Option<Label>,
    filter: Option<Loaded>,
    personality: Option<u64>,
    memory: Option<MemoryPolicy>,
    scheduler: Option<Scheduler>,
    io_priority: Option<i64>,
    /// What it is worth when memory runs out.
    pub oom_score: Option<i32>,
    preserved: u32,
    listening: u32,
}

/// The five sets of capabilities.
#[derive(Debug, Clone, Copy, Default)]
struct Sets {
    bounding: Set,
    effective: Set,
    permitted: Set,
    inheritable: Set,
    ambient: Set,
}

/// Where memory is to come from: mode with flags, and a bit for each node.
struct MemoryPolicy {
    mode: libc::c_int,
    nodes: Vec<u64>,
}

/// A filter, with how it is loaded.
struct Loaded {
    filter: Filter,
    flags: u64,
    listener: Option<(UnixStream, String)>,
}

impl Command {
    /// Reads `process`; what is said in `linux` holds for every process of the container. So many open files are handed on, after those
    /// that a service manager has handed on to the runtime.
    pub fn new(process: &Process, linux: &Linux, preserved: u32, listening: u32) -> Result<Command> {
        check_process(process)?;
        let texts = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let text = |text: String| {
            CString::new(text).map_err(|_| wrong("process.args", "a text in it has a zero byte"))
        };
        let user = process.user();
        let groups = user.additional_gids().iter().flatten().map(|gid| Gid::from_raw(*gid)).collect();
        let limits = process.rlimits().iter().flatten().map(|limit| {
            let name = limit.typ().to_string();
            if limit.soft() > limit.hard() {
                return Err(wrong(
                    format!("process.rlimits: {name}"),
                    "the soft limit is above the hard one",
                ));
            }
            Rlimit::of_kernel(&name, limit.soft(), limit.hard())
                .ok_or_else(|| wrong("process.rlimits", format!("{name} is none that Linux has")))
        });
        Ok(Command {
            arguments: texts(process.args()).into_iter().map(text).collect::<Result<_>>()?,
            environment: texts(process.env()),
            directory: process.cwd().clone(),
            user: User { uid: Uid::from_raw(user.uid()), gid: Gid::from_raw(user.gid()), groups },
            umask: user.umask(),
            sets: sets(process)?,
            limits: limits.collect::<Result<_>>()?,
            no_new_privileges: process.no_new_privileges() == Some(true),
            label: label(process)?,
            filter: linux.seccomp().as_ref().map(load).transpose()?,
            personality: linux.personality().as_ref().map(domain).transpose()?,
            memory: linux.memory_policy().as_ref().map(memory).transpose()?,
            scheduler: process.scheduler().clone(),
            io_priority: process.io_priority().as_ref().map(|priority| {
                let class = match priority.class() {
                    IOPriorityClass::IoprioClassRt => 1,
                    IOPriorityClass::IoprioClassBe => 2,
                    IOPriorityClass::IoprioClassIdle => 3,
                };
                class << 13 | priority.priority()
            }),
            oom_score: process.oom_score_adj(),
            preserved: preserved.saturating_add(listening),
            listening,
        })
    }

    /// The user of the terminal.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Sets the limits of another process: one in a user namespace may not raise them itself.
    pub fn set_limits(&self, pid: Pid) -> Result<()> {
        self.limits.iter().try_for_each(|limit| limit.set_for("set process.rlimits", pid))
    }

    // ANCHOR: command-look
    /// Finds the program, inside, before anything is promised: an error is worth more now than when the container is started.
    /// Clients know the words of the messages, and answer their users 126 or 127.
    pub fn find_program(&self) -> Result<CString> {
        let name = self.arguments[0].to_string_lossy().into_owned();
        let step = "run the command";
        let refused =
            |reason: &str, status| Error::new(step, format!("exec: {name:?}: {reason}")).status(status);
        let may_run = |path: &Path| path.is_file() && nix::unistd::access(path, AccessFlags::X_OK).is_ok();
        if name.contains('/') {
            let path = self.directory.join(&name);
            return match fs::metadata(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    Err(refused(&format!("stat {name}: no such file or directory"), errors::NOT_FOUND))
                }
                Ok(found) if found.is_dir() => Err(refused("is a directory", errors::CANNOT_EXECUTE)),
                Ok(_) if !may_run(&path) => Err(refused("permission denied", errors::CANNOT_EXECUTE)),
                _ => Ok(self.arguments[0].clone()),
            };
        }
        let path =
            self.environment.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(PATH);
        let mut there = false;
        for directory in path.split(':').filter(|directory| !directory.is_empty()) {
            let candidate = self.directory.join(directory).join(&name);
            if may_run(&candidate) {
                return CString::new(candidate.as_os_str().as_bytes())
                    .map_err(|_| refused("zero byte", errors::NOT_FOUND));
            }
            there |= candidate.is_file();
        }
        Err(match there {
            true => refused("permission denied", errors::CANNOT_EXECUTE),
            false => refused("executable file not found in $PATH", errors::NOT_FOUND),
        })
    }
    // ANCHOR_END: command-look

    /// The working directory, made if it is not there: clients count on it.
    pub fn make_directory(&self) -> Result<()> {
        if self.directory.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&self.directory)
            .map_err(|error| Error::io("make process.cwd", &self.directory, &error))
    }

    // ANCHOR: command-become
    /// Becomes the command. It returns only what went wrong.
    ///
    /// The order is that of chapter 9. A limit and the bounding set take rights that go next; the change of the user takes two
    /// rights, and the rest along with it; the filter could forbid any of these calls, and is the last where it may be.
    pub fn become_it(
        &mut self,
        program: &CString,
        number: Option<u32>,
        state: &serde_json::Value,
    ) -> Result<Infallible> {
        self.schedule()?;
        if let Some(domain) = self.personality {
            // SAFETY: a number is all that it takes.
            Errno::result(unsafe { libc::personality(domain) }).map_err(|errno| {
                Error::call("set linux.personality", format!("personality({domain:#x})"), errno)
            })?;
        }
        if let Some(memory) = &self.memory {
            memory.set()?;
        }
        if let Some(label) = &self.label {
            label.set()?;
        }
        if let Some(umask) = self.umask {
            nix::sys::stat::umask(Mode::from_bits_truncate(umask));
        }
        let environment = self.environment()?;
        let inside = self.enter_directory();
        if !self.no_new_privileges {
            self.load_filter(number, state)?;
        }
        if let Some(sets) = &self.sets {
            sets.bound()?;
            sys::keep_capabilities("lose nothing yet by being another user")?;
        }
        self.user.become_it()?;
        if let Some(sets) = &self.sets {
            sets.keep()?;
        }
        // What root could not enter its user may, and the other way round.
        inside.or_else(|_| self.enter_directory())?;
        if self.no_new_privileges {
            sys::set_no_new_privs("let no program that it starts give it more than it has")?;
            self.load_filter(number, state)?;
        }
        default_signals()?;
        let first = 3_u32.saturating_add(self.preserved);
        sys::close_range("leave the command none of the host's open files", first, u32::MAX, true)?;
        let error = sys::execve("become the command", program, &self.arguments, &environment);
        let status = match error.errno() {
            Some(Errno::ENOENT) => errors::NOT_FOUND,
            _ => errors::CANNOT_EXECUTE,
        };
        let reason = error.errno().map_or("", Errno::desc).to_lowercase();
        Err(Error::new("run the command", format!("exec {}: {reason}", program.to_string_lossy()))
            .status(status))
    }
    // ANCHOR_END: command-become

    /// Goes to the working directory, and sees that it is inside (CVE-2024-21626).
    fn enter_directory(&self) -> Result<()> {
        sys::chdir("start in process.cwd", &self.directory)?;
        match nix::unistd::getcwd() {
            Ok(path) if path.starts_with("/") => Ok(()),
            _ => Err(Error::new("start in process.cwd", "it is outside of the container")),
        }
    }

    /// The environment, with a home: programs look for it, and clients leave it to the runtime.
    fn environment(&self) -> Result<Vec<CString>> {
        let mut all = self.environment.clone();
        if !all.iter().any(|variable| variable.starts_with("HOME=")) {
            all.push(format!("HOME={}", home(self.user.uid)));
        }
        if self.listening > 0 {
            all.push(format!("LISTEN_FDS={}", self.listening));
            all.push("LISTEN_PID=1".to_string());
        }
        all.into_iter()
            .map(|text| CString::new(text).map_err(|_| wrong("process.env", "a text in it has a zero byte")))
            .collect()
    }

    fn load_filter(&mut self, number: Option<u32>, state: &serde_json::Value) -> Result<()> {
        let Some(loaded) = &mut self.filter else { return Ok(()) };
        let listener = loaded.filter.load_with(loaded.flags)?;
        if let (Some(fd), Some((socket, metadata))) = (listener, loaded.listener.take()) {
            send_listener(socket, &fd, &metadata, number, state)?;
        }
        Ok(())
    }

    fn schedule(&self) -> Result<()> {
        if let Some(priority) = self.io_priority {
            const IOPRIO_WHO_PROCESS: libc::c_long = 1;
            // SAFETY: numbers are all that it takes.
            Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) })
                .map_err(|errno| {
                    Error::call("set process.ioPriority", format!("ioprio_set({priority:#x})"), errno)
                })?;
        }
        let Some(scheduler) = &self.scheduler else { return Ok(()) };
        let policy = match scheduler.policy() {
            LinuxSchedulerPolicy::SchedOther => 0,
            LinuxSchedulerPolicy::SchedFifo => 1,
            LinuxSchedulerPolicy::SchedRr => 2,
            LinuxSchedulerPolicy::SchedBatch => 3,
            LinuxSchedulerPolicy::SchedIso => 4,
            LinuxSchedulerPolicy::SchedIdle => 5,
            LinuxSchedulerPolicy::SchedDeadline => 6,
        };
        let flags = scheduler.flags().iter().flatten().fold(0_u64, |all, flag| {
            all | match flag {
                LinuxSchedulerFlag::SchedResetOnFork => 0x01,
                LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
                LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
                LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
                LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
                LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
                LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
            }
        });
        // struct sched_attr of sched_setattr(2), in its first version: 48 bytes.
        let nice = scheduler.nice().unwrap_or(0) as u32;
        let attributes = [
            48 | policy << 32,
            flags,
            u64::from(nice) | u64::from(scheduler.priority().unwrap_or(0) as u32) << 32,
            scheduler.runtime().unwrap_or(0),
            scheduler.deadline().unwrap_or(0),
            scheduler.period().unwrap_or(0),
        ];
        // SAFETY: the attributes have the size that they say, and outlive the call.
        Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, attributes.as_ptr(), 0) })
            .map_err(|errno| Error::call("set process.scheduler", "sched_setattr()", errno))
            .map(drop)
    }
}

impl Sets {
    /// The lid first, since that takes a right.
    fn bound(&self) -> Result<()> {
        for capability in known_to_kernel() {
            if !self.bounding.contains(capability) && capability.is_in_bounding_set() {
                capability.drop_from_bounding_set().map_err(|errno| {
                    Error::call(
                        "set process.capabilities",
                        format!("prctl(PR_CAPBSET_DROP, {capability})"),
                        errno,
                    )
                })?;
            }
        }
        Ok(())
    }

    fn keep(&self) -> Result<()> {
        sys::clear_ambient("hand nothing on that was handed on to us")?;
        // What the runtime does not have itself it can't give. It is asked here, inside: an ordinary user has nothing outside, and in
        // his own user namespace everything.
        let own =
            sys::permitted().map_err(|errno| Error::call("see its own capabilities", "capget()", errno))?;
        let [effective, permitted, inheritable] =
            [self.effective, self.permitted, self.inheritable].map(|set| set.0 & own);
        sys::capset("set process.capabilities", effective, permitted, inheritable)?;
        for capability in self.ambient.members() {
            // What is not permitted and inheritable can't be ambient: runc passes over it, too.
            if Set(permitted & inheritable).contains(capability) {
                sys::raise_ambient("set process.capabilities.ambient", capability)?;
            }
        }
        Ok(())
    }
}

fn sets(process: &Process) -> Result<Option<Sets>> {
    let Some(asked) = process.capabilities() else { return Ok(None) };
    // What this kernel does not have is left out, as runc leaves it out with a warning.
    let set = |list: &Option<oci_spec::runtime::Capabilities>| {
        let members = list.iter().flatten().filter_map(|name| {
            let name = format!("CAP_{}", name.to_string().trim_start_matches("CAP_"));
            Capability::KNOWN.iter().copied().find(|known| known.name() == Some(name.as_str()))
        });
        Set::of(members)
    };
    Ok(Some(Sets {
        bounding: set(asked.bounding()),
        effective: set(asked.effective()),
        permitted: set(asked.permitted()),
        inheritable: set(asked.inheritable()),
        ambient: set(asked.ambient()),
    }))
}

fn label(process: &Process) -> Result<Option<Label>> {
    let filled = |text: &&String| !text.is_empty() && *text != "unconfined";
    if let Some(label) = process.selinux_label().as_ref().filter(|label| !label.is_empty()) {
        cooperage::container::power::selinux::is_on()
            .map_err(|error| wrong("process.selinuxLabel", error.reason()))?;
        return Ok(Some(Label::SELinux(label.clone())));
    }
    match process.apparmor_profile().as_ref().filter(filled) {
        Some(profile) => cooperage::container::power::apparmor::chosen(Some(profile))
            .map_err(|error| wrong("process.apparmorProfile", error.reason())),
        None => Ok(None),
    }
}

fn load(seccomp: &LinuxSeccomp) -> Result<Loaded> {
    let text = serde_json::to_string(seccomp).map_err(|error| wrong("linux.seccomp", error.to_string()))?;
    let profile = Profile::parse_for_listener(&text, Set::default())
        .map_err(|error| wrong("linux.seccomp", error.reason()))?;
    let mut flags = seccomp.flags().iter().flatten().fold(0, |all, flag| {
        all | match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 1 << 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => 1 << 1,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 1 << 2,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 1 << 5,
        }
    });
    let mut listener = None;
    if profile.asks() {
        let path = seccomp.listener_path().as_ref().ok_or_else(|| {
            wrong("linux.seccomp.listenerPath", "SCMP_ACT_NOTIFY is used, and there is nobody to ask")
        })?;
        let socket = UnixStream::connect(path)
            .map_err(|error| wrong("linux.seccomp.listenerPath", format!("{}: {error}", path.display())))?;
        listener = Some((socket, seccomp.listener_metadata().clone().unwrap_or_default()));
        flags |= 1 << 3; // SECCOMP_FILTER_FLAG_NEW_LISTENER
        // With it the kernel has another way to say that threads could not be synchronised.
        if flags & 1 != 0 {
            flags |= 1 << 4; // SECCOMP_FILTER_FLAG_TSYNC_ESRCH
        }
    } else if seccomp.listener_metadata().as_ref().is_some_and(|text| !text.is_empty())
        && seccomp.listener_path().is_none()
    {
        return Err(wrong("linux.seccomp.listenerMetadata", "there is no listenerPath"));
    }
    let filter = Filter::new(&profile).map_err(|error| wrong("linux.seccomp", error.reason()))?;
    Ok(Loaded { filter, flags, listener })
}

/// Hands the other program what it is asked through, with what it wants to know of the container. See config-linux.md, "The Container
/// Process State".
fn send_listener(
    mut socket: UnixStream,
    fd: &OwnedFd,
    metadata: &str,
    number: Option<u32>,
    state: &serde_json::Value,
) -> Result<()> {
    use std::io::IoSlice;

    use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
    let message = serde_json::json!({
        "ociVersion": crate::bundle::VERSION,
        "fds": ["seccompFd"],
        "pid": number,
        "metadata": metadata,
        "state": state,
    })
    .to_string();
    let (rights, bytes) = ([fd.as_raw_fd()], message.as_bytes());
    let parts = [IoSlice::new(bytes)];
    let control = [ControlMessage::ScmRights(&rights)];
    let step = "send the seccomp listener";
    let sent = sendmsg::<UnixAddr>(socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), None)
        .map_err(|errno| Error::call(step, "sendmsg()", errno))?;
    socket.write_all(&bytes[sent..]).map_err(|error| Error::io(step, "listenerPath", &error))
}

fn domain(personality: &LinuxPersonality) -> Result<u64> {
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(wrong("linux.personality.flags", "the standard has none"));
    }
    Ok(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

fn memory(policy: &LinuxMemoryPolicy) -> Result<MemoryPolicy> {
    let mode = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let flags = policy.flags().iter().flatten().fold(0, |all, flag| {
        all | match flag {
            MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
            MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        }
    });
    const LARGEST: usize = 4095;
    let mut nodes = Vec::new();
    for node in numbers(policy.nodes().as_deref().unwrap_or_default(), LARGEST)
        .ok_or_else(|| wrong("linux.memoryPolicy.nodes", "write a list such as 0-1,3"))?
    {
        nodes.resize(nodes.len().max(node / 64 + 1), 0_u64);
        nodes[node / 64] |= 1 << (node % 64);
    }
    Ok(MemoryPolicy { mode: mode | flags, nodes })
}

impl MemoryPolicy {
    fn set(&self) -> Result<()> {
        // The kernel takes one bit less than it is told.
        let bits = if self.nodes.is_empty() { 0 } else { self.nodes.len() * 64 + 1 };
        // SAFETY: the nodes have as many bits as is said, and outlive the call, which only reads them.
        let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, self.mode, self.nodes.as_ptr(), bits) };
        let shown = || format!("set_mempolicy({:#x}, {:x?})", self.mode, self.nodes);
        Errno::result(result).map_err(|errno| Error::call("set linux.memoryPolicy", shown(), errno)).map(drop)
    }
}

/// The numbers of a list such as 0-2,5, up to the largest that there may be.
fn numbers(text: &str, largest: usize) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last > largest {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// Has this process run on these processors only: `process.execCPUAffinity`.
pub fn set_affinity(field: &str, list: Option<&str>) -> Result<()> {
    let Some(list) = list.filter(|list| !list.is_empty()) else { return Ok(()) };
    let field = format!("process.execCPUAffinity.{field}");
    let wanted = numbers(list, nix::sched::CpuSet::count() - 1)
        .ok_or_else(|| wrong(&field, format!("{list:?}: write a list such as 0-1,3")))?;
    let mut set = nix::sched::CpuSet::new();
    for number in wanted {
        set.set(number).map_err(|errno| Error::call(format!("set {field}"), "CPU_SET()", errno))?;
    }
    nix::sched::sched_setaffinity(Pid::from_raw(0), &set)
        .map_err(|errno| Error::call(format!("set {field}"), format!("sched_setaffinity({list})"), errno))
}

/// The user's home, by the container's own list of users.
fn home(uid: Uid) -> String {
    const LARGEST: u64 = 1 << 20;
    use std::io::Read;
    let mut text = String::new();
    // An image may have anything there: a pipe that nobody writes to is not waited for.
    let how = libc::O_NONBLOCK | libc::O_NOCTTY;
    if let Ok(file) = fs::OpenOptions::new().read(true).custom_flags(how).open("/etc/passwd") {
        let _ = file.take(LARGEST).read_to_string(&mut text);
    }
    let found = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2)?.parse() == Ok(uid.as_raw())).then(|| fields.get(5).map(|home| home.to_string()))?
    });
    found.filter(|home| !home.is_empty()).unwrap_or_else(|| "/".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers() {
        assert_eq!(numbers("0-2,5", 8), Some(vec![0, 1, 2, 5]));
        assert_eq!(numbers("", 8), Some(vec![]));
        for text in ["x", "2-1", "9", "1,,2", "-", "1-"] {
            assert_eq!(numbers(text, 8), None, "{text}");
        }
    }
}
