//! Chapter 9: limits of one process. A cgroup counts for the container as a whole, and does not count everything: open
//! files, for one. See getrlimit(2).

use std::str::FromStr;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::Pid;

use crate::container::sys;
use crate::told::errors::{Advise, Result};

/// Name on the command line, in the kernel's header, and the number there: Docker's fifteen.
const KINDS: [(&str, &str, u32); 15] = [
    ("core", "RLIMIT_CORE", libc::RLIMIT_CORE),
    ("cpu", "RLIMIT_CPU", libc::RLIMIT_CPU),
    ("data", "RLIMIT_DATA", libc::RLIMIT_DATA),
    ("fsize", "RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
    ("locks", "RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
    ("memlock", "RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
    ("msgqueue", "RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
    ("nice", "RLIMIT_NICE", libc::RLIMIT_NICE),
    ("nofile", "RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
    ("nproc", "RLIMIT_NPROC", libc::RLIMIT_NPROC),
    ("rss", "RLIMIT_RSS", libc::RLIMIT_RSS),
    ("rtprio", "RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
    ("rttime", "RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
    ("sigpending", "RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
    ("stack", "RLIMIT_STACK", libc::RLIMIT_STACK),
];

/// A limit, as `--ulimit NAME=SOFT[:HARD]` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    name: &'static str,
    constant: &'static str,
    number: u32,
    /// What holds; `None` is no limit.
    soft: Option<u64>,
    /// How far the process may raise it itself.
    hard: Option<u64>,
}

impl FromStr for Rlimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Rlimit, String> {
        let (name, values) =
            text.split_once('=').ok_or_else(|| format!("{text:?}: write NAME=SOFT or NAME=SOFT:HARD"))?;
        let Some(&(name, constant, number)) = KINDS.iter().find(|(known, _, _)| *known == name) else {
            let names: Vec<&str> = KINDS.iter().map(|(name, _, _)| *name).collect();
            return Err(format!("{name:?} is no limit: there are {}", names.join(", ")));
        };
        let value = |text: &str| match text {
            "-1" | "unlimited" => Ok(None),
            _ => text
                .parse()
                .map(Some)
                .map_err(|_| format!("{text:?} is no number: write 0 or more, or -1 for no limit")),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (value(soft)?, value(hard)?);
        if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
            return Err(format!(
                "{text}: the first limit is the one that holds, and may not be above the second"
            ));
        }
        Ok(Rlimit { name, constant, number, soft, hard })
    }
}

impl Rlimit {
    /// Chapter 10: by the name in the kernel's header, RLIMIT_NOFILE.
    pub fn of_kernel(name: &str, soft: u64, hard: u64) -> Option<Rlimit> {
        let address_space = ("as", "RLIMIT_AS", libc::RLIMIT_AS);
        let &(name, constant, number) =
            KINDS.iter().chain([&address_space]).find(|(_, constant, _)| *constant == name)?;
        let value = |value| (value != u64::MAX).then_some(value);
        Some(Rlimit { name, constant, number, soft: value(soft), hard: value(hard) })
    }

    /// Chapter 10: sets it for another process.
    pub fn set_for(&self, why: &str, pid: Pid) -> Result<()> {
        sys::set_limit(why, pid, (self.constant, self.number), self.soft, self.hard)
    }

    // ANCHOR: usual-limits
    /// What holds unless it is said otherwise: no memory of a program that crashed is written to a disk, where it would show
    /// what the program knew; and a process has as many open files as most programs are written for. It may raise that
    /// itself, though not above what whoever started the container has.
    pub fn usual() -> Vec<Rlimit> {
        const FILES: u64 = 1024;
        const MANY_FILES: u64 = 524_288;
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(MANY_FILES, |(_, own)| MANY_FILES.min(own));
        let limit = |name: &str, soft, hard| {
            let &(name, constant, number) = KINDS.iter().find(|(known, _, _)| *known == name)?;
            Some(Rlimit { name, constant, number, soft: Some(soft), hard: Some(hard) })
        };
        [limit("core", 0, 0), limit("nofile", FILES.min(files), files)].into_iter().flatten().collect()
    }
    // ANCHOR_END: usual-limits

    /// The usual ones, with these in their place.
    pub fn with_usual(wanted: &[Rlimit]) -> Vec<Rlimit> {
        let unsaid = |usual: &Rlimit| !wanted.iter().any(|limit| limit.number == usual.number);
        let mut limits: Vec<Rlimit> = Rlimit::usual().into_iter().filter(unsaid).collect();
        for limit in wanted {
            limits.retain(|earlier| earlier.number != limit.number); // the last word counts
            limits.push(limit.clone());
        }
        limits
    }

    /// Sets it for this process, and for what it starts.
    pub fn set(&self) -> Result<()> {
        let why = format!("limit {} for each process", self.name);
        self.set_for(&why, Pid::from_raw(0)).remedy_for(
            Errno::EPERM,
            &format!(
                "it is above what whoever started this has: `ulimit -H -a` shows it; lower --ulimit {}",
                self.name
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_docker_reads_them() {
        let read = |text: &str| text.parse::<Rlimit>().map(|limit| (limit.name, limit.soft, limit.hard));
        assert_eq!(read("nofile=10"), Ok(("nofile", Some(10), Some(10))));
        assert_eq!(read("nofile=10:20"), Ok(("nofile", Some(10), Some(20))));
        assert_eq!(read("core=-1"), Ok(("core", None, None)));
        assert_eq!(read("core=0:unlimited"), Ok(("core", Some(0), None)));
        for text in [
            "",
            "nofile",
            "nofile=",
            "nofile=x",
            "nofile=2:1",
            "nofile=-1:1",
            "nofile=1:2:3",
            "files=1",
            "NOFILE=1",
        ] {
            assert!(text.parse::<Rlimit>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_said_takes_the_place_of_the_usual() {
        let limits = Rlimit::with_usual(&["core=1".parse().expect("core"), "core=2".parse().expect("core")]);
        let found: Vec<_> = limits.iter().map(|limit| (limit.name, limit.soft)).collect();
        assert!(found.contains(&("core", Some(2))) && found.len() == 2, "{found:?}");
    }
}
