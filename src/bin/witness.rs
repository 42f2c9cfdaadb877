//! Prints what a process sees, as JSON: `witness [KEY]...`. The work is done in [`witness::main`].
//!
//! It has the `main` of C, because Rust's own start-up changes what is to be reported: it ignores SIGPIPE
//! and opens /dev/null in the place of a closed standard stream.
#![cfg_attr(not(test), no_main)]

use std::ffi::{c_char, c_int};

use cooperage::workshop::witness;

/// Called by the C library.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    let keys: Vec<String> = std::env::args_os().skip(1).map(|key| key.to_string_lossy().into()).collect();
    witness::main(&keys)
}
