//! Exercise 8: root that is not root.
//!
//! A container whose users are its own: whom they are outside, who else has them, to whom a file belongs, and what they are
//! called. The program has a part of chapter 8's command line, and these options:
//!
//! - `--map INSIDE:OUTSIDE:COUNT` says who the container's users and groups are outside.
//! - `--pool START:RANGES` has the runtime choose: one of so many ranges of 65,536 users, the first of which begins with user START.
//! - `--shared SRC:DST` mounts a directory of the host, whose files belong inside to whom they belong on disk.
//! - `--user NAME` runs the command as a user of the container's own /etc/passwd.
//!
//! What is done already: the container, and the stage on which the runtime lays out what the container copies. Without
//! `--map` and `--pool` the users are those of chapter 8. What the options do is yours.
#![allow(unused, clippy::all, clippy::diverging_sub_expression, clippy::todo)]

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use cooperage::container::host::Host;
use cooperage::container::overlay::Overlay;
use cooperage::container::process::{self, Process, Status};
use cooperage::container::root::NewRoot;
use cooperage::container::stage::Stage;
use cooperage::container::state::claim::Claim;
use cooperage::container::state::directory::{lock, state_directory};
use cooperage::container::sys::{self, CloneFlags};
use cooperage::container::user::map::{Extent, Map};
use cooperage::container::user::{Mode, User, Users};
use cooperage::container::volume::Volume;
use cooperage::container::{ipc, mount, network, root};
use cooperage::told::errors::{Error, Result};
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::Mode as Permissions;
use nix::unistd::{Gid, Pid, Uid};

/// Run a command as root of a user namespace, who is nobody outside.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: cli::Common,
    /// Network to connect the container to: there is only `none`
    #[arg(long, value_name = "MODE", value_enum, default_value_t = network::Mode::None)]
    network: network::Mode,
    /// Who the container's users and groups are outside
    #[arg(long, value_name = "INSIDE:OUTSIDE:COUNT", value_parser = three_numbers)]
    map: Option<Extent>,
    /// Ranges of 65536 users to choose one from
    #[arg(long, value_name = "START:RANGES", value_parser = two_numbers)]
    pool: Option<(u32, u32)>,
    /// Directory of the host to mount inside, with its owners
    #[arg(long, value_name = "SRC:DST")]
    shared: Option<String>,
    /// User of the container's /etc/passwd to run the command as
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

/// How many users a range has.
const SIZE: u32 = 65536;

fn main() -> ExitCode {
    cli::exit_with(run(&Args::parse()))
}

fn run(args: &Args) -> Result<Status> {
    args.common.begin();
    let mut host = Host::enter()?;
    let rootfs = Rootfs::find(args.common.rootfs.as_deref())?;
    // Held until the container has ended.
    let mut range = None;
    let users = match (args.map, args.pool) {
        (Some(extent), _) => mapped(extent),
        (None, Some((start, ranges))) => {
            let _nobody_else_chooses = lock("users")?;
            let (first, claim) = a_range_of_its_own(start, ranges, &claims()?)?;
            range = Some(claim);
            mapped(Extent { inside: 0, outside: first, count: SIZE })
        }
        (None, None) => Users::new(Mode::Private)?,
    };
    let mut stage = Stage::new(&host, &users)?;
    let overlay = Overlay::new(&mut host, rootfs.path(), None)?.on_stage(&mut stage)?;
    let shared = args.shared.as_deref().map(|text| split(text, &stage)).transpose()?;

    let namespaces = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET;
    let mut child = process::spawn(namespaces, |parent| {
        parent.until_released()?;
        users.become_root(parent)?;
        mount::copy_mounts()?;
        mount::make_private()?;
        let root = overlay.mount()?;
        mount::furnish(&root)?;
        ipc::mount_mqueue(&root)?;
        if let Some((_, place, target)) = &shared {
            format!("{}:{target}", place.display()).parse::<Volume>().map_err(unusable)?.mount(&root)?;
        }
        let mut process = Process::new(&args.common.command);
        if let Some(name) = &args.user {
            process.user = Some(find_user(&root, name, &users)?);
        }
        root::pivot_into(&root)?;
        process::exec(process)
    })?;

    let namespace = child.namespace("user")?;
    match args.map {
        Some(extent) => write_maps(child.pid(), extent)?,
        None => drop(users.write_maps(&mut child)?),
    }
    if let Some((source, place, _)) = &shared {
        share(source, place, &namespace)?;
    }
    stage.set(&users, Some(namespace))?;
    let status = child.release()?.wait();
    drop(range);
    status
}

