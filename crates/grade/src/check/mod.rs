//! What a check is written with: start the submission, look at it, and say what is wrong.
//!
//! A check runs inside a lab of its own, as the lab's root. The submission is a program with the chapter's
//! command line; nothing else about it is known, neither its language nor its way. Its output, its
//! processes and what it leaves behind are all that a check judges.

mod host;
mod session;
mod trial;
mod verdict;

pub use host::{children, descendants, is_missing, namespace, status_of};
pub use session::Session;
pub use trial::{Check, Trial};
pub(crate) use verdict::cannot;
pub use verdict::{DISK, Failure, OUTPUT, PROCESSES, Run, TIME, code, shorten};
