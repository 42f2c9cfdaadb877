//! The command line. It is runc's, since that is what clients write.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cooperage::container::user::in_first_user_namespace;
use nix::unistd::geteuid;

/// A runtime for containers, as the Open Container Initiative has specified it.
#[derive(Parser, Debug)]
#[command(version, name = "chapter10")]
pub struct Cli {
    /// For every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes, in any place.
#[derive(Args, Debug, Clone)]
pub struct Global {
    /// Where containers are noted
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Write errors to this file too
    #[arg(long, global = true, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// How they are written there
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// Write more than errors to the log
    #[arg(long, global = true)]
    pub debug: bool,

    /// Let systemd make the cgroups
    #[arg(long, global = true)]
    pub systemd_cgroup: bool,

    /// Do without what an ordinary user can't have
    #[arg(long, value_name = "WHETHER", default_value = "auto", num_args = 0..=1, default_missing_value = "true")]
    pub rootless: Rootless,

    /// Who makes the cgroups
    #[arg(long, global = true, value_name = "WHO", default_value = "cgroupfs")]
    pub cgroup_manager: CgroupManager,
}

/// A line of text, or a line of JSON.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text
    Text,
    /// JSON
    Json,
}

/// Whether the runtime is that of an ordinary user.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rootless {
    /// If it is
    Auto,
    /// Yes
    True,
    /// No
    False,
}

impl Global {
    /// Is this the runtime of an ordinary user, as it was said or as it is?
    pub fn is_rootless(&self) -> bool {
        match self.rootless {
            Rootless::True => true,
            Rootless::False => false,
            Rootless::Auto => is_ordinary_user(),
        }
    }
}

/// Is this process anybody but the machine's own root?
pub fn is_ordinary_user() -> bool {
    !geteuid().is_root() || !in_first_user_namespace().unwrap_or(true)
}

/// Who makes cgroups.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupManager {
    /// The runtime
    Cgroupfs,
    /// systemd
    Systemd,
    /// Nobody: there are none
    Disabled,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a container, which then waits to be started
    Create(Create),
    /// Start a container that waits
    Start(Id),
    /// Print what is known of a container
    State(Id),
    /// Send a signal to its first process
    Kill(Kill),
    /// Remove what is left of a container
    Delete(Delete),
    /// Make a container, start it, and remove it at its end
    Run(Run),
    /// Run another process in a container
    Exec(Exec),
    /// List the containers
    List(List),
    /// List the processes of a container
    Ps(Ps),
    /// Stop all its processes where they are
    Pause(Id),
    /// Let them go on
    Resume(Id),
    /// Change what it may use
    Update(Update),
    /// Print what it uses, and when it runs out of memory
    Events(Events),
    /// Write a config.json to begin with
    Spec(Spec),
    /// Print what this runtime knows
    Features,
    /// Not supported
    #[command(hide = true)]
    Checkpoint(Ignored),
    /// Not supported
    #[command(hide = true)]
    Restore(Ignored),
}

/// Which container.
#[derive(Args, Debug)]
pub struct Id {
    /// Its name
    pub id: String,
}

/// Arguments that nothing is made of.
#[derive(Args, Debug)]
pub struct Ignored {
    /// Whatever stands there
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub arguments: Vec<String>,
}

/// What create and run have in common.
#[derive(Args, Debug)]
pub struct Making {
    /// The directory with config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,

    /// Where to send the terminal's other end
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,

    /// Write the first process's number there
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,

    /// Change the root by chroot(2), where it lies on the machine's first filesystem
    #[arg(long)]
    pub no_pivot: bool,

    /// Leave it the keys of whoever starts it
    #[arg(long)]
    pub no_new_keyring: bool,

    /// Hand on so many open files, from descriptor 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
}

/// `create`
#[derive(Args, Debug)]
pub struct Create {
    /// How it is made.
    #[command(flatten)]
    pub making: Making,
    /// Its name
    pub id: String,
}

