//! `cargo run --bin lab [-- COMMAND...]`: a shell, or a command, on a throw-away host.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use cooperage::told::explain;
use cooperage::workshop::cli;
use cooperage::workshop::lab::{self, Layout, Options};

/// A shell on a throw-away host. This machine's files are there, read-only; the working directory is
/// writable; nothing else that is done in it can be seen from outside or outlives it.
#[derive(Parser, Debug)]
#[command(name = "lab")]
struct Args {
    /// What /sys/fs/cgroup looks like inside
    #[arg(long, value_enum, value_name = "LAYOUT", default_value_t)]
    cgroups: Layout,

    /// Tell every step, as it is taken, on stderr
    #[arg(long)]
    explain: bool,

    /// Command to run, with its arguments [default: $SHELL]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.explain {
        explain::enable();
    }
    cli::exit_with(lab::run(&Options {
        whole_machine: false,
        command: args.command,
        working_directory: PathBuf::from("."),
        cgroups: args.cgroups,
    }))
}
