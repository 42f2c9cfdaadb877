//! Chapter 4: the IPC namespace. CLONE_NEWIPC gives the container its own System V message queues,
//! semaphores and shared memory, and its own POSIX message queues; there is nothing more to do. (POSIX
//! shared memory and semaphores are files in /dev/shm, its own since chapter 3.) See ipc_namespaces(7).

use std::path::Path;

use super::pid::PROC_FLAGS;
use super::root::NewRoot;
use super::sys;
use crate::told::errors::Result;

// ANCHOR: mount-mqueue
/// Makes the POSIX message queues of this namespace visible as files. See mq_overview(7).
pub fn mount_mqueue(root: &NewRoot) -> Result<()> {
    let target = root.directory("dev/mqueue")?;
    let why = "see the message queues of this namespace as files";
    sys::mount(why, Some(Path::new("mqueue")), target.path(), Some("mqueue"), PROC_FLAGS, None)
}
// ANCHOR_END: mount-mqueue
