//! The chapters, each seen from inside and from outside the container.

#![allow(clippy::panic)] // that is how a test fails

mod support;

#[path = "chapters/applets.rs"]
mod applets;
#[path = "chapters/cgroups.rs"]
mod cgroups;
#[path = "chapters/cgroups_v2.rs"]
mod cgroups_v2;
#[path = "chapters/console.rs"]
mod console;
#[path = "chapters/ending.rs"]
mod ending;
#[path = "chapters/errors.rs"]
mod errors;
#[path = "chapters/explain.rs"]
mod explain;
#[path = "chapters/isolation.rs"]
mod isolation;
#[path = "chapters/leftovers.rs"]
mod leftovers;
#[path = "chapters/library.rs"]
mod library;
#[path = "chapters/libseccomp.rs"]
mod libseccomp;
#[path = "chapters/mounts.rs"]
mod mounts;
#[path = "chapters/names.rs"]
mod names;
#[path = "chapters/network.rs"]
mod network;
#[path = "chapters/power.rs"]
mod power;
#[path = "chapters/rootfs.rs"]
mod rootfs;
#[path = "chapters/status.rs"]
mod status;
#[path = "chapters/uplink.rs"]
mod uplink;
#[path = "chapters/users.rs"]
mod users;

fn main() -> std::process::ExitCode {
    let mut cases = Vec::new();
    cases.extend(status::cases());
    cases.extend(isolation::cases());
    cases.extend(rootfs::cases());
    cases.extend(applets::cases());
    cases.extend(mounts::cases());
    cases.extend(names::cases());
    cases.extend(network::cases());
    cases.extend(cgroups::cases());
    cases.extend(cgroups_v2::cases());
    cases.extend(ending::cases());
    cases.extend(users::cases());
    cases.extend(uplink::cases());
    cases.extend(power::cases());
    cases.extend(console::cases());
    cases.extend(errors::cases());
    cases.extend(explain::cases());
    cases.extend(leftovers::cases());
    cases.extend(library::cases());
    support::main(cases)
}
