//! A profile: what a filter is to say to each call, in Docker's format. See the OCI runtime specification, "Seccomp", and
//! Docker's document on seccomp security profiles.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::names;
use crate::container::capability::Capability;
use crate::container::kernel;
use crate::container::power::capabilities::{Choice, Set};
use crate::told::errors::{Error, Result};
use crate::told::explain;

const STEP: &str = "read the seccomp profile";

/// What happens to a call. The numbers are the kernel's, from linux/seccomp.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Action(pub u32);

impl Action {
    /// The call is made.
    pub const ALLOW: Action = Action(0x7fff_0000);
    /// The process is killed.
    pub const KILL: Action = Action(0x8000_0000);

    /// Another program is asked, and the call waits for its answer. See seccomp_unotify(2).
    pub const NOTIFY: Action = Action(0x7fc0_0000);

    /// The call fails with this errno.
    pub const fn errno(number: u32) -> Action {
        Action(0x0005_0000 | number)
    }

    /// Does it let the call through, with a word to somebody or without?
    pub fn is_permissive(self) -> bool {
        matches!(self.0 & 0xffff_0000, 0x7fff_0000 | 0x7ffc_0000 | 0x7ff0_0000)
    }

    fn parse(name: &str, errno: u32) -> Result<Action> {
        Ok(match name {
            "SCMP_ACT_ALLOW" => Action::ALLOW,
            "SCMP_ACT_LOG" => Action(0x7ffc_0000),
            "SCMP_ACT_TRACE" => Action(0x7ff0_0000 | errno),
            "SCMP_ACT_ERRNO" => Action::errno(errno),
            "SCMP_ACT_TRAP" => Action(0x0003_0000),
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action(0),
            "SCMP_ACT_KILL_PROCESS" => Action::KILL,
            "SCMP_ACT_NOTIFY" => Action::NOTIFY,
            _ => {
                return Err(Error::new(STEP, format!("{name:?} is no action"))
                    .remedy("the usual ones are SCMP_ACT_ALLOW, SCMP_ACT_ERRNO and SCMP_ACT_KILL_PROCESS"));
            }
        })
    }
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// It is this number.
    Equal(u64),
    /// It is another one.
    NotEqual(u64),
    /// It is smaller.
    Less(u64),
    /// It is smaller, or this number.
    LessOrEqual(u64),
    /// It is greater.
    Greater(u64),
    /// It is greater, or this number.
    GreaterOrEqual(u64),
    /// These bits of it are so.
    Masked {
        /// The bits that are looked at.
        mask: u64,
        /// What they are to be.
        value: u64,
    },
}

/// A comparison of one of the six arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which one, from 0.
    pub argument: u32,
    /// What it is compared with.
    pub comparison: Comparison,
}

/// What is said to a call, if all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// None: always.
    pub conditions: Vec<Condition>,
    /// What happens then.
    pub action: Action,
}

/// A profile, as far as it concerns this machine and what the container may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// What happens to a call that nothing is said about.
    pub default: Action,
    /// The calls that something is said about, in the order of their numbers, with their rules in order.
    pub calls: Vec<(u32, Vec<Rule>)>,
}

/// The file, as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    arch_map: Vec<ArchMap>,
    #[serde(default)]
    syscalls: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    /// What it was called when an entry had one name.
    name: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Argument>>,
    includes: Option<Where>,
    excludes: Option<Where>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// On which machines, and for whom, an entry holds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Where {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// All architectures that a profile may name; only this machine's is compiled.
const ARCHITECTURES: [&str; 21] = [
    "SCMP_ARCH_NATIVE",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
];

/// The name of this architecture in `includes`, which is Go's.
const GO_ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// The errno of a call that is refused without one being said: EPERM.
const EPERM: u32 = 1;

/// The largest errno that a filter can give.
const LARGEST_ERRNO: u32 = 4095;

impl Profile {
    /// What holds unless it is said otherwise.
    pub fn usual(held: Set) -> Result<Profile> {
        Profile::parse(include_str!("default.json"), held)
    }

    /// The profile in a file, for who has these capabilities.
    pub fn from_file(file: &Path, held: Set) -> Result<Profile> {
        let text = std::fs::read_to_string(file).map_err(|error| Error::io(STEP, file, &error))?;
        Profile::parse(&text, held)
            .map_err(|error| Error::new(format!("{STEP} {}", file.display()), error.reason()).remedy(FORMAT))
    }

