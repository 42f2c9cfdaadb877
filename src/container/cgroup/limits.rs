//! Limits as Docker writes them: `--memory 64m`, `--cpus 0.5`, `--pids-limit 100`,
//! `--device-write-bps /dev/sda:1mb`.

use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::str::FromStr;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::stat::{major, minor};
use nix::unistd::Pid;

use crate::container::power::devices::Rule;
use crate::told::errors::{Error, Result};

/// What a container may use. `None` is no limit.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Memory, without any swap on top.
    pub memory: Option<Memory>,
    /// Processor time.
    pub cpus: Option<Cpus>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// What may be written to a disk in a second.
    pub writes: Vec<WriteRate>,
    /// Chapter 9: the only devices that may be used. `None`: any that there is a name for.
    pub devices: Option<Vec<Rule>>,
}

impl Limits {
    /// Is there no limit at all?
    pub fn are_none(&self) -> bool {
        self.memory.is_none() && self.cpus.is_none() && self.pids.is_none() && self.writes.is_empty()
    }

    /// Refuses what this machine cannot give.
    pub(super) fn check(&self) -> Result<()> {
        let Some(cpus) = self.cpus else { return Ok(()) };
        // Not std::thread::available_parallelism, which reads many files to learn this process's own quota.
        let processors = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        let available =
            (0..CpuSet::count()).filter(|&number| processors.is_set(number) == Ok(true)).count().max(1);
        if cpus.quota() > available as u64 * Cpus::PERIOD {
            return Err(Error::new("limit the processor", format!("--cpus {cpus} was asked for"))
                .remedy(format!("choose between 0.01 and {available}: this machine has no more")));
        }
        Ok(())
    }
}

/// An amount of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory(u64);

impl Memory {
    /// Less than this and the kernel would kill the container before it begins. Docker's number.
    const LEAST: u64 = 6 << 20;

    /// So many bytes.
    pub fn from_bytes(bytes: u64) -> Memory {
        Memory(bytes)
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Memory {
    type Err = String;

    /// Such as 64m.
    fn from_str(text: &str) -> Result<Memory, String> {
        let bytes = parse_size(text)?;
        if bytes < Memory::LEAST {
            return Err(format!("{text:?} is too little: the least is 6m"));
        }
        Ok(Memory(bytes))
    }
}

/// A size of something else than a container's memory: any number of bytes but none.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err(format!("{text:?} is too little: the least is 1")),
        bytes => Ok(bytes),
    }
}

/// A number with a unit b, k, m, g or t, in powers of 1024; `64m`, `64MB`, `64MiB`, `1.5g`.
fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size: write a number and b, k, m or g, such as 64m");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = text[digits..].to_ascii_lowercase();
    let unit = match unit.as_str() {
        "b" => "",
        unit => unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(unit),
    };
    let factor = match unit {
        "" => 1.0,
        "k" => 1024.0,
        "m" => 1024.0 * 1024.0,
        "g" => 1024.0 * 1024.0 * 1024.0,
        "t" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let number: f64 = text[..digits].parse().map_err(|_| wrong())?;
    let bytes = number * factor;
    if bytes > i64::MAX as f64 {
        return Err(format!("{text:?} is more than there can be"));
    }
    Ok(bytes as u64)
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.0 as f64 / f64::from(1 << 20);
        if mib.fract() == 0.0 { write!(f, "{mib} MiB") } else { write!(f, "{mib:.1} MiB") }
    }
}

// ANCHOR: cpus
/// An amount of processor time: 0.5 is half of one processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpus {
    quota: u64,
}

impl Cpus {
    /// The kernel counts in periods, of 100 ms by default, here in microseconds.
    pub const PERIOD: u64 = 100_000;

    /// How many microseconds in each period: more than a period for more than one processor.
    pub fn quota(self) -> u64 {
        self.quota
    }
}
// ANCHOR_END: cpus

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Cpus, String> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let number: Option<f64> = text.parse().ok().filter(|_| plain);
        match number {
            Some(number) if (0.01..=100_000.0).contains(&number) => {
                Ok(Cpus { quota: (number * Cpus::PERIOD as f64).round() as u64 })
            }
            Some(_) => Err(format!("{text:?} is out of range: the least is 0.01")),
            None => Err(format!("{text:?} is not a number of processors: write a number such as 0.5")),
        }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.quota as f64 / Cpus::PERIOD as f64)
    }
}

