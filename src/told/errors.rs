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
        Error {
            step: step.into(),
            remedy: remedy_for_any(errno),
            call: Some(call.into()),
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

/// What a system call is about, as far as that decides what helps when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// It makes a user namespace, which some machines forbid to ordinary users.
    UserNamespace,
    /// It makes a process, in new namespaces perhaps.
    Process,
    /// It changes mounts, roots, names or namespaces, which takes a right over them.
    Privileged,
    /// It mounts a filesystem, which the kernel must have.
    Mount,
    /// It changes mounts in a way that came with Linux 5.2 to 5.12.
    NewMount,
    /// It takes no right, but Linux 5.12 at the most.
    New,
    /// Nothing of that.
    Other,
}

impl Error {
    /// Says what most often helps when a call about `subject` fails like this.
    pub fn concerning(self, subject: Subject) -> Self {
        let Some(errno) = self.errno() else { return self };
        match subject.usual_remedy(errno) {
            Some(remedy) => self.remedy(remedy),
            None => self,
        }
    }
}

impl Subject {
    fn usual_remedy(self, errno: Errno) -> Option<String> {
        use Subject::{Mount, New, NewMount, Privileged, Process, UserNamespace};
        let remedy = match (self, errno) {
            (UserNamespace, Errno::EPERM | Errno::ENOSPC | Errno::EUSERS) => {
                return Some(user_namespace_remedy());
            }
            (Process | Privileged | Mount | NewMount | UserNamespace, Errno::EPERM | Errno::EACCES) => {
                "this process may not do that: inside a container engine, run the container with \
                 --privileged; `cargo run --bin doctor` tells what this machine allows"
            }
            (New | NewMount, Errno::ENOSYS) => "this kernel is too old: Linux 5.12 or newer is needed",
            (Mount, Errno::ENODEV) => {
                "this kernel does not have that filesystem, or its module is not loaded"
            }
            (Process, Errno::EAGAIN) => "too many processes: see `ulimit -u` and pids.max of the cgroup",
            _ => return None,
        };
        Some(remedy.to_string())
    }
}

/// What helps whatever the call was, where the error number alone tells.
fn remedy_for_any(errno: Errno) -> Option<String> {
    let remedy = match errno {
        Errno::ENOSPC => "the filesystem is full: make room, or choose a directory on another one",
        Errno::EROFS => "the filesystem is read-only: choose a directory on another one",
        Errno::EMFILE | Errno::ENFILE => "too many open files: raise `ulimit -n`",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(subject: Subject, errno: Errno) -> String {
        let error = Error::call("try", "call()", errno).concerning(subject);
        error.advice().unwrap_or_default().to_string()
    }

    #[test]
    fn a_remedy_goes_by_what_the_call_is_about() {
        assert!(advice(Subject::Mount, Errno::EPERM).contains("--privileged"));
        assert!(advice(Subject::Mount, Errno::ENODEV).contains("module"));
        assert_eq!(advice(Subject::Privileged, Errno::ENODEV), "");
        assert!(advice(Subject::NewMount, Errno::ENOSYS).contains("too old"));
        assert!(advice(Subject::Process, Errno::EAGAIN).contains("too many processes"));
        assert!(advice(Subject::UserNamespace, Errno::ENOSPC).contains("user namespace"));
    }

    #[test]
    fn some_errors_have_one_remedy_for_all() {
        for subject in [Subject::Other, Subject::Mount, Subject::New] {
            assert!(advice(subject, Errno::ENOSPC).contains("full"));
            assert!(advice(subject, Errno::EROFS).contains("read-only"));
        }
        assert_eq!(advice(Subject::Other, Errno::EPERM), "");
    }

    #[test]
    fn a_word_in_the_call_is_not_what_it_is_about() {
        let error = Error::call("try", "open(\"/srv/mount(1)\")", Errno::EPERM);
        assert_eq!(error.advice(), None);
    }
}