    /// The profile in this text.
    pub fn parse(text: &str, held: Set) -> Result<Profile> {
        let profile = Profile::parse_for_listener(text, held)?;
        if profile.asks() {
            return Err(Error::new(STEP, "SCMP_ACT_NOTIFY asks another program, and there is none here"));
        }
        Ok(profile)
    }

    /// Is there a call about which another program is asked?
    pub fn asks(&self) -> bool {
        let rules = self.calls.iter().flat_map(|(_, rules)| rules);
        self.default == Action::NOTIFY || rules.into_iter().any(|rule| rule.action == Action::NOTIFY)
    }

    /// Chapter 10: reads one for whoever has another program to ask.
    pub fn parse_for_listener(text: &str, held: Set) -> Result<Profile> {
        let file: File = serde_json::from_str(text).map_err(|error| Error::new(STEP, error.to_string()))?;
        let of_map = file
            .arch_map
            .iter()
            .flat_map(|map| std::iter::once(&map.architecture).chain(map.sub_architectures.iter().flatten()));
        if let Some(unknown) =
            file.architectures.iter().chain(of_map).find(|name| !ARCHITECTURES.contains(&name.as_str()))
        {
            return Err(Error::new(STEP, format!("{unknown:?} is no architecture")));
        }
        let default_errno = errno(file.default_errno_ret)?.unwrap_or(EPERM);
        let default = Action::parse(&file.default_action, default_errno)?;
        let mut calls: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
        let mut unknown = Vec::new();
        for entry in &file.syscalls {
            let rules = entry.rules()?;
            if entry.holds(held)? {
                for name in entry.name.iter().chain(&entry.names) {
                    match names::number(name) {
                        Some(number) => calls.entry(number).or_default().extend_from_slice(&rules),
                        None if names::is_known(name) => {} // of another architecture
                        None => unknown.push(name.as_str()),
                    }
                }
            }
        }
        if !unknown.is_empty() {
            let unknown = unknown.join(" ");
            explain::remark(&format!(
                "the profile speaks of calls that a 64-bit kernel does not have: {unknown}"
            ));
        }
        Ok(Profile { default, calls: calls.into_iter().collect() })
    }

    /// What the profile says to a call, rule by rule. The filter has to say the same.
    pub fn action(&self, number: u32, arguments: &[u64; 6]) -> Action {
        let found = self.calls.iter().find(|(known, _)| *known == number);
        let rules = found.map_or(&[][..], |(_, rules)| rules);
        let holds = |rule: &&Rule| rule.conditions.iter().all(|condition| condition.holds(arguments));
        let (with, without): (Vec<&Rule>, Vec<&Rule>) =
            rules.iter().partition(|rule| !rule.conditions.is_empty());
        let said = with.into_iter().chain(without).find(holds);
        said.map_or(self.default, |rule| rule.action)
    }
}

/// What helps who has written one.
const FORMAT: &str =
    "Docker's document on seccomp profiles describes the format; ours is src/container/seccomp/default.json";

impl Entry {
    /// Does it hold here, for who has these capabilities?
    fn holds(&self, held: Set) -> Result<bool> {
        let includes = match &self.includes {
            Some(includes) => includes.has_all(held)?,
            None => true,
        };
        let excludes = match &self.excludes {
            Some(excludes) => excludes.has_any(held)?,
            None => false,
        };
        Ok(includes && !excludes)
    }

    // ANCHOR: profile-rules
    /// Its rules. Conditions hold together; but where two look at the same argument, each is a rule of its own, because
    /// that is how runc reads it: libseccomp takes no two for one argument.
    fn rules(&self) -> Result<Vec<Rule>> {
        let action = Action::parse(&self.action, errno(self.errno_ret)?.unwrap_or(EPERM))?;
        let conditions =
            self.args.iter().flatten().map(Argument::condition).collect::<Result<Vec<Condition>>>()?;
        let twice =
            |one: &Condition| conditions.iter().filter(|other| other.argument == one.argument).count() > 1;
        if conditions.iter().any(twice) {
            return Ok(conditions.iter().map(|&one| Rule { conditions: vec![one], action }).collect());
        }
        Ok(vec![Rule { conditions, action }])
    }
    // ANCHOR_END: profile-rules
}

