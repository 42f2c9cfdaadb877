//! A bundle: a directory with a config.json, and most often the root directory too. What is wrong in it is said before anything
//! is made.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use cooperage::told::errors::{Error, Result};
use oci_spec::runtime::{Linux, LinuxNamespaceType, Process, Spec};

/// The version of the specification that this runtime follows.
pub const VERSION: &str = "1.2.1";

const STEP: &str = "read the bundle's config.json";

/// A bundle that was read.
pub struct Bundle {
    /// Its directory, without links.
    pub directory: PathBuf,
    /// The root directory, without links.
    pub rootfs: PathBuf,
    /// What config.json says.
    pub spec: Spec,
    /// Its part for Linux.
    pub linux: Linux,
    /// The text of config.json.
    pub text: Vec<u8>,
}

impl Bundle {
    /// Reads it.
    pub fn load(directory: &Path) -> Result<Bundle> {
        let directory =
            fs::canonicalize(directory).map_err(|error| Error::io("find the bundle", directory, &error))?;
        let file = directory.join("config.json");
        let text = fs::read(&file).map_err(|error| {
            Error::io(STEP, &file, &error).remedy("`chapter10 spec` writes one to begin with")
        })?;
        let spec = parse(&text)?;
        let root = spec.root().as_ref().ok_or_else(|| wrong("root", "it is not there"))?;
        let rootfs = directory.join(root.path());
        let rootfs = fs::canonicalize(&rootfs)
            .ok()
            .filter(|path| path.is_dir())
            .ok_or_else(|| wrong("root.path", format!("{} is no directory", rootfs.display())))?;
        if rootfs == Path::new("/") {
            return Err(wrong("root.path", "it is the machine's own root directory"));
        }
        let bundle = Bundle::new(directory, rootfs, spec, text);
        bundle.check()?;
        Ok(bundle)
    }

    /// One whose directories are known.
    pub fn read(directory: PathBuf, rootfs: PathBuf, text: Vec<u8>) -> Result<Bundle> {
        let spec = parse(&text)?;
        Ok(Bundle::new(directory, rootfs, spec, text))
    }

    fn new(directory: PathBuf, rootfs: PathBuf, spec: Spec, text: Vec<u8>) -> Bundle {
        let linux = spec.linux().clone().unwrap_or_default();
        Bundle { directory, rootfs, spec, linux, text }
    }

    fn check(&self) -> Result<()> {
        if let Some(process) = self.spec.process() {
            check_process(process)?;
        }
        let mut seen = HashSet::new();
        for namespace in self.linux.namespaces().iter().flatten() {
            let name = format!("linux.namespaces: {}", namespace.typ());
            if !seen.insert(namespace.typ()) {
                return Err(wrong(name, "it is there twice"));
            }
            if let Some(path) = namespace.path()
                && !path.is_absolute()
            {
                return Err(wrong(name, format!("the path {} does not begin with /", path.display())));
            }
        }
        let has = |kind| seen.contains(&kind);
        if !has(LinuxNamespaceType::Mount) {
            return Err(wrong(
                "linux.namespaces",
                "a mount namespace is missing: the machine's own would be changed",
            ));
        }
        let mappings = [self.linux.uid_mappings(), self.linux.gid_mappings()];
        let mapped = mappings.map(|mappings| mappings.as_ref().is_some_and(|list| !list.is_empty()));
        let new_users = self
            .linux
            .namespaces()
            .iter()
            .flatten()
            .any(|namespace| namespace.typ() == LinuxNamespaceType::User && namespace.path().is_none());
        match (mapped, new_users) {
            ([true, true], true) | ([false, false], false) => {}
            (_, true) => return Err(wrong("linux.uidMappings", "a new user namespace needs both mappings")),
            (_, false) if has(LinuxNamespaceType::User) => {} // another's: it has its own
            _ => {
                return Err(wrong(
                    "linux.uidMappings",
                    "they are for a user namespace, and none is asked for",
                ));
            }
        }
        for (field, value, kind) in [
            ("hostname", self.spec.hostname(), LinuxNamespaceType::Uts),
            ("domainname", self.spec.domainname(), LinuxNamespaceType::Uts),
        ] {
            if value.as_ref().is_some_and(|name| !name.is_empty()) && !has(kind) {
                return Err(wrong(field, "it would be the machine's: a uts namespace is missing"));
            }
        }
        if self.linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty())
            && !has(LinuxNamespaceType::Time)
        {
            return Err(wrong("linux.timeOffsets", "a time namespace is missing"));
        }
        if let Some(all) = self.spec.hooks() {
            #[allow(deprecated)]
            let kinds = [
                ("prestart", all.prestart()),
                ("createRuntime", all.create_runtime()),
                ("createContainer", all.create_container()),
                ("startContainer", all.start_container()),
                ("poststart", all.poststart()),
                ("poststop", all.poststop()),
            ];
            for (kind, hook) in
                kinds.iter().flat_map(|(kind, list)| list.iter().flatten().map(move |hook| (kind, hook)))
            {
                let field = format!("hooks.{kind}: {}", hook.path().display());
                if !hook.path().is_absolute() {
                    return Err(wrong(field, "the path does not begin with /"));
                }
                if hook.timeout().is_some_and(|seconds| seconds <= 0) {
                    return Err(wrong(field, "the timeout is not greater than zero"));
                }
            }
        }
        for mount in self.spec.mounts().iter().flatten() {
            if mount.destination().as_os_str().is_empty() {
                return Err(wrong("mounts", "a destination is empty"));
            }
        }
        self.refuse_what_is_not_done()
    }

    /// What is asked for and nobody does would be missed only when it matters.
    fn refuse_what_is_not_done(&self) -> Result<()> {
        for (field, is_there) in [
            ("linux.intelRdt", self.linux.intel_rdt().is_some()),
            ("linux.netDevices", self.linux.net_devices().as_ref().is_some_and(|list| !list.is_empty())),
        ] {
            if is_there {
                return Err(wrong(field, "this runtime does not do that"));
            }
        }
        Ok(())
    }

    /// Is the terminal to be one of its own?
    pub fn has_terminal(&self) -> bool {
        self.spec.process().as_ref().is_some_and(|process| process.terminal() == Some(true))
    }
}

