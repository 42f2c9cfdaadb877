//! Chapter 9: no files for init. Landlock lets a process take rights to files from itself, without any right of its own. See
//! landlock(7).

use nix::errno::Errno;

use crate::container::sys;
use crate::told::errors::Result;
use crate::told::explain;

/// Rights to files that a ruleset speaks of, and since which version of Landlock: what it speaks of and does not allow is
/// forbidden. See landlock(7), "Filesystem actions".
const ACTIONS: [(u32, u64); 4] = [(1, 0x1fff), (2, 1 << 13), (3, 1 << 14), (5, 1 << 15)];

// ANCHOR: landlock
/// Opens, makes and removes no file any more: a ruleset without any rule allows nothing that it speaks of.
pub fn give_up_files() -> Result<()> {
    let Some(version) = version() else {
        explain::remark("this kernel has no Landlock: init could open files");
        return Ok(());
    };
    let actions =
        ACTIONS.iter().filter(|(since, _)| *since <= version).fold(0, |all, (_, actions)| all | actions);
    let ruleset = sys::landlock_create_ruleset("speak of every right to a file, and allow none", actions)?;
    sys::landlock_restrict_self("init has no business with files", &ruleset)
}
// ANCHOR_END: landlock

/// The version of Landlock that the kernel has; none if it was not built in or not switched on.
pub fn version() -> Option<u32> {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    let (nothing, size) = (std::ptr::null::<u64>(), 0_usize);
    // SAFETY: nothing is handed over, which this flag allows.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, nothing, size, LANDLOCK_CREATE_RULESET_VERSION)
    };
    Errno::result(version).ok().map(|version| version as u32)
}
