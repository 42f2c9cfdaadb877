//! Chapter 8: keys. The kernel keeps them for processes and users: see keyrings(7).

use nix::errno::Errno;

use crate::container::sys;
use crate::told::errors::Result;
use crate::told::explain;

// ANCHOR: leave-keyring
/// Begins a new session keyring. That of the runtime came along by clone(2), as to every child: with it, all keys
/// that whoever started the container has put there, a filesystem's or Kerberos's, could be read.
/// See session-keyring(7).
pub fn leave_keyring() -> Result<()> {
    match sys::join_session_keyring("leave the keys of whoever started this behind") {
        // A kernel without keys, or a filter that allows no call about keys, in here neither.
        Err(error) if matches!(error.errno(), Some(Errno::ENOSYS | Errno::EPERM)) => {
            explain::remark("there are no keys to leave behind here");
            Ok(())
        }
        result => result,
    }
}
// ANCHOR_END: leave-keyring
