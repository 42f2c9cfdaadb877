//! Chapter 1: becoming the command. What runs and as whom is a plain value; execve(2) makes it so.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::Mode;

use super::signals;
use crate::container::power::Power;
use crate::container::sys;
use crate::container::user::person::User;
use crate::told::errors::{self, Error, Result};

/// Where a command is looked for, inside. Docker's default.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What runs in a container, and as whom.
///
/// The chapters up to 7 fill in the arguments and leave the rest as it is. Later the other fields come from
/// options (chapter 8's `--user`, chapter 9's `--cap-add`), from `process` in config.json (chapter 10) and from an image (chapter 11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The program and its arguments; `/bin/sh` if there are none.
    pub arguments: Vec<OsString>,
    /// The environment, each variable as `NAME=VALUE`.
    pub environment: Vec<OsString>,
    /// The user to become; `None` to stay who one is.
    pub user: Option<User>,
    /// The directory to start in.
    pub directory: PathBuf,
    /// The permissions that new files do not get. See umask(2).
    pub umask: u32,
    /// What it keeps of its power; `None` for all that it has.
    pub power: Option<Power>,
}

impl Process {
    /// This command, in the environment that every container begins with, in `/`.
    pub fn new(arguments: &[OsString]) -> Process {
        Process {
            arguments: arguments.to_vec(),
            environment: environment(),
            user: None,
            directory: PathBuf::from("/"),
            umask: 0o022,
            power: None,
        }
    }

    /// The same, with no more power than this (chapter 9).
    pub fn with_power(self, power: Power) -> Process {
        Process { power: Some(power), ..self }
    }

    /// Sets a variable, in place of the value that it has.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        let start = format!("{name}=");
        self.environment.retain(|variable| !variable.as_bytes().starts_with(start.as_bytes()));
        self.environment.push(format!("{start}{value}").into());
    }

    /// What it is called in an error.
    fn name(&self) -> String {
        self.arguments.first().map_or("/bin/sh".into(), |name| name.to_string_lossy().into_owned())
    }

    /// The directories that its program is looked for in.
    fn path(&self) -> &OsStr {
        let value = |variable: &'_ OsString| variable.as_bytes().starts_with(b"PATH=");
        let path = self.environment.iter().find(|variable| value(variable));
        path.map_or(OsStr::new(PATH), |variable| OsStr::from_bytes(&variable.as_bytes()[b"PATH=".len()..]))
    }
}

impl<Arguments: AsRef<[OsString]> + ?Sized> From<&Arguments> for Process {
    fn from(arguments: &Arguments) -> Process {
        Process::new(arguments.as_ref())
    }
}

// ANCHOR: environment
/// The command's environment. It begins with nothing: what the host has in its own may be a secret.
fn environment() -> Vec<OsString> {
    let mut terminal = OsString::from("TERM=");
    terminal.push(std::env::var_os("TERM").unwrap_or_else(|| "dumb".into()));
    vec![format!("PATH={PATH}").into(), "HOME=/root".into(), terminal, "container=cooperage".into()]
}
// ANCHOR_END: environment

// ANCHOR: exec
/// Becomes the command: the last step of the child's half.
///
/// The command gets a clean environment, no descriptor above 2, and default signal handling. It is
/// looked for in PATH unless its name has a slash. Exit status 127 if it is not found, 126 if it
/// cannot be executed.
pub fn exec(process: impl Into<Process>) -> Result<Infallible> {
    let process = process.into();
    let name = process.name();
    let arguments = arguments(&process)?;
    let environment = strings(&process.environment)
        .map_err(|_| Error::new("set the environment", "a value contains a zero byte"))?;

    sys::close_range("leave the command none of the host's open files", 3, u32::MAX, true)?;
    signals::default_signals()?;
    nix::sys::stat::umask(Mode::from_bits_truncate(process.umask));
    match (&process.power, &process.user) {
        (Some(power), user) => power.confine(user.as_ref())?,
        (None, Some(user)) => user.become_it()?,
        (None, None) => {}
    }
    start_in(&process.directory)?;

    let mut refused = None;
    for candidate in candidates(&arguments[0], process.path()) {
        let error = sys::execve("become the command", &candidate, &arguments, &environment);
        match error.errno() {
            Some(Errno::ENOENT | Errno::ENOTDIR) if !exists(&candidate) => {}
            _ => refused = refused.or(Some(error)),
        }
    }
    Err(match refused {
        Some(error) => cannot_execute(error, &name),
        None => Error::new(format!("run {name:?}"), "there is no such program in the root filesystem")
            .remedy(format!("its programs are in {}; `ls /bin` inside shows them", process.path().display()))
            .status(errors::NOT_FOUND),
    })
}
// ANCHOR_END: exec

/// Goes to the working directory, and sees that it is below the root. `/proc/self/fd/7` can be an open directory of the
/// host's, and the command would begin there (CVE-2024-21626). The kernel can name it, or it is outside.
fn start_in(directory: &Path) -> Result<()> {
    const WHY: &str = "start in the working directory";
    if directory == Path::new("/") {
        return Ok(()); // there it is, since it changed its root
    }
    sys::chdir(WHY, directory)?;
    match nix::unistd::getcwd() {
        Ok(path) if path.starts_with("/") => Ok(()),
        _ => Err(Error::new(WHY, format!("{} leads out of the container", directory.display()))),
    }
}

/// The command and its arguments, as execve(2) wants them.
fn arguments(process: &Process) -> Result<Vec<CString>> {
    let mut arguments = strings(&process.arguments).map_err(|_| {
        Error::new(format!("run {:?}", process.name()), "an argument contains a zero byte").status(2)
    })?;
    if arguments.is_empty() {
        arguments.push(c"/bin/sh".to_owned());
    }
    if arguments[0].is_empty() {
        return Err(Error::new("run the command", "its name is empty").status(errors::NOT_FOUND));
    }
    Ok(arguments)
}

fn strings(texts: &[OsString]) -> std::result::Result<Vec<CString>, std::ffi::NulError> {
    texts.iter().map(|text| CString::new(text.as_bytes())).collect()
}

/// Where the program may be: at the path that was given, or in one of the directories of `path`.
fn candidates(program: &CString, path: &OsStr) -> Vec<CString> {
    if program.to_bytes().contains(&b'/') {
        return vec![program.clone()];
    }
    let in_directory = |directory: &[u8]| {
        CString::new([directory, b"/", program.to_bytes()].concat()).ok() // neither has a zero byte
    };
    let all = path.as_bytes().split(|&byte| byte == b':').filter_map(in_directory);
    // Looked at first, so that the narration shows no call that was bound to fail.
    all.filter(exists).collect()
}

fn exists(program: &CString) -> bool {
    Path::new(OsStr::from_bytes(program.to_bytes())).exists()
}

fn cannot_execute(error: Error, name: &str) -> Error {
    let remedy = match error.errno() {
        Some(Errno::EACCES) => format!("{name} is a directory, or is not executable: chmod +x it"),
        Some(Errno::ENOEXEC) => {
            format!("{name} is no program for this machine: a script needs a first line such as #!/bin/sh")
        }
        Some(Errno::ENOENT) => format!(
            "{name} is there, but the interpreter or dynamic loader that it names is not in the root filesystem"
        ),
        _ => return error.status(errors::CANNOT_EXECUTE),
    };
    error.remedy(remedy).status(errors::CANNOT_EXECUTE)
}
