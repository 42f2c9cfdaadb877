//! Exercise 9: less power.
//!
//! A container whose command may do no more than it needs. The program has a part of chapter 9's command line, and these
//! options:
//!
//! - `--keep NAMES` says which capabilities the command keeps, such as `KILL,NET_RAW`; `none` for none.
//! - `--filter` loads a filter for system calls; `--print-filter` prints it, one instruction a line, and ends.
//! - `--mask PATH` hides a file or a directory. It can be given more than once.
//! - `--user UID` runs the command as this user.
//!
//! What is done already: the container. What the options do is yours.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use cooperage::container::capability::Capability;
use cooperage::container::host::Host;
use cooperage::container::mount::is_directory;
use cooperage::container::overlay::Overlay;
use cooperage::container::power::capabilities::{Choice, Set};
use cooperage::container::process::{self, Process, Status};
use cooperage::container::root::NewRoot;
use cooperage::container::seccomp::program::Instruction;
use cooperage::container::sys::{self, CloneFlags};
use cooperage::container::{mount, network, root};
use cooperage::told::errors::{Error, Result};
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid};

/// Run a command that may do no more than it needs.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: cli::Common,
    /// Network to connect the container to: there is only `none`
    #[arg(long, value_name = "MODE", value_enum, default_value_t = network::Mode::None)]
    network: network::Mode,
    /// Capabilities that the command keeps
    #[arg(long, value_name = "NAMES", value_parser = names)]
    keep: Option<Set>,
    /// Load the filter for system calls
    #[arg(long)]
    filter: bool,
    /// Print the filter, and end
    #[arg(long)]
    print_filter: bool,
    /// File or directory of the container to hide
    #[arg(long, value_name = "PATH")]
    mask: Vec<String>,
    /// User to run the command as
    #[arg(long, value_name = "UID")]
    user: Option<u32>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.print_filter {
        for instruction in assemble() {
            let Instruction { code, if_true, if_false, operand } = instruction;
            println!("{code} {if_true} {if_false} {operand}");
        }
        return ExitCode::SUCCESS;
    }
    cli::exit_with(run(&args))
}

fn run(args: &Args) -> Result<Status> {
    args.common.begin();
    let mut host = Host::enter()?;
    let rootfs = Rootfs::find(args.common.rootfs.as_deref())?;
    let overlay = Overlay::new(&mut host, rootfs.path(), None)?;
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET;
    let child = process::spawn(namespaces, |parent| {
        parent.until_released()?;
        mount::make_private()?;
        let root = overlay.mount()?;
        mount::furnish(&root)?;
        for path in &args.mask {
            mask(&root, path.trim_start_matches('/'))?;
        }
        root::pivot_into(&root)?;
        be_generous()?;
        if args.filter {
            sys::set_no_new_privs("nobody but root may load a filter without")?;
            let program: Vec<_> = assemble().iter().map(Instruction::for_kernel).collect();
            sys::seccomp("load the filter", &program)?;
        }
        if let Some(set) = args.keep {
            keep(set)?;
        }
        if let Some(user) = args.user {
            become_user(Uid::from_raw(user), Gid::from_raw(user))?;
        }
        process::exec(Process::new(&args.common.command))
    })?;
    child.release()?.wait()
}

/// Task 9.1 (5 points, two stars, 25 minutes): drop it so that it is gone.
///
/// This process has more capabilities than its command is to have, in all of the five sets that capabilities(7) tells of.
/// Let it keep those of `set`, and let every program that it starts as root have exactly these: `set` as effective, permitted and
/// bounding set, and nothing in the other two.
/// [`Capability::drop_from_bounding_set`], [`sys::capset`] and [`sys::clear_ambient`] are there, and
/// [`Capability::is_known_to_kernel`]: a newer kernel has more than [`Capability::KNOWN`].
///
/// Done when the five lines of the command's /proc/self/status say so, whatever `set` is.
fn keep(set: Set) -> Result<()> {
    // answer 9.1
    const STEP: &str = "drop capabilities";
    // The lid first: to change it takes CAP_SETPCAP.
    for capability in (0..64).map(Capability).take_while(|capability| capability.is_known_to_kernel()) {
        if !set.contains(capability) {
            capability
                .drop_from_bounding_set()
                .map_err(|errno| Error::call(STEP, "prctl(PR_CAPBSET_DROP)", errno))?;
        }
    }
    sys::clear_ambient("hand nothing on")?;
    sys::capset("keep these", set.0, set.0, 0)
    // end of answer 9.1
}

