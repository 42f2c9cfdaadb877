//! What the library promises to later chapters, and no chapter's command line shows yet.

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cooperage::container::host::Host;
use cooperage::container::process::{self, Process, Status};
use cooperage::container::state::claim::Claim;
use cooperage::container::state::ledger::{self, Leftover};
use cooperage::container::sys::CloneFlags;
use cooperage::container::user::User;
use nix::mount::{MsFlags, mount};
use nix::unistd::{ForkResult, Gid, Uid, fork};

use crate::support::run::eventually;
use crate::support::{Case, ROOT, ROOT_ITSELF, Who};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("panic_in_the_childs_half_ends_the_child", ROOT, panic_ends_the_child),
        Case::new("process_runs_as_it_says", ROOT, process_runs_as_it_says).needs(&[ROOT_ITSELF]),
        Case::new("working_directory_is_inside", ROOT, working_directory_is_inside).needs(&[ROOT_ITSELF]),
        Case::new("child_waits_at_several_places", ROOT, child_waits_at_several_places),
        Case::new("newborn_outlives_its_maker", ROOT, newborn_outlives_its_maker),
        Case::new("newborn_that_was_not_released_gives_up", ROOT, newborn_gives_up),
    ]
}

fn sh(script: &str) -> Vec<OsString> {
    ["/bin/sh", "-c", script].map(OsString::from).into()
}

/// The child is a copy of its parent, and holds all that its parent holds. It must take none of it back.
fn panic_ends_the_child(_: Who) {
    let kept = PathBuf::from("/tmp/kept");
    fs::create_dir(&kept).expect("writable");
    let mut host = Host::enter().expect("it enters");
    host.note(&Leftover::Directory(kept.clone())).expect("it is noted");
    let claim = Claim::take("try", Path::new("/tmp/claim")).expect("no error").expect("nobody has it");
    let page = ledger::all_pages().expect("pages").pop().expect("one is ours");

    let child =
        process::spawn(CloneFlags::empty(), |_| panic!("the child's half panics, as this test wants"));
    let error = child.expect("it is born").wait().expect_err("it did not become a command");
    assert!(error.to_string().contains("panicked"), "{error}");

    assert!(kept.exists(), "the child has undone its parent's work");
    assert!(Claim::is_held(claim.path()), "the child has unlocked its parent's claim");
    assert!(page.exists() && Claim::is_held(&page), "the child has closed its parent's ledger");
    drop(host);
    assert!(!kept.exists() && !page.exists(), "at its own end the parent does");
}

fn process_runs_as_it_says(_: Who) {
    let process = Process {
        arguments: sh("id -u; id -g; id -G; pwd; umask; echo $FRUIT; >/tmp/new"),
        environment: vec!["PATH=/usr/bin:/bin".into(), "FRUIT=pear".into()],
        user: Some(User {
            uid: Uid::from_raw(1000),
            gid: Gid::from_raw(1001),
            groups: vec![Gid::from_raw(1002)],
        }),
        directory: "/usr".into(),
        umask: 0o077,
        power: None,
    };
    let said = fs::File::create("/tmp/said").expect("writable");
    let child = process::spawn(CloneFlags::empty(), |_| {
        nix::unistd::dup2_stdout(&said).expect("an open file");
        process::exec(process.clone())
    });
    assert_eq!(child.expect("it is born").wait().expect("it runs"), Status::Exited(0));
    let said = fs::read_to_string("/tmp/said").expect("readable");
    assert_eq!(said, "1000\n1001\n1001 1002\n/usr\n0077\npear\n");
    let new = fs::metadata("/tmp/new").expect("it was made");
    assert_eq!((new.uid(), new.gid(), new.mode() & 0o777), (1000, 1001, 0o600));
}

/// A directory of the host's is open, and the new root has a name for it.
fn working_directory_is_inside(_: Who) {
    fs::create_dir_all("/tmp/root/proc").expect("writable");
    mount(Some("/proc"), "/tmp/root/proc", None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("mount");
    let outside = fs::File::open("/usr").expect("a directory");
    let mut process = Process::new(&sh("true"));
    process.directory = format!("/proc/self/fd/{}", outside.as_raw_fd()).into();
    let child = process::spawn(CloneFlags::empty(), |_| {
        nix::unistd::chroot("/tmp/root").expect("this is root");
        nix::unistd::chdir("/").expect("it is there");
        process::exec(process.clone())
    });
    let error = child.expect("it is born").wait().expect_err("it is nowhere inside");
    assert!(error.to_string().contains("leads out of the container"), "{error}");
}

fn child_waits_at_several_places(_: Who) {
    let touch = |name: &str| fs::write(name, "").expect("writable");
    let mut newborn = process::bear(None, CloneFlags::empty(), |parent| {
        parent.until_released()?;
        touch("/tmp/first");
        parent.until_released()?;
        process::exec(&sh("echo >/tmp/second"))
    })
    .expect("it is born");
    newborn.release();
    eventually("it goes on to its second place", || Path::new("/tmp/first").exists());
    assert!(!Path::new("/tmp/second").exists());
    newborn.release();
    eventually("it becomes the command", || Path::new("/tmp/second").exists());
}

fn newborn_outlives_its_maker(_: Who) {
    nix::unistd::mkfifo("/tmp/pipe", nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a pipe");
    // SAFETY: a case has one thread.
    match unsafe { fork() }.expect("a process") {
        ForkResult::Child => {
            let made = process::bear(None, CloneFlags::CLONE_NEWPID, |parent| {
                parent.until_released()?;
                process::exec(&sh("read line </tmp/pipe; echo $line >/tmp/heard"))
            });
            let ended = made.map(|mut newborn| newborn.release());
            // SAFETY: _exit(2) has no precondition.
            unsafe { libc::_exit(i32::from(ended.is_err())) }
        }
        ForkResult::Parent { child } => {
            let ended = nix::sys::wait::waitpid(child, None).expect("it ends");
            assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(child, 0));
            // Its maker is gone. Whoever reads now is the newborn.
            fs::write("/tmp/pipe", "still here\n").expect("somebody reads");
            eventually("it writes what it has heard", || {
                fs::read_to_string("/tmp/heard").is_ok_and(|text| text == "still here\n")
            });
        }
    }
}

fn newborn_gives_up(_: Who) {
    let newborn = process::bear(None, CloneFlags::empty(), |parent| {
        parent.until_released()?;
        process::exec(&sh("echo >/tmp/released"))
    })
    .expect("it is born");
    let pid = newborn.pid();
    drop(newborn);
    let ended = nix::sys::wait::waitpid(pid, None).expect("it ends by itself");
    assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(pid, 1));
    assert!(!Path::new("/tmp/released").exists());
}
