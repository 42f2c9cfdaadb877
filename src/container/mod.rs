//! What the reader builds: one file for each kernel feature, in the order of the book.
//!
//! Each function here makes one decision of a container runtime; the order in which they are called
//! is the story that `chapters/NN-name/main.rs` tells.

pub mod sys;

// The kernel's own words: what is mounted, and what root may do
pub mod capability;
pub mod kernel;
pub mod mountinfo;

// Before the story: what is kept, and where programs are
pub mod programs;
pub mod state;
pub use state::ledger;

// Chapter 1
pub mod process;
pub mod root;
pub mod terminal;

// Chapter 2
pub mod pid;

// Chapter 3
pub mod mount;
pub mod overlay;
pub mod volume;

// Chapter 4
pub mod ipc;
pub mod uts;

// Chapter 5
pub mod net;
pub use net::{address, nat, netlink, network, uplink};

// Chapter 6
pub mod cgroup;

// Chapter 7
pub mod init;

// Chapter 8
pub mod stage;
pub mod user;

// Chapter 9
pub mod console;
pub mod power;
pub mod seccomp;

// Above the story: what enters, and what clears up
pub mod host;
pub mod sweep;
