//! Chapter 10's runtime below the programs that drive one: docker, podman, and containerd with ctr. Each case is run with
//! runc and crun as well, so that a red one is known to be ours or theirs.
//!
//! `docker_runs::chapter10::root` is one; as an ordinary user, `podman_runs::chapter10::user`. The daemons live in the lab
//! and end with it. What the clients are given to run is this workbook's root filesystem, as an image.

#![allow(clippy::panic)] // that is how a test fails

mod support;

#[path = "clients/ctr.rs"]
mod ctr;
#[path = "clients/engine.rs"]
mod engine;
#[path = "clients/features.rs"]
mod features;
#[path = "clients/left.rs"]
mod left;

use cooperage::container::mountinfo;
use cooperage::workshop::lab::Layout;
use engine::{ALL_DEVICES, Engine, Runtime, allow_devices};
use support::{ANOTHER_USER, BOTH, Case, ROOT, ROOT_ITSELF};

/// What each client can't go without, before the runtime.
const DOCKER: [&str; 8] = [
    ROOT_ITSELF,
    "program-docker",
    "program-dockerd",
    "program-containerd",
    "overlay",
    "cgroup-memory",
    "cgroup-pids",
    "cgroup-devices",
];
const PODMAN: [&str; 7] = [
    ROOT_ITSELF,
    ANOTHER_USER,
    "program-podman",
    "program-conmon",
    "program-newuidmap",
    "program-newgidmap",
    "overlay",
];
const LIMITS: [&str; 4] = ["cgroup-memory", "cgroup-cpu", "cgroup-pids", "cgroup-freezer"];
const CTR: [&str; 6] =
    [ROOT_ITSELF, "program-containerd", "program-ctr", "overlay", "cgroup-memory", "cgroup-devices"];

fn main() -> std::process::ExitCode {
    let mut cases = Vec::new();
    // A function pointer knows no runtime: a macro makes one for each.
    macro_rules! with_each_runtime {
        ($name:literal, $who:expr, $needs:expr, $test:expr) => {{
            let mut add = |name, runtime: Runtime, test| {
                cases.push(Case {
                    name,
                    who: $who,
                    needs: [&$needs[..], runtime.needs()].concat().leak(),
                    lab: layout(runtime),
                    test,
                });
            };
            add(concat!($name, "::chapter10"), Runtime::Chapter10, |who| $test(Runtime::Chapter10, who));
            add(concat!($name, "::runc"), Runtime::Runc, |who| $test(Runtime::Runc, who));
            add(concat!($name, "::crun"), Runtime::Crun, |who| $test(Runtime::Crun, who));
        }};
    }
    macro_rules! docker {
        ($name:literal, $test:expr) => {
            with_each_runtime!($name, ROOT, DOCKER, |runtime, _| $test(Engine::docker(runtime, &[])));
        };
    }
    docker!("docker_runs", features::runs);
    docker!("docker_execs", features::execs);
    docker!("docker_gives_a_terminal", features::gives_a_terminal);
    docker!("docker_mounts", features::mounts);
    docker!("docker_limits", features::limits);
    docker!("docker_changes_limits", features::changes_limits);
    docker!("docker_takes_power_away", features::takes_power_away);
    with_each_runtime!("docker_leaves_all_power", ROOT, DOCKER, |runtime, _| {
        allow_devices(ALL_DEVICES);
        features::leaves_all_power(Engine::docker(runtime, &[]))
    });
    docker!("docker_stops_and_restarts", features::stops_and_restarts);
    docker!("docker_pauses", features::pauses);
    docker!("docker_asks_for_health", features::asks_for_health);
    docker!("docker_builds", features::builds);
    cases.push(Case {
        name: "docker_calls::chapter10",
        who: ROOT,
        needs: &DOCKER,
        lab: Layout::Host,
        test: |_| features::calls(Engine::docker(Runtime::Chapter10, &[])),
    });
    with_each_runtime!("docker_maps_users", ROOT, DOCKER, |runtime, _| features::maps_users(
        Engine::docker_with_users(runtime)
    ));

    macro_rules! podman {
        ($name:literal, $who:expr, $test:expr) => {
            with_each_runtime!($name, $who, PODMAN, |runtime, who| $test(Engine::podman(runtime, who)));
        };
    }
    podman!("podman_runs", BOTH, features::runs);
    podman!("podman_execs", BOTH, features::execs);
    podman!("podman_gives_a_terminal", BOTH, features::gives_a_terminal);
    podman!("podman_mounts", BOTH, features::mounts);
    podman!("podman_takes_power_away", BOTH, features::takes_power_away);
    podman!("podman_stops_and_restarts", BOTH, features::stops_and_restarts);
    podman!("podman_asks_for_health", BOTH, features::asks_for_health);
    podman!("podman_builds", BOTH, features::builds);
    podman!("podman_maps_users", BOTH, features::maps_users);
    // With version 1 an ordinary user has no cgroup; with version 2 the lab would have to hand one on.
    let limits = [&PODMAN[..], &LIMITS].concat();
    with_each_runtime!("podman_limits", ROOT, limits, |runtime, who| features::limits(Engine::podman(
        runtime, who
    )));
    with_each_runtime!("podman_pauses", ROOT, limits, |runtime, who| features::pauses(Engine::podman(
        runtime, who
    )));
    // An ordinary user's is to have a /sys that can be written to, and the lab has none.
    with_each_runtime!("podman_leaves_all_power", ROOT, PODMAN, |runtime, who| {
        allow_devices(ALL_DEVICES);
        features::leaves_all_power(Engine::podman(runtime, who))
    });

    with_each_runtime!("ctr_runs", ROOT, CTR, |runtime, _| ctr::runs(runtime));
    with_each_runtime!("ctr_takes_power_away", ROOT, CTR, |runtime, _| ctr::takes_power_away(runtime));
    with_each_runtime!("ctr_limits", ROOT, CTR, |runtime, _| ctr::limits(runtime));
    with_each_runtime!("ctr_execs_and_kills", ROOT, CTR, |runtime, _| ctr::execs_and_kills(runtime));
    support::main(cases)
}

/// crun refuses a mixture of both versions of cgroups, such as a machine whose systemd is content with version 1.
fn layout(runtime: Runtime) -> Layout {
    let mounts = mountinfo::here().unwrap_or_default();
    let has_v1 = mounts.iter().any(|mount| mount.kind == "cgroup");
    if runtime == Runtime::Crun && has_v1 { Layout::V1 } else { Layout::Host }
}
