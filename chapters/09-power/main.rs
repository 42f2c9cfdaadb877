//! Chapter 9: less power.
//!
//! The container's root is nobody outside. But it speaks to the same kernel as everybody, and that kernel has four hundred
//! system calls and a thousand files. Here it loses what it does not need: pieces of root's power, calls, files, devices.

use std::process::ExitCode;

use clap::Parser;
use cooperage::container::cgroup::Cgroup;
use cooperage::container::host::Host;
use cooperage::container::network::Network;
use cooperage::container::overlay::Overlay;
use cooperage::container::power::exe;
use cooperage::container::process::{self, Status};
use cooperage::container::stage::Stage;
use cooperage::container::sys::CloneFlags;
use cooperage::container::user::{Users, keys};
use cooperage::container::{init, ipc, mount, root, uts};
use cooperage::told::errors::Result;
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;

/// Run a command that may do no more than it needs.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: cli::Common,
    #[command(flatten)]
    mounts: cli::MappedMounts,
    #[command(flatten)]
    names: cli::Names,
    #[command(flatten)]
    networks: cli::Networks,
    #[command(flatten)]
    resources: cli::Resources,
    #[command(flatten)]
    ending: cli::Ending,
    #[command(flatten)]
    identity: cli::Identity,
    #[command(flatten)]
    restrictions: cli::Restrictions,
}

fn main() -> ExitCode {
    cli::exit_with(run(&Args::parse()))
}

fn run(args: &Args) -> Result<Status> {
    args.common.begin();
    exe::keep_out_of_reach(args.identity.userns)?;
    let mut host = Host::enter_with_users()?;
    let rootfs = Rootfs::find(args.common.rootfs.as_deref())?;
    let kept = args.restrictions.power()?;
    let limits = args.restrictions.devices_of(args.resources.limits())?;
    args.restrictions.check(args.networks.network)?;
    let users = Users::new(args.identity.userns)?;
    let mut stage = Stage::new(&host, &users)?;
    let overlay = Overlay::new(&mut host, rootfs.path(), args.mounts.upper.as_deref())?;
    let overlay = overlay.on_stage(&mut stage)?.labelled(args.restrictions.files_context()?);
    let volumes = args.mounts.volumes(&mut stage)?;
    let devices = args.restrictions.devices(&mut stage, &users)?;
    let hostname = args.names.hostname()?;
    let network = Network::with_uplink(&mut host, args.networks.network)?;
    let cgroup = Cgroup::new(&mut host, &limits)?;
    let console = args.restrictions.console()?;

    let namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | network.namespace()
        | users.namespace();
    let mut child = process::spawn_on(&console, cgroup.open()?, namespaces, |parent| {
        cgroup.enter(parent)?;
        parent.until_released()?;
        users.become_root(parent)?;
        keys::leave_keyring()?;
        mount::copy_mounts()?;
        mount::make_private()?;
        let root = overlay.mount()?;
        mount::furnish_with(&root, args.restrictions.shared_memory())?;
        cgroup.mount_view(&root)?;
        ipc::mount_mqueue(&root)?;
        uts::set_hostname(&hostname)?;
        uts::provide_names(&root, &hostname, network.address())?;
        network.provide_resolver(&root)?;
        for volume in volumes.iter().chain(&devices) {
            volume.mount(&root)?;
        }
        args.restrictions.cover(&root)?;
        let process = args.identity.process(&args.common.command, &users, &root)?.with_power(kept.clone());
        root::pivot_into(&root)?;
        parent.until_released()?;
        network.set_up_inside()?;
        args.restrictions.settle(&root)?;
        console.open(&root, process.user.as_ref())?;
        if !args.ending.init() {
            return process::exec(process);
        }
        init::run_confined(parent, || process::exec(process), || kept.confine_init())
    })?;

    args.restrictions.set_oom_score(&child)?;
    stage.set(&users, users.write_maps(&mut child)?)?;
    cgroup.delegate(&users)?;
    let mut child = child.release()?;
    network.plug_in(&mut child)?;
    let status = child.release()?.relaying(console).wait_or_stop(args.ending.grace(), || cgroup.thaw());
    cli::complain(cgroup.memory_report());
    status
}
