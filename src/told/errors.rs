//! Errors that tell a reader what was tried, what the kernel said and what to do about it.

use std::fmt;
use std::path::Path;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// The container could not be made (Docker's number).
pub const CANNOT_MAKE: u8 = 125;
/// The command was found and cannot be executed.
pub const CANNOT_EXECUTE: u8 = 126;
/// The command was not found.
pub const NOT_FOUND: u8 = 127;

/// A failed step: what was being done, the system call, the error in words, and the likely remedy.
///
/// It can be sent through a pipe, because most steps are taken by the container's first process and
/// reported by the runtime outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Error {
    step: String,
    call: Option<String>,
    errno: Option<i32>,
    detail: Option<String>,
    remedy: Option<String>,
    /// The exit status that the runtime ends with.
    pub status: u8,
}

/// What every fallible function of the crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure that no system call reported. `step` completes the sentence "could not ...".
    pub fn new(step: impl Into<String>, detail: impl Into<String>) -> Self {
        Error {
            step: step.into(),
            call: None,
            errno: None,
            detail: Some(detail.into()),
            remedy: None,
            status: CANNOT_MAKE,
        }
    }

    /// A system call that failed. `step` completes the sentence "could not ...".
    pub fn call(step: impl Into<String>, call: impl Into<String>, errno: Errno) -> Self {
        let call = call.into();
        Error {
            step: step.into(),
            remedy: usual_remedy(&call, errno),
            call: Some(call),
            errno: Some(errno as i32),
            detail: None,
            status: CANNOT_MAKE,
        }
    }

    /// A failure of the standard library's file functions on `path`.
    pub fn io(step: impl Into<String>, path: impl AsRef<Path>, error: &std::io::Error) -> Self {
        let path = path.as_ref().display();
        match error.raw_os_error() {
            Some(code) => Error {
                detail: Some(format!("the path is {path}")),
                ..Error::call(step, "", Errno::from_raw(code))
            },
            None => Error::new(step, format!("{path}: {error}")),
        }
    }

    /// Says what to do about it, in place of the usual remedy.
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Error { remedy: Some(remedy.into()), ..self }
    }

    /// Adds what the error number alone does not tell.
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Error { detail: Some(detail.into()), ..self }
    }

    /// Ends the program with another status than 125.
    pub fn status(self, status: u8) -> Self {
        Error { status, ..self }
    }

    /// The kernel's error number, where there was one.
    pub fn errno(&self) -> Option<Errno> {
        self.errno.map(Errno::from_raw)
    }

    /// What was being done.
    pub fn step(&self) -> &str {
        &self.step
    }

    /// What to do about it, where it is known.
    pub fn advice(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// The reason in one line: the error number in words, or the detail.
    pub fn reason(&self) -> String {
        match (self.errno(), &self.detail) {
            (Some(errno), _) => format!("{errno:?}: {}", errno.desc()),
            (None, Some(detail)) => detail.clone(),
            (None, None) => String::new(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}", self.step)?;
        let mut line = |name: &str, text: &str| write!(f, "\n  {name:<8}{text}");
        if let Some(call) = self.call.as_ref().filter(|call| !call.is_empty()) {
            line("call", call)?;
        }
        if let Some(errno) = self.errno() {
            line("error", &format!("{errno:?}: {}", errno.desc()))?;
        }
        if let Some(detail) = &self.detail {
            line("because", detail)?;
        }
        if let Some(remedy) = &self.remedy {
            line("remedy", remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Adds advice to the error of a step.
pub trait Advise<T> {
    /// Says what to do if this failed, whatever the reason.
    fn remedy(self, remedy: &str) -> Result<T>;
    /// Says what to do if this failed with `errno`.
    fn remedy_for(self, errno: Errno, remedy: &str) -> Result<T>;
}

impl<T> Advise<T> for Result<T> {
    fn remedy(self, remedy: &str) -> Result<T> {
        self.map_err(|error| error.remedy(remedy))
    }

    fn remedy_for(self, errno: Errno, remedy: &str) -> Result<T> {
        self.map_err(|error| if error.errno() == Some(errno) { error.remedy(remedy) } else { error })
    }
}

/// What most often helps when `call` fails with `errno`.
fn usual_remedy(call: &str, errno: Errno) -> Option<String> {
    let name = call.split('(').next().unwrap_or_default();
    let remedy = match (name, errno) {
        ("unshare" | "clone", Errno::EPERM | Errno::ENOSPC | Errno::EUSERS) if call.contains("NEWUSER") => {
            return Some(user_namespace_remedy());
        }
        (
            "unshare" | "clone" | "mount" | "umount2" | "pivot_root" | "chroot" | "sethostname" | "open_tree"
            | "move_mount" | "mount_setattr" | "setns" | "mknod",
            Errno::EPERM | Errno::EACCES,
        ) => {
            "this process may not do that: inside a container engine, run the container with \
             --privileged; `cargo run --bin doctor` tells what this machine allows"
        }
        ("open_tree" | "move_mount" | "mount_setattr" | "openat2" | "close_range", Errno::ENOSYS) => {
            "this kernel is too old: Linux 5.12 or newer is needed"
        }
        ("mount", Errno::ENODEV) => "this kernel does not have that filesystem, or its module is not loaded",
        (_, Errno::ENOSPC) => "the filesystem is full: make room, or choose a directory on another one",
        (_, Errno::EROFS) => "the filesystem is read-only: choose a directory on another one",
        (_, Errno::EMFILE | Errno::ENFILE) => "too many open files: raise `ulimit -n`",
        ("clone" | "fork", Errno::EAGAIN) => "too many processes: see `ulimit -u` and pids.max of the cgroup",
        _ => return None,
    };
    Some(remedy.to_string())
}

/// Says which setting of this machine forbids user namespaces to ordinary users.
pub fn user_namespace_remedy() -> String {
    let setting = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_string();
    if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
        "AppArmor forbids user namespaces to ordinary users (Ubuntu 23.10 and newer): \
         sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    } else if setting("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        "this kernel forbids user namespaces to ordinary users: \
         sudo sysctl -w kernel.unprivileged_userns_clone=1"
    } else if setting("/proc/sys/user/max_user_namespaces") == "0" {
        "no user namespace is allowed here: sudo sysctl -w user.max_user_namespaces=15000"
    } else {
        "user namespaces are forbidden here, probably by a container engine's seccomp filter: \
         run on the host, as root, or in a container started with --privileged"
    }
    .to_string()
}