impl Where {
    fn capabilities(&self) -> Result<Vec<Capability>> {
        let parse = |name: &String| match name.parse() {
            Ok(Choice::One(capability)) => Ok(capability),
            _ => Err(Error::new(STEP, format!("{name:?} is no capability"))),
        };
        self.caps.iter().map(parse).collect()
    }

    fn has_all(&self, held: Set) -> Result<bool> {
        let here = self.arches.is_empty() || self.arches.iter().any(|name| name == GO_ARCHITECTURE);
        let has = self.capabilities()?.into_iter().all(|capability| held.contains(capability));
        Ok(here && has && self.kernel_is_new_enough().unwrap_or(true))
    }

    fn has_any(&self, held: Set) -> Result<bool> {
        let here = self.arches.iter().any(|name| name == GO_ARCHITECTURE);
        let has = self.capabilities()?.into_iter().any(|capability| held.contains(capability));
        Ok(here || has || self.kernel_is_new_enough().unwrap_or(false))
    }

    fn kernel_is_new_enough(&self) -> Option<bool> {
        kernel::version(self.min_kernel.as_deref()?).map(kernel::is_since)
    }
}

impl Argument {
    fn condition(&self) -> Result<Condition> {
        if self.index > 5 {
            return Err(Error::new(STEP, format!("a call has the arguments 0 to 5, and no {}", self.index)));
        }
        let comparison = match self.op.as_str() {
            "SCMP_CMP_EQ" => Comparison::Equal(self.value),
            "SCMP_CMP_NE" => Comparison::NotEqual(self.value),
            "SCMP_CMP_LT" => Comparison::Less(self.value),
            "SCMP_CMP_LE" => Comparison::LessOrEqual(self.value),
            "SCMP_CMP_GT" => Comparison::Greater(self.value),
            "SCMP_CMP_GE" => Comparison::GreaterOrEqual(self.value),
            "SCMP_CMP_MASKED_EQ" => Comparison::Masked { mask: self.value, value: self.value_two },
            other => {
                return Err(Error::new(STEP, format!("{other:?} is no comparison, such as SCMP_CMP_EQ")));
            }
        };
        Ok(Condition { argument: self.index, comparison })
    }
}

impl Condition {
    fn holds(&self, arguments: &[u64; 6]) -> bool {
        let argument = arguments[self.argument as usize];
        match self.comparison {
            Comparison::Equal(value) => argument == value,
            Comparison::NotEqual(value) => argument != value,
            Comparison::Less(value) => argument < value,
            Comparison::LessOrEqual(value) => argument <= value,
            Comparison::Greater(value) => argument > value,
            Comparison::GreaterOrEqual(value) => argument >= value,
            Comparison::Masked { mask, value } => argument & mask == value,
        }
    }
}