/// How many bytes a second may be written to a disk: `/dev/sda:1mb`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteRate {
    device: PathBuf,
    bytes: u64,
}

impl WriteRate {
    /// The kernel's number of the disk, MAJOR:MINOR.
    pub fn number(&self) -> Result<String> {
        let step = "limit the writes to a disk";
        let found = fs::metadata(&self.device).map_err(|error| Error::io(step, &self.device, &error))?;
        if !found.file_type().is_block_device() {
            return Err(Error::new(step, format!("{} is no disk", self.device.display()))
                .remedy("`lsblk -p` lists the disks of this machine"));
        }
        Ok(format!("{}:{}", major(found.rdev()), minor(found.rdev())))
    }

    /// In bytes a second.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl FromStr for WriteRate {
    type Err = String;

    fn from_str(text: &str) -> Result<WriteRate, String> {
        let wrong = || format!("{text:?} is no limit for a disk: write DEVICE:RATE, such as /dev/sda:1mb");
        let (device, rate) = text.rsplit_once(':').ok_or_else(wrong)?;
        if !device.starts_with('/') {
            return Err(wrong());
        }
        match parse_size(rate)? {
            0 => Err(format!("{text:?} is no limit: the least is 1 byte a second")),
            bytes => Ok(WriteRate { device: device.into(), bytes }),
        }
    }
}

/// `--pids-limit`: as with Docker, 0 and -1 mean none.
pub fn parse_pids(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(-1 | 0) => Ok(0),
        Ok(number @ 1..=4_194_304) => Ok(number as u32),
        _ => Err(format!("{text:?} is not a number of processes: write 1 or more, or -1 for no limit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("6m", 6 << 20),
            ("64m", 64 << 20),
            ("64M", 64 << 20),
            ("64mb", 64 << 20),
            ("64MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("8388608", 8 << 20),
            ("8388608b", 8 << 20),
            ("8192k", 8 << 20),
        ] {
            assert_eq!(text.parse::<Memory>().map(Memory::bytes), Ok(bytes), "{text}");
        }
        for text in
            ["", "m", "64x", "-64m", "64 m", "1e9", "5m", "0", "64mm", "99999999t", "inf", "nan", "6.4.1m"]
        {
            assert!(text.parse::<Memory>().is_err(), "{text}");
        }
        assert_eq!(Memory(64 << 20).to_string(), "64 MiB");
        assert_eq!(Memory((64 << 20) + (1 << 19)).to_string(), "64.5 MiB");
    }

    #[test]
    fn rates_of_disks() {
        let rate = "/dev/sda:1mb".parse::<WriteRate>();
        assert_eq!(rate, Ok(WriteRate { device: "/dev/sda".into(), bytes: 1 << 20 }));
        for text in ["", "/dev/sda", "1mb", "sda:1mb", "/dev/sda:0", "/dev/sda:fast", "/dev/sda:"] {
            assert!(text.parse::<WriteRate>().is_err(), "{text}");
        }
        let null = WriteRate { device: "/dev/null".into(), bytes: 1 };
        assert!(null.number().is_err_and(|error| error.to_string().contains("is no disk")));
    }

    #[test]
    fn fractions_of_processors() {
        for (text, quota) in
            [("0.5", 50_000), ("1", 100_000), ("1.5", 150_000), (".25", 25_000), ("0.01", 1_000)]
        {
            assert_eq!(text.parse::<Cpus>().map(Cpus::quota), Ok(quota), "{text}");
        }
        for text in ["", "0", "-1", "x", "0.001", "inf", "nan", "1e1", "0,5", "50%"] {
            assert!(text.parse::<Cpus>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_of_processes() {
        assert_eq!(parse_pids("100"), Ok(100));
        assert_eq!((parse_pids("-1"), parse_pids("0")), (Ok(0), Ok(0)));
        for text in ["", "-2", "1.5", "many", "4194305"] {
            assert!(parse_pids(text).is_err(), "{text}");
        }
    }
}
