//! Chapter 10's runtime without any client: by its command line, as the standard has it, and against hostile bundles.

#![allow(clippy::panic)] // that is how a test fails

mod support;

#[path = "oci/config.rs"]
mod config;
#[path = "oci/exec.rs"]
mod exec;
#[path = "oci/hooks.rs"]
mod hooks;
#[path = "oci/hostile.rs"]
mod hostile;
#[path = "oci/kit.rs"]
mod kit;
#[path = "oci/lifecycle.rs"]
mod lifecycle;
#[path = "oci/schemas.rs"]
mod schemas;

use support::{Case, ROOT, Who};

fn main() -> std::process::ExitCode {
    support::main(all())
}

fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(lifecycle::cases());
    cases.extend(hooks::cases());
    cases.extend(exec::cases());
    cases.extend(config::cases());
    cases.extend(hostile::cases());
    cases.extend(schemas::cases());
    cases.push(Case::new("every_requirement_has_a_test", ROOT, every_requirement_has_a_test));
    cases
}

fn every_requirement_has_a_test(_: Who) {
    let names: Vec<&str> = all().iter().map(|case| case.name).collect();
    schemas::every_requirement_has_a_test(&names);
}