/// Task 8.1 (5 points, two stars, 20 minutes): who is who.
///
/// The child `child` stands still in a new user namespace, in which nobody has a number yet. Write its maps, for users and
/// for groups, so that `extent.count` numbers, from `extent.inside` on, are those from `extent.outside` on out here.
/// [`sys::write_file`] writes a file with one write(2).
///
/// Done when `/proc/PID/uid_map` and `gid_map` say so, a file of the container's belongs outside to whom they say, and the
/// container's root may still change its groups.
fn write_maps(child: Pid, extent: Extent) -> Result<()> {
    todo!("task 8.1")
}

/// Task 8.2 (5 points, two stars, 25 minutes): a range of one's own.
///
/// There are `ranges` ranges of [`SIZE`] users, one after the other; the first begins with user `start`. Choose one that no
/// living container has, and return its first user, and what keeps others from it as long as it is not dropped.
/// `claims` is a directory for that, the same for all runtimes; [`Claim::take`] locks a file in it, or says that somebody else
/// has. While this runs, no other runtime chooses.
///
/// Done when no two containers that are alive share a user, all ranges of the pool can be used, that of a runtime that was
/// killed by SIGKILL too, and a container too many is an error with status 125.
fn a_range_of_its_own(start: u32, ranges: u32, claims: &Path) -> Result<(u32, Claim)> {
    todo!("task 8.2")
}

/// Task 8.3 (4 points, three stars, 20 minutes): a mount that translates owners.
///
/// Make the directory `source` appear at `place`, so that whoever looks at it there sees each file belong to the user
/// whom `users`, an open user namespace, has under the number that the file has on disk: what belongs to 0 on disk belongs to the
/// container's root. No owner on disk changes. `sys` has open_tree, mount_setattr_idmap and move_mount.
///
/// Done when the container's users own inside what they would own on disk, and what they make there belongs on disk to their
/// numbers inside.
fn share(source: &Path, place: &Path, users: &File) -> Result<()> {
    todo!("task 8.3")
}

/// Task 8.4 (6 points, three stars, 35 minutes): a name that the container knows.
///
/// `name` is a user of `etc/passwd` in `root`, the container's root directory. Return its number, its group's, and those of the
/// groups in `etc/group` that name it as a member. See passwd(5) and group(5). The files are the container's and may be
/// anything. [`NewRoot::open_to_read`] opens one, follows links as the container would, and does not wait. `users.uids` and
/// `users.gids` are the maps: [`Map::outside`] is None for a number that is not in it.
///
/// Done when the command runs as that user, in those groups; and when whatever cannot be right is an error, status 125,
/// and the command does not run: an unknown name, a file that is no regular file, or that is larger than a megabyte, a
/// number that is none, or that the container does not have.
fn find_user(root: &NewRoot, name: &str, users: &Users) -> Result<User> {
    todo!("task 8.4")
}

/// The same numbers for users and for groups.
fn mapped(extent: Extent) -> Users {
    Users::mapped(Map(vec![extent]), Map(vec![extent]))
}

/// The directory of the claims, which is made if it is not there.
fn claims() -> Result<PathBuf> {
    let directory = state_directory()?.join("exercise-ranges");
    std::fs::create_dir_all(&directory).map_err(|error| Error::io("choose users", &directory, &error))?;
    Ok(directory)
}

/// SRC:DST, and a place on the stage for it.
fn split(text: &str, stage: &Stage) -> Result<(PathBuf, PathBuf, String)> {
    let (source, target) =
        text.split_once(':').ok_or_else(|| unusable("--shared wants SRC:DST".to_string()))?;
    Ok((source.into(), stage.place("shared")?, target.to_string()))
}

fn unusable(what: String) -> Error {
    Error::new("share a directory", what).status(2)
}

fn numbers(text: &str) -> Result<Vec<u32>, String> {
    text.split(':').map(|word| word.parse().map_err(|_| format!("{word:?} is no number"))).collect()
}

fn three_numbers(text: &str) -> Result<Extent, String> {
    match numbers(text)?[..] {
        [inside, outside, count] => Ok(Extent { inside, outside, count }),
        _ => Err("three numbers are wanted: INSIDE:OUTSIDE:COUNT".to_string()),
    }
}

fn two_numbers(text: &str) -> Result<(u32, u32), String> {
    match numbers(text)?[..] {
        [start, ranges] => Ok((start, ranges)),
        _ => Err("two numbers are wanted: START:RANGES".to_string()),
    }
}
