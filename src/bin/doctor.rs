//! `cargo run --bin doctor`: does this machine have what the chapters need? The first command to run.

use std::process::ExitCode;

use clap::Parser;
use cooperage::told::errors::Result;
use cooperage::workshop::{apparmor, doctor};

/// Tries everything that the chapters need, and says what to do where it does not work.
/// Exit status 0 if all of it works for this user, 1 if not.
#[derive(Parser, Debug)]
#[command(name = "doctor")]
struct Args {
    /// Print a JSON array, for programs
    #[arg(long, conflicts_with = "clean")]
    json: bool,

    /// Only list the programs of the root filesystem that is made of this machine's
    #[arg(long, conflicts_with_all = ["json", "clean"])]
    programs: bool,

    /// Only clear up what killed runtimes have left
    #[arg(long)]
    clean: bool,

    /// Only load the AppArmor profile that containers are confined by, as root; or remove it
    #[arg(long, value_name = "ACTION", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "load")]
    #[arg(conflicts_with_all = ["json", "clean", "programs"])]
    apparmor: Option<apparmor::Action>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cooperage: {error}");
            ExitCode::from(error.status)
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    match args {
        Args { clean: true, .. } => doctor::clean().map(|()| true),
        Args { programs: true, .. } => doctor::list_programs().map(|()| true),
        Args { apparmor: Some(action), .. } => apparmor::act(*action).map(|()| true),
        Args { json: true, .. } => doctor::report_json(),
        _ => Ok(doctor::report()),
    }
}
