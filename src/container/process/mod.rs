//! Chapter 1: processes. How the container's first process is born, becomes the command, and ends.
//!
//! The runtime makes one child with clone(2). The child makes itself a container, step by step, and at
//! last becomes the command with execve(2). Two pipes connect the two halves: on one the child waits
//! until its parent has done what only the parent can do; on the other it reports the step that failed.
//! Both are closed by execve(2).
//!
//! - [`spawn`](mod@spawn): how it is born, and what its own half of the story may do;
//! - [`newborn`]: what its maker holds of it, which may outlive the maker;
//! - [`child`]: a child that is watched over until its end;
//! - [`exec`](mod@exec): becoming the command;
//! - [`signals`]: what arrives meanwhile.

pub mod child;
pub mod exec;
pub mod newborn;
pub mod signals;
pub mod spawn;

pub use child::Child;
pub use exec::{PATH, Process, exec};
pub use newborn::{Newborn, Status};
pub use signals::default_signals;
pub use spawn::{Parent, bear, spawn, spawn_into, spawn_on};