/// Task 9.2 (6 points, three stars, 40 minutes): a filter by hand.
///
/// Return a program of classic BPF for seccomp(2) that
///
/// - answers EPERM to mkdir(2) and mkdirat(2);
/// - answers EPERM to ioctl(2) with the request TIOCSTI, whatever the kernel does not look at in that argument (it looks at
///   32 bits of it);
/// - answers ENOSYS to clone3(2), and to every call that is none of this machine's own: of another architecture, or an x32
///   call, whose numbers begin with 0x40000000;
/// - allows everything else.
///
/// [`Instruction`] is struct sock_filter by other names; the module that it is in has names for the codes, for where things are in struct
/// seccomp_data, and for this machine's architecture. `libc` has the numbers of the calls, such as `libc::SYS_clone3`.
///
/// Done when the program that `--print-filter` prints answers so to every call, and the kernel takes it.
fn assemble() -> Vec<Instruction> {
    // answer 9.2
    use cooperage::container::seccomp::program::{
        ARCHITECTURE, AUDIT_ARCH, IF_EQUAL, IF_NOT_LESS, LOAD, NUMBER, RETURN, X32,
    };
    const ALLOW: u32 = 0x7fff_0000;
    const REFUSE: u32 = 0x0005_0000;
    const REQUEST: u32 = 24; // the lower half of argument 1
    let step = |code, operand| Instruction { code, if_true: 0, if_false: 0, operand };
    let unless = |code, operand, if_false| Instruction { code, if_true: 0, if_false, operand };
    let errno = |number: Errno| step(RETURN, REFUSE | number as u32);
    let mut program = vec![
        step(LOAD, ARCHITECTURE),
        Instruction { code: IF_EQUAL, if_true: 1, if_false: 0, operand: AUDIT_ARCH },
        errno(Errno::ENOSYS),
        step(LOAD, NUMBER),
        unless(IF_NOT_LESS, X32, 1),
        errno(Errno::ENOSYS),
    ];
    let mut refused = vec![(libc::SYS_mkdirat, Errno::EPERM), (libc::SYS_clone3, Errno::ENOSYS)];
    #[cfg(target_arch = "x86_64")]
    refused.push((libc::SYS_mkdir, Errno::EPERM));
    for (number, error) in refused {
        program.extend([unless(IF_EQUAL, number as u32, 1), errno(error)]);
    }
    program.extend([
        unless(IF_EQUAL, libc::SYS_ioctl as u32, 3),
        step(LOAD, REQUEST),
        unless(IF_EQUAL, libc::TIOCSTI as u32, 1),
        errno(Errno::EPERM),
        step(RETURN, ALLOW),
    ]);
    program
    // end of answer 9.2
}

/// Task 9.3 (5 points, three stars, 30 minutes): hide a path from a hostile image.
///
/// Hide `name` in the new root: a file is covered by the container's /dev/null, which is there already, a directory by an empty
/// one that nobody can write to. What is not there needs no cover. The root filesystem may be anyone's: if `name`, or a
/// directory on the way to it, is a symbolic link, nothing is covered, and the container does not start (status 125).
/// `root.as_fd()` is the root directory. [`sys::open_beneath`] opens what is below a directory, and follows no link.
/// [`NewRoot::empty_directory`] has an empty one; `sys` has open_tree, mount_setattr_read_only and move_mount.
///
/// Done when a masked file has nothing in it, a masked directory is empty, what is beside them is not changed, and nothing out
/// here is covered, whatever is in the root filesystem.
fn mask(root: &NewRoot, name: &str) -> Result<()> {
    // answer 9.3
    let why = "hide it";
    let target = match sys::open_beneath(why, root.as_fd(), Path::new(name), OFlag::O_PATH) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(()),
        found => found?,
    };
    let cover = if is_directory(&target)? {
        root.empty_directory()?
    } else {
        sys::open_beneath(why, root.directory("dev")?.as_fd(), Path::new("null"), OFlag::O_PATH)?
    };
    let cover = sys::open_tree(why, cover.as_fd(), Path::new(""), false)?;
    sys::mount_setattr_read_only(why, cover.as_fd())?;
    sys::move_mount(why, cover.as_fd(), target.as_fd())
    // end of answer 9.3
}

/// Task 9.4 (4 points, two stars, 20 minutes): another user, and no way back.
///
/// Become `user`, in `group` and in no other group, in all four numbers that a process has for each of the two; and let no
/// program that the command starts bring it back to root, not even one that is set-user-ID.
/// `sys` has setgroups, setresgid, setresuid and set_no_new_privs.
///
/// Done when the command's /proc/self/status says so, and a set-user-ID program of root's runs as `user`.
fn become_user(user: Uid, group: Gid) -> Result<()> {
    // answer 9.4
    sys::setgroups("be in no other group", &[])?;
    sys::setresgid("be in this group", group)?;
    sys::setresuid("be this user", user)?;
    sys::set_no_new_privs("let no program give more")
    // end of answer 9.4
}

/// As if whoever started this had been generous: what it is permitted it could hand on, some of it passes through
/// execve(2), and it is in groups that own devices.
fn be_generous() -> Result<()> {
    const GROUPS: [u32; 2] = [6, 20];
    // An ordinary user has none to give.
    let _ = nix::unistd::setgroups(&GROUPS.map(Gid::from_raw));
    let all = sys::permitted().map_err(|errno| Error::call("look what there is", "capget()", errno))?;
    sys::capset("have it all in three sets", all, all, all)?;
    for capability in [Capability::KILL, Capability::NET_RAW].into_iter().filter(|one| one.is_in(all)) {
        sys::raise_ambient("and some in a fourth", capability)?;
    }
    Ok(())
}

/// Names with commas between them, or `none`.
fn names(text: &str) -> Result<Set, String> {
    let one = |name: &str| match name.parse()? {
        Choice::One(capability) => Ok(capability),
        Choice::All => Err("ALL is not one of them".to_string()),
    };
    match text {
        "none" => Ok(Set::default()),
        _ => text.split(',').map(one).collect::<Result<Vec<_>, String>>().map(Set::of),
    }
}
