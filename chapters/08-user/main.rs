//! Chapter 8: root that is not root.
//!
//! The container has users of its own. Its user 0 may do everything that root may, to what is the container's, and is
//! nobody outside.

use std::process::ExitCode;

use clap::Parser;
use cooperage::container::cgroup::Cgroup;
use cooperage::container::host::Host;
use cooperage::container::network::Network;
use cooperage::container::overlay::Overlay;
use cooperage::container::process::{self, Status};
use cooperage::container::stage::Stage;
use cooperage::container::sys::CloneFlags;
use cooperage::container::user::{Users, keys};
use cooperage::container::{init, ipc, mount, root, uts};
use cooperage::told::errors::Result;
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;

/// Run a command as root of a user namespace, who is nobody outside.
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
}

fn main() -> ExitCode {
    cli::exit_with(run(&Args::parse()))
}

fn run(args: &Args) -> Result<Status> {
    args.common.begin();
    let mut host = Host::enter_with_users()?;
    let rootfs = Rootfs::find(args.common.rootfs.as_deref())?;
    let users = Users::new(args.identity.userns)?;
    let mut stage = Stage::new(&host, &users)?;
    let overlay = Overlay::new(&mut host, rootfs.path(), args.mounts.upper.as_deref())?;
    let overlay = overlay.on_stage(&mut stage)?;
    let volumes = args.mounts.volumes(&mut stage)?;
    let hostname = args.names.hostname()?;
    let network = Network::with_uplink(&mut host, args.networks.network)?;
    let cgroup = Cgroup::new(&mut host, &args.resources.limits())?;

    let namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | network.namespace()
        | users.namespace();
    let mut child = process::spawn_into(cgroup.open()?, namespaces, |parent| {
        cgroup.enter(parent)?;
        parent.until_released()?;
        users.become_root(parent)?;
        keys::leave_keyring()?;
        mount::copy_mounts()?;
        mount::make_private()?;
        let root = overlay.mount()?;
        mount::furnish(&root)?;
        cgroup.mount_view(&root)?;
        ipc::mount_mqueue(&root)?;
        uts::set_hostname(&hostname)?;
        uts::provide_names(&root, &hostname, network.address())?;
        network.provide_resolver(&root)?;
        for volume in &volumes {
            volume.mount(&root)?;
        }
        let process = args.identity.process(&args.common.command, &users, &root)?;
        root::pivot_into(&root)?;
        parent.until_released()?;
        network.set_up_inside()?;
        if args.ending.init() { init::run(parent, || process::exec(process)) } else { process::exec(process) }
    })?;

    stage.set(&users, users.write_maps(&mut child)?)?;
    cgroup.delegate(&users)?;
    let mut child = child.release()?;
    network.plug_in(&mut child)?;
    let status = child.release()?.wait_or_stop(args.ending.grace(), || cgroup.thaw());
    cli::complain(cgroup.memory_report());
    status
}
