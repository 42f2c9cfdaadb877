//! `exec`: another process in a container that runs.

use std::fs;
use std::path::Path;

use cooperage::container::console::Console;
use cooperage::container::process::signals::block_signals;
use cooperage::container::process::{Child, Newborn, Parent, Status as Ended, bear};
use cooperage::container::root::NewRoot;
use cooperage::container::sys::{self, CloneFlags};
use cooperage::container::user::User;
use cooperage::told::errors::{Error, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode as Permissions;
use oci_spec::runtime::Process;

use crate::bundle::{Bundle, wrong};
use crate::cli::{Exec, Global};
use crate::command::{Command, set_affinity};
use crate::create::{OUT_OF_REACH, console, keep_out_of_reach, number_in, write_pid};
use crate::namespaces::Namespaces;
use crate::paths::set_oom_score;
use crate::record::{Record, Status, config, look};

/// `exec`. The status is that of the process, or nothing if it is not waited for.
pub fn exec(global: &Global, args: &Exec) -> Result<Option<Ended>> {
    let (record, status) = look(global, &args.id)?;
    let step = format!("run a process in the container {:?}", args.id);
    match status {
        Status::Running | Status::Created => {}
        Status::Paused if args.ignore_paused => {}
        other => return Err(Error::new(step, format!("it is {}", other.word()))),
    }
    // As it was when the container was created, whatever is in the bundle by now.
    let bundle = config(global, &args.id, &record)?;
    let process = process(args, &bundle)?;
    keep_out_of_reach(&bundle.linux)?;
    let command = Command::new(&process, &bundle.linux, args.preserve_fds, 0)?;
    let terminal = process.terminal() == Some(true);
    let own = match console(terminal, args.console_socket.as_deref())? {
        Some(console) => console,
        None if args.detach => {
            return Err(Error::new(step, "a terminal that nobody waits at needs a --console-socket"));
        }
        None => Console::new()?,
    };
    let signals = if args.detach { None } else { Some(block_signals()?) };
    let mut newborn = join(&record, command, &own, &process)?;
    if let Some(file) = &args.pid_file {
        write_pid(file, newborn.pid())?;
    }
    newborn.release();
    newborn.until_command()?;
    let Some(signals) = signals else { return Ok(None) };
    let child = Child::watch(newborn, signals);
    let child = if own.is_own() { child.relaying(own) } else { child };
    child.wait_or_stop(crate::lifecycle::WITHOUT_END, || Ok(())).map(Some)
}

// ANCHOR: exec-join
/// A process with everything that the container's first one has: its cgroups, its namespaces, and with its mounts its root.
fn join(record: &Record, mut command: Command, console: &Console, process: &Process) -> Result<Newborn> {
    let namespaces = Namespaces::of_process(record.pid)?;
    let has_users = namespaces.has(CloneFlags::CLONE_NEWUSER);
    let state = record.state(Status::Running);
    let affinity = process.exec_cpu_affinity();
    let half = |parent: &Parent| {
        if let Some(affinity) = affinity {
            set_affinity("initial", affinity.initial().as_deref())?;
        }
        sys::set_not_dumpable(OUT_OF_REACH)?;
        if !parent.born_in_cgroup() {
            record.cgroups.enter()?;
        }
        if let Some(affinity) = affinity {
            set_affinity("final", affinity.cpu_affinity_final().as_deref())?;
        }
        let proc = nix::fcntl::open(
            "/proc",
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Permissions::empty(),
        )
        .ok();
        namespaces.enter(parent)?;
        let number = proc.and_then(|proc| number_in(&proc));
        parent.report_arrival();
        parent.until_released()?;
        if has_users {
            User::root().become_it()?;
        }
        // Into the root that comes with the mounts.
        sys::chdir("stand in the container's root", Path::new("/"))?;
        if console.is_own() {
            let root = NewRoot::new("/".into(), "/nowhere".into())?;
            console.open_again(&root, Some(command.user()))?;
        } else {
            sys::setsid("begin a session of its own: nobody outside is in it")?;
        }
        let program = command.find_program()?;
        command.become_it(&program, number, &state)
    };
    let mut newborn = bear(record.cgroups.open()?, CloneFlags::empty(), half)?;
    newborn.until_arrival()?;
    command.set_limits(newborn.pid())?;
    set_oom_score(newborn.pid(), command.oom_score)?;
    Ok(newborn)
}
// ANCHOR_END: exec-join

/// What is to run: what a file says, or what the container itself runs, with the options in their place.
fn process(args: &Exec, bundle: &Bundle) -> Result<Process> {
    let mut process: Process = match &args.process {
        Some(file) => {
            let text = fs::read(file).map_err(|error| Error::io("read --process", file, &error))?;
            serde_json::from_slice(&text).map_err(|error| Error::new("read --process", error.to_string()))?
        }
        None => bundle.spec.process().clone().ok_or_else(|| wrong("process", "it is not there"))?,
    };
    if args.process.is_none() {
        if args.command.is_empty() {
            return Err(Error::new("run a process", "no command was given").status(2));
        }
        process.set_terminal(Some(false));
    }
    if !args.command.is_empty() {
        process.set_args(Some(args.command.clone()));
    }
    if let Some(tty) = args.tty {
        process.set_terminal(Some(tty));
    }
    if let Some(directory) = &args.cwd {
        process.set_cwd(directory.clone());
    }
    let mut environment = process.env().clone().unwrap_or_default();
    environment.extend(args.env.clone());
    process.set_env(Some(environment));
    if let Some(text) = &args.user {
        let (uid, gid) = text.split_once(':').unwrap_or((text, ""));
        let number = |text: &str| {
            text.parse::<u32>()
                .map_err(|_| Error::new("read --user", format!("{text:?} is no number")).status(2))
        };
        process.user_mut().set_uid(number(uid)?);
        if !gid.is_empty() {
            process.user_mut().set_gid(number(gid)?);
        }
    }
    if !args.additional_gids.is_empty() {
        let mut groups = process.user().additional_gids().clone().unwrap_or_default();
        groups.extend(&args.additional_gids);
        process.user_mut().set_additional_gids(Some(groups));
    }
    if let Some(label) = &args.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    for name in &args.cap {
        add_capability(&mut process, name)?;
    }
    Ok(process)
}

fn add_capability(process: &mut Process, name: &str) -> Result<()> {
    let text = serde_json::Value::String(name.to_uppercase());
    let capability: oci_spec::runtime::Capability = serde_json::from_value(text)
        .map_err(|_| Error::new("read --cap", format!("{name:?} is no capability")).status(2))?;
    let mut sets = process.capabilities().clone().unwrap_or_default();
    let with = |list: &Option<oci_spec::runtime::Capabilities>| {
        let mut list = list.clone().unwrap_or_default();
        list.insert(capability);
        Some(list)
    };
    sets.set_bounding(with(sets.bounding()));
    sets.set_effective(with(sets.effective()));
    sets.set_permitted(with(sets.permitted()));
    process.set_capabilities(Some(sets));
    Ok(())
}
