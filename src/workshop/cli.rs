//! The command line that every chapter, exercise and solution has.
//!
//! A chapter takes the options of its own feature and of all before it. Their names are Docker's
//! wherever Docker has the option.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use nix::errno::Errno;

use crate::container::cgroup::{Cpus, Limits, Memory, WriteRate, limits};
use crate::container::console::Console;
use crate::container::mount;
use crate::container::network;
use crate::container::power::Power;
use crate::container::power::apparmor;
use crate::container::power::capabilities::{Capabilities, Choice};
use crate::container::power::devices::{Device, usual_rules};
use crate::container::power::labels::Label;
use crate::container::power::paths;
use crate::container::power::rlimits::Rlimit;
use crate::container::power::selinux::{self, Context, Contexts};
use crate::container::power::sysctls::Sysctl;
use crate::container::power::tmpfs::Tmpfs;
use crate::container::process::{Child, Process, Status};
use crate::container::root::NewRoot;
use crate::container::seccomp::Filter;
use crate::container::stage::Stage;
use crate::container::sys;
use crate::container::user::{self, Users};
use crate::container::uts::Hostname;
use crate::container::volume::{MappedVolume, Volume};
use crate::told::errors::{Advise, Result};
use crate::told::explain;

// ANCHOR: common-options
/// Chapter 1: what runs, and in which root filesystem.
#[derive(Args, Debug)]
pub struct Common {
    /// Directory to use as the root filesystem (default: one made of this machine's programs)
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,

    /// Tell every step, as it is taken, on stderr
    #[arg(long)]
    pub explain: bool,

    /// Command to run inside, with its arguments (default: /bin/sh)
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
// ANCHOR_END: common-options

// ANCHOR: mount-options
/// Chapter 3: what is mounted.
#[derive(Args, Debug)]
pub struct Mounts {
    /// Directory that keeps what the container writes (default: it is discarded)
    #[arg(long, value_name = "DIR")]
    pub upper: Option<PathBuf>,

    /// Mount a directory or file of the host inside
    #[arg(short, long = "volume", value_name = "SRC:DST[:ro]")]
    pub volumes: Vec<Volume>,
}
// ANCHOR_END: mount-options

/// Chapter 4: what it is called.
#[derive(Args, Debug)]
pub struct Names {
    /// Host name of the container (default: 12 random digits)
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<Hostname>,
}

impl Names {
    /// The name that was given, or a random one.
    pub fn hostname(&self) -> Result<Hostname> {
        self.hostname.clone().map_or_else(Hostname::random, Ok)
    }
}

/// Chapter 5: whom it can talk to.
#[derive(Args, Debug)]
pub struct Networks {
    /// Network to connect the container to
    #[arg(long, value_name = "MODE", value_enum, default_value_t = network::Mode::Bridge)]
    pub network: network::Mode,
}

/// Chapter 6: what it may use.
#[derive(Args, Debug)]
pub struct Resources {
    /// Memory limit: a number and b, k, m or g
    #[arg(long, value_name = "SIZE")]
    memory: Option<Memory>,

    /// Number of processors, such as 0.5
    #[arg(long, value_name = "N")]
    cpus: Option<Cpus>,

    /// Limit of processes and threads, -1 for none
    #[arg(long, value_name = "N", value_parser = limits::parse_pids, allow_negative_numbers = true)]
    pids_limit: Option<u32>,

    /// Limit of bytes written to a disk in a second, such as /dev/sda:1mb
    #[arg(long, value_name = "DEVICE:RATE")]
    device_write_bps: Vec<WriteRate>,
}

impl Resources {
    /// The limits that were asked for.
    pub fn limits(&self) -> Limits {
        Limits {
            memory: self.memory,
            cpus: self.cpus,
            pids: self.pids_limit.filter(|&pids| pids > 0),
            writes: self.device_write_bps.clone(),
            devices: None,
        }
    }
}

/// Chapter 7: how it ends.
#[derive(Args, Debug)]
pub struct Ending {
    /// Run an init as process 1 that reaps orphans and forwards signals (the default)
    #[arg(long, overrides_with = "no_init")]
    init: bool,

    /// Run the command itself as process 1
    #[arg(long)]
    no_init: bool,

    /// Seconds from SIGTERM to SIGKILL when the runtime is told to stop
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = parse_seconds)]
    stop_timeout: u32,
}

impl Ending {
    /// Shall there be an init?
    pub fn init(&self) -> bool {
        !self.no_init
    }

    /// How long the container has to end by itself.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(u64::from(self.stop_timeout))
    }
}

fn parse_seconds(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number of seconds: write 0 or more"))
}

/// Chapter 8: what is mounted, and whose it is.
#[derive(Args, Debug)]
pub struct MappedMounts {
    /// Directory that keeps what the container writes (default: it is discarded). What the container's root makes there
    /// belongs to you, set-user-ID programs too: choose a place that no other user of the host can reach
    #[arg(long, value_name = "DIR")]
    pub upper: Option<PathBuf>,

