//! `cargo run --bin doctor`: does this machine have what the chapters need? The first command to run.

use std::process::ExitCode;

use clap::Parser;
use cooperage::told::errors::Result;
use cooperage::workshop::doctor;

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
        Args { json: true, .. } => doctor::report_json(),
        _ => Ok(doctor::report()),
    }
}
