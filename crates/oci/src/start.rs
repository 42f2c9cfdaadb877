//! `start`: the second command. The container waits at its gate, and this opens it.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use cooperage::told::errors::{Error, Result};
use nix::sys::socket::{SockFlag, accept4};

use crate::cli::Global;
use crate::hooks;
use crate::log;
use crate::record::{Place, Record, Status};

// ANCHOR: wait-at-gate
/// The container's half: stands still until somebody connects, then goes on. What goes wrong now is told to who has connected; when the
/// command has been started, the connection closes without a word.
pub fn wait_to_be_started(gate: OwnedFd, go_on: impl FnOnce() -> Result<Infallible>) -> Result<Infallible> {
    let knocking = loop {
        match accept4(gate.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            // SAFETY: the descriptor is new and nobody else's.
            Ok(fd) => break unsafe { OwnedFd::from_raw_fd(fd) },
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error::call("wait to be started", "accept()", errno)),
        }
    };
    drop(gate);
    let Err(error) = go_on();
    if let Ok(text) = serde_json::to_vec(&error) {
        let _ = UnixStream::from(knocking).write_all(&text);
    }
    Err(error)
}
// ANCHOR_END: wait-at-gate

/// `start`
pub fn start(global: &Global, id: &str) -> Result<()> {
    let place = Place::find(global, id)?;
    let record = place.read()?;
    open_gate(global, &place, &record)
}

// ANCHOR: open-gate
/// Lets it go on, and waits until its command runs or has failed to.
pub fn open_gate(global: &Global, place: &Place, record: &Record) -> Result<()> {
    let step = format!("start the container {:?}", record.id);
    match place.status(record) {
        Status::Created => {}
        other => {
            return Err(Error::new(
                step,
                format!("it is {}, and one that is created can be started", other.word()),
            ));
        }
    }
    let Some(knocking) = place.knock()? else {
        return Err(Error::new(step, "its first process is gone"));
    };
    place.remove_gate();
    let mut said = Vec::new();
    UnixStream::from(knocking)
        .read_to_end(&mut said)
        .map_err(|error| Error::io(&step, "the gate", &error))?;
    if !said.is_empty() {
        let error: Error =
            serde_json::from_slice(&said).unwrap_or_else(|_| Error::new(step, "it said something else"));
        return Err(error);
    }
    if let Some(all) = &record.hooks {
        let state = record.state(Status::Running);
        hooks::run_all("poststart", all.poststart(), &state, |error| {
            log::note(global, "warning", &error.to_string())
        });
    }
    Ok(())
}
// ANCHOR_END: open-gate