/// A process that can be run.
pub fn check_process(process: &Process) -> Result<()> {
    let arguments = process.args().as_deref().unwrap_or_default();
    if arguments.first().is_none_or(String::is_empty) {
        return Err(wrong("process.args", "it names no program"));
    }
    if !process.cwd().is_absolute() {
        return Err(wrong("process.cwd", format!("{:?} does not begin with /", process.cwd())));
    }
    let mut limits = HashSet::new();
    for limit in process.rlimits().iter().flatten() {
        if !limits.insert(limit.typ().to_string()) {
            return Err(wrong("process.rlimits", format!("{} is there twice", limit.typ())));
        }
    }
    for text in arguments.iter().chain(process.env().iter().flatten()) {
        if text.contains('\0') {
            return Err(wrong("process", "a text in it has a zero byte"));
        }
    }
    Ok(())
}

/// The field is wrong.
pub fn wrong(field: impl AsRef<str>, detail: impl AsRef<str>) -> Error {
    Error::new(STEP, format!("{}: {}", field.as_ref(), detail.as_ref()))
}

fn parse(text: &[u8]) -> Result<Spec> {
    let spec: Spec = serde_json::from_slice(text).map_err(|error| {
        let field = field_before(text, error.line(), error.column());
        Error::new(STEP, field.map_or(error.to_string(), |field| format!("{field}: {error}")))
    })?;
    check_version(spec.version())?;
    Ok(spec)
}

/// The name of the field in whose value something is wrong: the last one before that place that a colon follows.
fn field_before(text: &[u8], line: usize, column: usize) -> Option<String> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let before: Vec<u8> = lines
        .take(line)
        .enumerate()
        .flat_map(|(at, one)| match at + 1 == line {
            true => &one[..column.min(one.len())],
            false => one,
        })
        .copied()
        .collect();
    let before = String::from_utf8_lossy(&before).into_owned();
    let (mut last, mut texts) = (None, before.split('"').enumerate().peekable());
    // What stands between two quotation marks has an odd number. (One that is escaped makes this guess wrong, and no more.)
    while let Some((number, part)) = texts.next() {
        if number % 2 == 1 && texts.peek().is_some_and(|(_, after)| after.trim_start().starts_with(':')) {
            last = Some(part.to_string());
        }
    }
    last.filter(|name| !name.is_empty())
}

fn check_version(version: &str) -> Result<()> {
    let mut numbers = version.split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(1)), Some(Ok(_)), Some(Ok(_))) => Ok(()),
        _ => Err(wrong(
            "ociVersion",
            format!("{version:?}: this runtime follows {VERSION}, and reads all 1.x"),
        )),
    }
}