    /// Mount a directory or file of the host inside; with idmap its files belong inside to whom they belong on disk.
    /// Then the container's root can make set-user-ID programs of the host's root there, so without ro other users of
    /// the host must not be able to reach it (suid: even so)
    #[arg(short, long = "volume", value_name = "SRC:DST[:ro][,idmap]")]
    volumes: Vec<MappedVolume>,
}

impl MappedMounts {
    /// The volumes, picked up and put on the stage.
    pub fn volumes(&self, stage: &mut Stage) -> Result<Vec<Volume>> {
        self.volumes.iter().map(|MappedVolume(volume)| volume.on_stage(stage)).collect()
    }
}

/// Chapter 8: who it is.
#[derive(Args, Debug)]
pub struct Identity {
    /// Users that the container has
    #[arg(long, value_name = "MODE", value_enum, default_value_t = user::Mode::Private)]
    pub userns: user::Mode,

    /// Run the command as this user, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<user::Wanted>,

    /// Further groups for it, by name or number
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<user::Name>,
}

impl Identity {
    /// The command, to be run as whom was asked for.
    pub fn process(&self, command: &[OsString], users: &Users, root: &NewRoot) -> Result<Process> {
        users.process(Process::new(command), self.user.as_ref(), &self.group_add, root)
    }
}

// ANCHOR: restriction-options
/// Chapter 9: what it may do.
#[derive(Args, Debug)]
pub struct Restrictions {
    /// Let it keep this capability, such as NET_ADMIN, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<Choice>,

    /// Take this capability from it, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<Choice>,

    /// Keep stdin open (it always is)
    #[arg(short, long)]
    interactive: bool,

    /// Give it a terminal of its own
    #[arg(short, long)]
    tty: bool,

    /// Take nothing from it: all capabilities, system calls, devices, and all of /proc and /sys
    #[arg(long)]
    privileged: bool,

    /// no-new-privileges=false, seccomp=FILE or seccomp=unconfined, systempaths=unconfined, apparmor=PROFILE or
    /// apparmor=unconfined, label=CONTEXT, label=type:TYPE (or user: role: level: filetype:), label=disable
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<SecurityOption>,

    /// Let it write nothing to its root filesystem
    #[arg(long)]
    read_only: bool,

    /// Mount a tmpfs inside, with options such as size=64m or exec
    #[arg(long, value_name = "DST[:OPTIONS]")]
    tmpfs: Vec<Tmpfs>,

    /// Limit each of its processes, such as nofile=1024 or core=0:-1
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<Rlimit>,

    /// Let it use a device of the host
    #[arg(long, value_name = "SRC[:DST][:rwm]")]
    device: Vec<Device>,

    /// Change a setting of the kernel that is the container's own, such as net.ipv4.ip_forward=1
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<Sysctl>,

    /// Size of its shared memory, /dev/shm (default: 64m)
    #[arg(long, value_name = "SIZE", value_parser = limits::parse_bytes)]
    shm_size: Option<u64>,

    /// How early the kernel chooses it when memory runs out: -1000 (never) to 1000
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    oom_score_adj: Option<i32>,
}
// ANCHOR_END: restriction-options

impl Restrictions {
    // ANCHOR: restrictions-power
    /// What the command keeps of its power.
    pub fn power(&self) -> Result<Power> {
        let has = |option| self.security_opt.contains(&option);
        let capabilities = match self.privileged {
            true => Capabilities::all()?,
            false => Capabilities::chosen(&self.cap_add, &self.cap_drop)?,
        };
        let profile = self.security_opt.iter().rev().find_map(SecurityOption::profile);
        let filter = match profile {
            Some(Profile::Unconfined) => None,
            None if self.privileged => None,
            Some(Profile::File(file)) => Some(Filter::from_file(file, capabilities.set())?),
            None => Some(Filter::usual(capabilities.set())?),
        };
        let may_gain = has(SecurityOption::NoNewPrivileges(false))
            || self.privileged && !has(SecurityOption::NoNewPrivileges(true));
        Ok(Power {
            capabilities,
            no_new_privileges: !may_gain,
            filter,
            limits: Rlimit::with_usual(&self.ulimit),
            label: self.label()?,
        })
    }
    // ANCHOR_END: restrictions-power

    fn label(&self) -> Result<Option<Label>> {
        let profile = self.security_opt.iter().rev().find_map(|option| match option {
            SecurityOption::AppArmor(profile) => Some(profile.as_str()),
            _ => None,
        });
        match self.contexts()? {
            Some(contexts) => Ok(Some(Label::SELinux(contexts.process.to_string()))),
            None => apparmor::chosen(profile.or(self.privileged.then_some(apparmor::UNCONFINED))),
        }
    }

    /// What SELinux is to call the files of the container's own filesystems.
    pub fn files_context(&self) -> Result<Option<Context>> {
        Ok(self.contexts()?.and_then(|contexts| contexts.files))
    }

    fn contexts(&self) -> Result<Option<Contexts>> {
        let choices = self.security_opt.iter().filter_map(|option| match option {
            SecurityOption::Label(choice) => Some(choice),
            _ => None,
        });
        selinux::chosen(&choices.collect::<Vec<_>>())
    }

