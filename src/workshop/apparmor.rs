//! The doctor's help with AppArmor: root has it load the rules that chapter 9's containers are confined by, or remove them.
//!
//! They are in the kernel then, and nowhere on disk: they are gone when the machine is booted anew.

use std::io::Write;
use std::process::{Command, Stdio};

use clap::ValueEnum;
use nix::unistd::geteuid;

use super::doctor::{install, program, say};
use crate::container::power::apparmor::{self, RULES, USUAL};
use crate::told::errors::{Error, Result};

/// What is to be done with the profile: it is put into the kernel, in place of an older one; or taken out, and then what runs
/// with it is confined by it no longer. (Words at each of the two would make the doctor's help three times as long.)
#[expect(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Action {
    Load,
    Remove,
}

/// Does it, by apparmor_parser(8), and says what there is then.
pub fn act(action: Action) -> Result<()> {
    let (step, option) = match action {
        Action::Load => ("load our AppArmor profile", "--replace"),
        Action::Remove => ("remove our AppArmor profile", "--remove"),
    };
    apparmor::is_on()?;
    if !geteuid().is_root() {
        return Err(Error::new(step, "only root may").remedy("sudo target/debug/doctor --apparmor"));
    }
    if apparmor::loaded().is_none() {
        return Err(Error::new(step, "the kernel's list of profiles is not to be seen here")
            .remedy("mount -t securityfs securityfs /sys/kernel/security"));
    }
    if action == Action::Remove && !apparmor::is_loaded(USUAL) {
        say(&format!("{USUAL} is not loaded"));
        return Ok(());
    }
    let parser = program("apparmor_parser")
        .ok_or_else(|| Error::new(step, "there is no apparmor_parser").remedy(install(&["apparmor"])))?;
    let failed = |error: &std::io::Error| Error::io(step, &parser, error);
    let mut child = Command::new(&parser)
        .args([option, "--skip-cache"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read says why.
        let _ = stdin.write_all(RULES.as_bytes());
    }
    let ended = child.wait_with_output().map_err(|error| failed(&error))?;
    if !ended.status.success() {
        let words = String::from_utf8_lossy(&ended.stderr);
        return Err(Error::new(step, format!("{}: {}", parser.display(), words.trim())));
    }
    say(&match action {
        Action::Load => format!(
            "{USUAL} is loaded: containers from chapter 9 on are confined by it. It stays until the machine is booted \
             anew, or until doctor --apparmor=remove"
        ),
        Action::Remove => format!("{USUAL} is removed"),
    });
    Ok(())
}