/// `run`
#[derive(Args, Debug)]
pub struct Run {
    /// How it is made.
    #[command(flatten)]
    pub making: Making,
    /// Do not wait for its end
    #[arg(short, long)]
    pub detach: bool,
    /// Keep what is known of it when it has ended
    #[arg(long)]
    pub keep: bool,
    /// Adopt processes that have lost their parents: nothing is to be done, init does it
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
    /// Its name
    pub id: String,
}

/// `kill`
#[derive(Args, Debug)]
pub struct Kill {
    /// Send it to every process of the container
    #[arg(short, long)]
    pub all: bool,
    /// Its name
    pub id: String,
    /// By name or number
    #[arg(default_value = "SIGTERM")]
    pub signal: String,
}

/// `delete`
#[derive(Args, Debug)]
pub struct Delete {
    /// Even one that runs; and it is no error if there is none
    #[arg(short, long)]
    pub force: bool,
    /// Its name
    pub id: String,
}

/// `exec`
#[derive(Args, Debug)]
pub struct Exec {
    /// Where to send the terminal's other end
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// The directory to start in
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// A variable of its environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Give it a terminal
    #[arg(short, long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub tty: Option<bool>,
    /// UID, or UID:GID
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// Further groups
    #[arg(short = 'g', long, value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// What is to run, as the field `process` of config.json has it
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Do not wait for its end
    #[arg(short, long)]
    pub detach: bool,
    /// Write its number there
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// The label that SELinux is to know it by
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// The profile that AppArmor is to know it by
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// Let no program give it more rights than it has
    #[arg(long)]
    pub no_new_privs: bool,
    /// Let it have this capability
    #[arg(short, long, value_name = "CAPABILITY")]
    pub cap: Vec<String>,
    /// Hand on so many open files, from descriptor 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Enter this cgroup below the container's
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<String>,
    /// Even if the container is paused: it waits until it goes on
    #[arg(long)]
    pub ignore_paused: bool,
    /// The container
    pub id: String,
    /// What is to run
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// How something is printed.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people
    Table,
    /// JSON
    Json,
}

/// `list`
#[derive(Args, Debug)]
pub struct List {
    /// Names only
    #[arg(short, long)]
    pub quiet: bool,
    /// How
    #[arg(short, long, default_value = "table")]
    pub format: Format,
}

/// `ps`
#[derive(Args, Debug)]
pub struct Ps {
    /// How
    #[arg(short, long, default_value = "table")]
    pub format: Format,
    /// Its name
    pub id: String,
    /// Options of ps(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

/// `update`
#[derive(Args, Debug)]
pub struct Update {
    /// What to change, as the field `linux.resources` has it; - is stdin
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Weight for disks, 10 to 1000
    #[arg(long)]
    pub blkio_weight: Option<u16>,
    /// Length of a period, in microseconds
    #[arg(long)]
    pub cpu_period: Option<u64>,
    /// Processor time in a period, in microseconds
    #[arg(long, allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// How much it may save for later
    #[arg(long)]
    pub cpu_burst: Option<u64>,
    /// Its share, compared with others
    #[arg(long)]
    pub cpu_share: Option<u64>,
    /// The processors, such as 0-2,4
    #[arg(long)]
    pub cpuset_cpus: Option<String>,
    /// The nodes of memory
    #[arg(long)]
    pub cpuset_mems: Option<String>,
    /// Memory, in bytes; -1 is no limit
    #[arg(long, allow_negative_numbers = true)]
    pub memory: Option<i64>,
    /// What it is kept to when memory is short
    #[arg(long, allow_negative_numbers = true)]
    pub memory_reservation: Option<i64>,
    /// Memory and swap together
    #[arg(long, allow_negative_numbers = true)]
    pub memory_swap: Option<i64>,
    /// Processes
    #[arg(long, allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// Its name
    pub id: String,
}

/// `events`
#[derive(Args, Debug)]
pub struct Events {
    /// Print what it uses once, and end
    #[arg(long)]
    pub stats: bool,
    /// How often it is printed
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub interval: String,
    /// Its name
    pub id: String,
}

/// `spec`
#[derive(Args, Debug)]
pub struct Spec {
    /// Where
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// For an ordinary user
    #[arg(long)]
    pub rootless: bool,
}
