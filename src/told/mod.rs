//! What a reader is told: errors that name the step, the call and the remedy, and the narration of `--explain`.
//!
//! The ground floor. Everything else imports it, and it imports nothing of this crate.

pub mod errors;
pub mod explain;