    /// These limits, and the devices that may be used.
    pub fn devices_of(&self, limits: Limits) -> Result<Limits> {
        let more = self.device.iter().map(Device::rule).collect::<Result<Vec<_>>>()?;
        let rules = usual_rules().into_iter().chain(more).collect();
        Ok(Limits { devices: (!self.privileged).then_some(rules), ..limits })
    }

    /// Nodes of the devices that were asked for, on the stage.
    pub fn devices(&self, stage: &mut Stage, users: &Users) -> Result<Vec<Volume>> {
        self.device.iter().map(|device| device.on_stage(stage, users)).collect()
    }

    /// The terminal that it has.
    pub fn console(&self) -> Result<Console> {
        if self.tty { Console::new() } else { Ok(Console::shared()) }
    }

    /// How many bytes of shared memory it has.
    pub fn shared_memory(&self) -> u64 {
        self.shm_size.unwrap_or(mount::SHARED_MEMORY)
    }

    /// Refuses settings that would be the host's.
    pub fn check(&self, network: network::Mode) -> Result<()> {
        self.sysctl.iter().try_for_each(|sysctl| sysctl.check(network))
    }

    // ANCHOR: restrictions-paths
    /// The child's half, while the new root is being furnished: what is in memory, and what is hidden.
    pub fn cover(&self, root: &NewRoot) -> Result<()> {
        self.tmpfs.iter().try_for_each(|tmpfs| tmpfs.mount(root))?;
        if self.shows_machine() { Ok(()) } else { paths::mask(root) }
    }

    /// The child's half, when everything is in its place: the container's own settings, and then no more can be made.
    pub fn settle(&self, root: &NewRoot) -> Result<()> {
        self.sysctl.iter().try_for_each(Sysctl::set)?;
        if !self.shows_machine() {
            paths::make_read_only(root)?;
        }
        if self.read_only { paths::make_root_read_only() } else { Ok(()) }
    }
    // ANCHOR_END: restrictions-paths

    fn shows_machine(&self) -> bool {
        self.privileged || self.security_opt.contains(&SecurityOption::SystemPaths)
    }

    /// The runtime's half: how early the kernel is to choose the container when memory runs out.
    pub fn set_oom_score(&self, child: &Child) -> Result<()> {
        let Some(score) = self.oom_score_adj else { return Ok(()) };
        let file = format!("/proc/{}/oom_score_adj", child.pid());
        sys::write_file("be chosen sooner or later when memory runs out", Path::new(&file), score)
            .remedy_for(Errno::EACCES, "only root may protect a process: choose 0 or more")
    }
}

/// The argument of `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SecurityOption {
    NoNewPrivileges(bool),
    Seccomp(Profile),
    SystemPaths,
    AppArmor(String),
    Label(selinux::Choice),
}

/// Which system calls a command may make.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Profile {
    Unconfined,
    File(PathBuf),
}

impl SecurityOption {
    fn profile(&self) -> Option<&Profile> {
        match self {
            SecurityOption::Seccomp(profile) => Some(profile),
            _ => None,
        }
    }
}

impl FromStr for SecurityOption {
    type Err = String;

    fn from_str(text: &str) -> Result<SecurityOption, String> {
        // Docker has had both signs between name and value.
        let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
        match (name, value) {
            ("no-new-privileges", "" | "true") => Ok(SecurityOption::NoNewPrivileges(true)),
            ("no-new-privileges", "false") => Ok(SecurityOption::NoNewPrivileges(false)),
            ("seccomp", "unconfined") => Ok(SecurityOption::Seccomp(Profile::Unconfined)),
            ("seccomp", file) if !file.is_empty() => Ok(SecurityOption::Seccomp(Profile::File(file.into()))),
            ("systempaths", "unconfined") => Ok(SecurityOption::SystemPaths),
            ("apparmor", profile) if !profile.is_empty() => Ok(SecurityOption::AppArmor(profile.to_string())),
            ("label", choice) => choice.parse().map(SecurityOption::Label),
            _ => Err(format!(
                "{text:?} is not one: there are no-new-privileges[=false], seccomp=FILE, seccomp=unconfined, \
                 systempaths=unconfined, apparmor=PROFILE, apparmor=unconfined, label=CONTEXT, label=disable, and \
                 label= with user:, role:, type:, level: or filetype: and a name"
            )),
        }
    }
}

// ANCHOR: exit-with
/// The end of every chapter's main: the command's own status, or the error and its status.
pub fn exit_with(result: Result<Status>) -> ExitCode {
    match result {
        Ok(status) => ExitCode::from(status.code()),
        Err(error) => {
            eprintln!("cooperage: {error}");
            ExitCode::from(error.status)
        }
    }
}
// ANCHOR_END: exit-with

/// Tells the user what went wrong in a container that was made and ran.
pub fn complain(text: Option<String>) {
    if let Some(text) = text {
        eprintln!("cooperage: {text}");
    }
}

impl Common {
    /// Turns on the narration if it was asked for.
    pub fn begin(&self) {
        if self.explain {
            explain::enable();
        }
    }
}
