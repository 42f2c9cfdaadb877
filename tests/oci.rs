//! Chapter 10's runtime without any client: by its command line, as the standard has it, and against hostile bundles.

#![allow(clippy::panic)] // that is how a test fails

mod support;

#[path = "oci/kit.rs"]
mod kit;
#[path = "oci/lifecycle.rs"]
mod lifecycle;

fn main() -> std::process::ExitCode {
    let mut cases = Vec::new();
    cases.extend(lifecycle::cases());
    support::main(cases)
}
