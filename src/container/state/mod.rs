//! Before the story: what a runtime has to remember while its container lives, and others may have to know.
//!
//! - [`directory`]: where this user's runtimes keep it;
//! - [`claim`]: a locked file, which the kernel unlocks whatever its holder dies of;
//! - [`pool`]: one of many, which belongs to whoever has its claim;
//! - [`ledger`]: what the kernel does not undo by itself.

pub mod claim;
pub mod directory;
pub mod ledger;
pub mod pool;
