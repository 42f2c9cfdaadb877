//! Hooks: programs of others that are run at six points of a container's life. Each finds the container's state on its stdin.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cooperage::container::process::default_signals;
use cooperage::container::process::signals::open_process;
use cooperage::told::errors::{Error, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use oci_spec::runtime::Hook;

/// Runs them, one after the other. The first that fails is an error, and those after it are not run.
pub fn run(kind: &str, hooks: &Option<Vec<Hook>>, state: &serde_json::Value) -> Result<()> {
    for hook in hooks.iter().flatten() {
        run_one(kind, hook, state)?;
    }
    Ok(())
}

/// Runs them all, and tells of those that fail: when the container is over there is nothing that could be given up.
pub fn run_all(kind: &str, hooks: &Option<Vec<Hook>>, state: &serde_json::Value, complain: impl Fn(&Error)) {
    for hook in hooks.iter().flatten() {
        if let Err(error) = run_one(kind, hook, state) {
            complain(&error);
        }
    }
}

// ANCHOR: hook-run
fn run_one(kind: &str, hook: &Hook, state: &serde_json::Value) -> Result<()> {
    let step = format!("run the {kind} hook {}", hook.path().display());
    let mut command = Command::new(hook.path());
    if let Some((name, rest)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(rest);
    }
    // In memory, both: a pipe that nobody reads would be full some time, and the limit would not hold.
    let mut stdin = in_memory(c"state")?;
    stdin
        .write_all(state.to_string().as_bytes())
        .and_then(|()| stdin.rewind())
        .map_err(|error| Error::io(&step, "memfd", &error))?;
    let stderr = in_memory(c"stderr")?;
    let for_hook = stderr.try_clone().map_err(|error| Error::io(&step, "memfd", &error))?;
    command.env_clear().stdin(stdin).stdout(Stdio::null()).stderr(for_hook);
    for variable in hook.env().iter().flatten() {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        command.env(name, value);
    }
    // A group of its own: when its time is up all that it has started ends, too.
    command.process_group(0);
    // SAFETY: between fork and exec there are system calls only, in a process with one thread.
    unsafe {
        command.pre_exec(|| default_signals().map_err(|error| std::io::Error::other(error.reason())));
    }
    let mut child = command.spawn().map_err(|error| Error::io(&step, hook.path(), &error))?;
    let group = Pid::from_raw(child.id() as i32);
    // One that no clock will ever show is none.
    let deadline = hook
        .timeout()
        .and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds.max(0) as u64)));
    let status = loop {
        let waited = wait(group, deadline);
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if waited => {}
            Ok(None) => {
                let _ = killpg(group, Signal::SIGKILL);
                let _ = child.wait();
                return Err(Error::new(step, "its time is up"));
            }
            Err(error) => return Err(Error::io(step, hook.path(), &error)),
        }
    };
    if status.success() {
        return Ok(());
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with status {code}"),
        (None, signal) => format!("signal {} ended it", signal.unwrap_or(0)),
    };
    let said = said(stderr);
    Err(Error::new(step, if said.is_empty() { how } else { format!("{how}: {said}") }))
}
// ANCHOR_END: hook-run

/// A file without a name.
fn in_memory(name: &CStr) -> Result<File> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC)
        .map(File::from)
        .map_err(|errno| Error::call("talk to a hook", "memfd_create()", errno))
}

/// Waits for the end of the process, without asking again and again. False when the time is up.
fn wait(pid: Pid, deadline: Option<Instant>) -> bool {
    let Ok(pidfd) = open_process(pid) else { return true };
    let timeout = match deadline {
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        }
        None => PollTimeout::NONE,
    };
    let mut watched = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut watched, timeout);
    deadline.is_none_or(|deadline| Instant::now() < deadline)
}

/// What it has said: the beginning.
fn said(mut file: File) -> String {
    let mut text = Vec::new();
    let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(4096).read_to_end(&mut text));
    String::from_utf8_lossy(&text).trim().to_string()
}
