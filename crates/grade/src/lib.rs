//! The grader: runs a program as a black box, and says for each task of a chapter whether it is done.
//!
//! A verdict depends on what the program does and on nothing else, so any program with the chapter's command
//! line can be graded, in any language. Each check runs in a lab of its own ([`inside`]).
//!
//! What the grader holds, and what it does not: a submission can neither read nor write the grader's
//! memory and descriptors, sees neither the answers nor the other chapters' programs, has inputs that differ
//! from run to run, and is bounded in time, output, processes, memory and disk. But the lab keeps out
//! accidents rather than malice, as [`cooperage::workshop::lab`] says: who grades strangers does it as an ordinary user, or in
//! a virtual machine.

pub mod chapter;
pub mod check;
pub mod checks;
pub mod class;
pub mod classic;
pub mod compile;
pub mod formats;
pub mod handout;
pub mod inside;
pub mod print;
pub mod report;
pub mod tasks;
