//! The command line that every chapter, exercise and solution has.
//!
//! A chapter takes the options of its own feature and of all before it. Their names are Docker's
//! wherever Docker has the option.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::container::cgroup::{Cpus, Limits, Memory, WriteRate, limits};
use crate::container::network;
use crate::container::process::{Process, Status};
use crate::container::root::NewRoot;
use crate::container::stage::Stage;
use crate::container::user::{self, Users};
use crate::container::uts::Hostname;
use crate::container::volume::{MappedVolume, Volume};
use crate::told::errors::Result;
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
