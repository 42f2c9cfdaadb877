//! Chapter 10: the standard.
//!
//! The command line is no longer Docker's but that of the runtimes below it: five commands, a directory with a config.json, and clients that
//! know nothing else of us. This program stands where runc stands.

use std::process::ExitCode;

use clap::Parser;
use cooperage::container::console::Console;
use cooperage::container::process::Status;
use cooperage::told::errors::{Error, Result};
use oci::bundle::Bundle;
use oci::cli::{Cli, Command, Create, Global};
use oci::create::{console, create, keep_out_of_reach};
use oci::{exec, lifecycle, log, report, start};

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    match run(&global, &command) {
        Ok(status) => ExitCode::from(status.map_or(0, Status::code)),
        Err(error) => {
            log::error(&global, &error);
            ExitCode::from(error.status)
        }
    }
}

fn run(global: &Global, command: &Command) -> Result<Option<Status>> {
    match command {
        Command::Create(args) => create_container(global, args)?,
        Command::Start(args) => start::start(global, &args.id)?,
        Command::State(args) => report::state(global, &args.id)?,
        Command::Kill(args) => lifecycle::kill(global, args)?,
        Command::Delete(args) => lifecycle::delete(global, args)?,
        Command::Run(args) => return lifecycle::run(global, args),
        Command::Exec(args) => return exec::exec(global, args),
        Command::List(args) => report::list(global, args)?,
        Command::Ps(args) => report::ps(global, args)?,
        Command::Pause(args) => lifecycle::freeze(global, &args.id, true)?,
        Command::Resume(args) => lifecycle::freeze(global, &args.id, false)?,
        Command::Update(args) => lifecycle::update(global, args)?,
        Command::Events(args) => report::events(global, args)?,
        Command::Spec(args) => report::spec(args)?,
        Command::Features => report::features(),
        Command::Checkpoint(_) | Command::Restore(_) => {
            return Err(Error::new("write a container to a file", "this runtime does not do that"));
        }
    }
    Ok(None)
}

fn create_container(global: &Global, args: &Create) -> Result<()> {
    let bundle = Bundle::load(&args.making.bundle)?;
    keep_out_of_reach(&bundle.linux)?;
    let console: Console = console(bundle.has_terminal(), args.making.console_socket.as_deref())?
        .ok_or_else(|| {
            Error::new(
                "create the container",
                "process.terminal is true, and there is no --console-socket to send it to",
            )
        })?;
    create(global, &args.making, &args.id, &bundle, &console).map(drop)
}
