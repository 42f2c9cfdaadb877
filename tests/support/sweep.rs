//! At which chapters a behaviour is tested: at the one that brings it and at the newest. If it were tested at each in
//! between as well, tests would grow with the square of the chapters. `COOPERAGE_SWEEP=all` does that all the same.

use cooperage::workshop::chapters;

/// The newest chapter whose program has the command line that all of Part I have.
pub const NEWEST: u32 = chapters::NEWEST_CONTAINER as u32;

/// The chapter that brings a mount namespace.
const MOUNT_NAMESPACE: u32 = 3;

/// The chapter that brings users of its own.
pub const OWN_USERS: u32 = 8;
/// From this chapter on a command has less power than its user.
pub const LESS_POWER: u32 = 9;

/// The variable, which reaches a case in its lab and in the virtual machine.
const SWEEP: &str = "COOPERAGE_SWEEP";

/// For what came with chapter `first` and holds from then on.
pub fn since(first: u32) -> Vec<u32> {
    within(first, NEWEST)
}

/// For what holds from chapter `first` to chapter `last`, which another one then changes.
pub fn within(first: u32, last: u32) -> Vec<u32> {
    let all = first..=last;
    if std::env::var_os(SWEEP).is_some_and(|asked| asked == "all") || first == last {
        return all.collect();
    }
    vec![first, last]
}

/// For what differs with the root: changed with chroot, and mounts are where everybody sees them, or in a mount namespace.
pub fn since_each_kind_of_root() -> Vec<u32> {
    [within(chapters::FIRST.into(), MOUNT_NAMESPACE - 1), since(MOUNT_NAMESPACE)].concat()
}

/// Every chapter: where what they differ in is what is tested, and each has a snapshot.
pub fn every() -> Vec<u32> {
    from(chapters::FIRST.into())
}

/// Every chapter from `first` on, for the same reason.
pub fn from(first: u32) -> Vec<u32> {
    (first..=NEWEST).collect()
}

/// Has the chapter's container an init, so that the command is not process 1?
pub fn has_init(number: u32) -> bool {
    let is_it = |chapter: &&chapters::Chapter| u32::from(chapter.number) == number;
    chapters::CHAPTERS.iter().find(is_it).is_some_and(|chapter| chapter.takes("--init"))
}