fn errno(number: Option<u32>) -> Result<Option<u32>> {
    match number {
        Some(number) if number > LARGEST_ERRNO => {
            Err(Error::new(STEP, format!("{number} is no errno: the largest is {LARGEST_ERRNO}")))
        }
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(syscalls: &str) -> Result<Profile> {
        let text = format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{syscalls}]}}"#);
        Profile::parse(&text, Set::of([Capability::KILL]))
    }

    fn action(syscalls: &str, name: &str, argument: u64) -> Action {
        let profile = parse(syscalls).expect("a good profile");
        profile.action(names::number(name).expect("a call"), &[argument, 0, 0, 0, 0, 0])
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (syscalls, word) in [
            ("{}", "action"),
            (r#"{"names": ["read"], "action": "SCMP_ACT_MAYBE"}"#, "no action"),
            (r#"{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}"#, "asks another program"),
            (r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}"#, "no errno"),
            (
                r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}"#,
                "no 6",
            ),
            (
                r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "EQ"}]}"#,
                "no comparison",
            ),
            (
                r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_X"]}}"#,
                "no capability",
            ),
            ("nonsense", "expected"),
        ] {
            let error = parse(syscalls).expect_err(syscalls);
            assert!(error.reason().contains(word), "{syscalls}: {}", error.reason());
        }
        let architecture = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["PDP11"]}"#;
        assert!(Profile::parse(architecture, Set::default()).is_err());
        assert!(Profile::from_file(Path::new("/nowhere"), Set::default()).is_err());
    }

    #[test]
    fn entries_hold_where_they_say() {
        let allowed = |condition: &str| {
            let entry = format!(r#"{{"name": "read", "action": "SCMP_ACT_ALLOW", {condition}}}"#);
            action(&entry, "read", 0) == Action::ALLOW
        };
        assert!(allowed(r#""includes": {"caps": ["CAP_KILL"]}"#));
        assert!(!allowed(r#""includes": {"caps": ["CAP_KILL", "CAP_SYS_ADMIN"]}"#));
        assert!(!allowed(r#""excludes": {"caps": ["CAP_KILL"]}"#));
        assert!(allowed(r#""excludes": {"caps": ["CAP_SYS_ADMIN"]}"#));
        assert!(allowed(r#""includes": {"minKernel": "4.8"}"#));
        assert!(!allowed(r#""includes": {"minKernel": "400.0"}"#));
        assert!(!allowed(r#""includes": {"arches": ["mips"]}"#));
        assert!(allowed(&format!(r#""includes": {{"arches": ["mips", "{GO_ARCHITECTURE}"]}}"#)));
    }

    #[test]
    fn rules_hold_together_or_one_by_one() {
        let refused = Action::errno(1);
        let two = |first: u32, second: u32| {
            format!(
                r#"{{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [
                    {{"index": {first}, "value": 1, "op": "SCMP_CMP_EQ"}}, {{"index": {second}, "value": 2, "op": "SCMP_CMP_EQ"}}]}}"#
            )
        };
        assert_eq!(action(&two(0, 1), "read", 1), refused);
        assert_eq!(action(&two(0, 0), "read", 1), Action::ALLOW);
        assert_eq!(action(&two(0, 0), "read", 2), Action::ALLOW);
        assert_eq!(action(&two(0, 0), "read", 3), refused);
    }

    #[test]
    fn ours_is_good_for_root_and_for_nobody() {
        let (all, none) = (Set(u64::MAX), Set::default());
        let of = |held, name, arguments| {
            let profile = Profile::usual(held).expect("it is ours");
            profile.action(names::number(name).expect("a call"), &arguments)
        };
        let nothing = [0; 6];
        let (refused, unknown) = (Action::errno(1), Action::errno(38));
        for name in ["read", "openat", "execve", "futex", "openat2", "close_range"] {
            assert_eq!(of(none, name, nothing), Action::ALLOW, "{name}");
        }
        for name in [
            "mount",
            "unshare",
            "setns",
            "bpf",
            "open_by_handle_at",
            "reboot",
            "init_module",
            "syslog",
            "chroot",
        ] {
            assert_eq!((of(none, name, nothing), of(all, name, nothing)), (refused, Action::ALLOW), "{name}");
        }
        for name in
            ["keyctl", "add_key", "request_key", "userfaultfd", "io_uring_setup", "kexec_load", "swapon"]
        {
            assert_eq!((of(none, name, nothing), of(all, name, nothing)), (refused, refused), "{name}");
        }
        let with = |argument| [argument, 0, 0, 0, 0, 0];
        assert_eq!(of(none, "clone", with(0x11)), Action::ALLOW);
        for flag in
            [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
        {
            assert_eq!(of(none, "clone", with(flag | 0x11)), refused, "{flag:#x}");
            assert_eq!(of(all, "clone", with(flag | 0x11)), Action::ALLOW, "{flag:#x}");
        }
        assert_eq!((of(none, "clone3", nothing), of(all, "clone3", nothing)), (unknown, Action::ALLOW));
        // Bits that the kernel does not look at are no way around.
        for high in [0, 1 << 32, 0xffff_ffff << 32] {
            for request in [0x5412, 0x541c] {
                assert_eq!(of(all, "ioctl", [0, high | request, 0, 0, 0, 0]), refused, "{request:#x}");
            }
            for family in [38, 40] {
                assert_eq!(of(all, "socket", with(high | family)), refused, "{family}");
            }
        }
        assert_eq!(of(none, "ioctl", [0, 0x5401, 0, 0, 0, 0]), Action::ALLOW);
        assert_eq!(of(none, "socket", with(39)), Action::ALLOW);
        assert_eq!(
            (of(none, "personality", with(8)), of(none, "personality", with(9))),
            (Action::ALLOW, refused)
        );
    }
}
