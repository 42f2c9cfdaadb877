//! Chapter 9: SELinux. Every process and every file carries a *context*, `user:role:type:level`. A policy, loaded when the
//! machine boots, says what processes of one type may do to files of another; and the level keeps apart those of the same
//! type. See selinux(8).

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::told::errors::{Error, Result};

/// What a process or a file is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    user: String,
    role: String,
    kind: String,
    level: Option<String>,
}

impl FromStr for Context {
    type Err = String;

    fn from_str(text: &str) -> Result<Context, String> {
        // The level may have colons of its own, and a policy without levels has none.
        let mut parts = text.splitn(4, ':').map(str::to_string);
        let (user, role, kind, level) = (parts.next(), parts.next(), parts.next(), parts.next());
        let is_word = |part: &String| !part.is_empty() && !part.contains(['"', '\0', '\n']);
        let all = [&user, &role, &kind].into_iter().all(|part| part.as_ref().is_some_and(is_word));
        match (user, role, kind) {
            (Some(user), Some(role), Some(kind)) if all && level.as_ref().is_none_or(is_word) => {
                Ok(Context { user, role, kind, level })
            }
            _ => Err(format!("{text:?} is no context: write USER:ROLE:TYPE:LEVEL")),
        }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.user, self.role, self.kind)?;
        self.level.as_ref().map_or(Ok(()), |level| write!(formatter, ":{level}"))
    }
}

/// The argument of `--security-opt label=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// No label.
    Disable,
    /// This one.
    Whole(Context),
    /// The usual one, but with this user.
    User(String),
    /// The usual one, but with this role.
    Role(String),
    /// The usual one, but of this type.
    Type(String),
    /// The usual one, but of this level.
    Level(String),
    /// The container's files are of this type.
    FileType(String),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Choice, String> {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let part = match name {
            "disable" if value.is_empty() => return Ok(Choice::Disable),
            "user" => Choice::User,
            "role" => Choice::Role,
            "type" => Choice::Type,
            "level" => Choice::Level,
            "filetype" => Choice::FileType,
            _ => return text.parse().map(Choice::Whole),
        };
        if value.is_empty() || value.contains(['"', '\0', '\n']) {
            return Err(format!("{value:?} is no {name} of a context"));
        }
        Ok(part(value.to_string()))
    }
}

/// What a container's processes and files are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contexts {
    /// The command, and all that it starts.
    pub process: Context,
    /// What it finds in the filesystems that are its own; none if the policy says nothing about containers.
    pub files: Option<Context>,
}

/// What was asked for; nothing, where nothing was.
pub fn chosen(choices: &[&Choice]) -> Result<Option<Contexts>> {
    if choices.is_empty() || choices.contains(&&Choice::Disable) {
        return Ok(None);
    }
    is_on()?;
    usual().map(|usual| Some(with(usual, choices)))
}

/// The usual contexts, changed as it was asked for. Who has another level or is another user has files of that level, and
/// of that user.
fn with(usual: Contexts, choices: &[&Choice]) -> Contexts {
    let Contexts { mut process, mut files } = usual;
    for choice in choices.iter().copied().cloned() {
        match choice {
            Choice::Disable => {}
            Choice::Whole(context) => process = context,
            Choice::User(user) => process.user = user,
            Choice::Role(role) => process.role = role,
            Choice::Type(kind) => process.kind = kind,
            Choice::Level(level) => process.level = Some(level),
            Choice::FileType(kind) => {
                let one = || Context { role: "object_r".to_string(), ..process.clone() };
                files = Some(Context { kind, ..files.unwrap_or_else(one) });
            }
        }
    }
    if let Some(files) = &mut files {
        files.user.clone_from(&process.user);
        files.level.clone_from(&process.level);
    }
    Contexts { process, files }
}

/// What the policy calls a container's processes and files. If it says nothing about containers, the process is called what
/// this one is.
fn usual() -> Result<Contexts> {
    const STEP: &str = "find out what the policy calls a container";
    let config = std::fs::read_to_string("/etc/selinux/config").unwrap_or_default();
    let policy = value(&config, "SELINUXTYPE").unwrap_or("targeted");
    let file = Path::new("/etc/selinux").join(policy).join("contexts/lxc_contexts");
    let named = std::fs::read_to_string(&file).unwrap_or_default();
    let context = |name: &str| value(&named, name).map(str::parse::<Context>).transpose();
    let wrong = |text: String| Error::new(STEP, format!("{}: {text}", file.display()));
    let (process, files) = (context("process").map_err(wrong)?, context("file").map_err(wrong)?);
    let process = match process {
        Some(process) => process,
        None => own()?,
    };
    Ok(Contexts { process, files })
}

/// What this process is called.
pub fn own() -> Result<Context> {
    const STEP: &str = "find out what SELinux calls this process";
    let file = "/proc/thread-self/attr/current";
    let text = std::fs::read_to_string(file).map_err(|error| Error::io(STEP, file, &error))?;
    text.trim_end_matches(['\0', '\n']).parse().map_err(|_| {
        Error::new(STEP, format!("it is {text:?}, which is no context"))
            .remedy("is a policy loaded? See sestatus(8)")
    })
}

/// `NAME=VALUE` in a file of SELinux's, with quotation marks or not.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim().trim_matches('"'))
}

/// Is SELinux on in this kernel? The error says that it is not.
pub fn is_on() -> Result<()> {
    if Path::new("/sys/fs/selinux/enforce").exists() {
        return Ok(());
    }
    Err(Error::new("confine a command by SELinux", "SELinux is not on in this kernel").remedy(
        "everything else holds without it; a kernel that has it is booted with selinux=1 security=selinux",
    ))
}

// ANCHOR: labelled
/// Options of a mount, and the context that all files of it have then.
pub fn labelled(options: &[u8], context: Option<&str>) -> Vec<u8> {
    let mut all = options.to_vec();
    if let Some(context) = context {
        // In quotation marks, because a level may have commas.
        let comma = if all.is_empty() { "" } else { "," };
        all.extend_from_slice(format!("{comma}context=\"{context}\"").as_bytes());
    }
    all
}
// ANCHOR_END: labelled

#[cfg(test)]
mod tests {
    use super::*;

    fn context(text: &str) -> Context {
        text.parse().expect("a context")
    }

    #[test]
    fn contexts_have_three_or_four_parts() {
        for text in ["a_u:b_r:c_t", "a_u:b_r:c_t:s0", "a_u:b_r:c_t:s0-s0:c0.c1023", "a_u:b_r:c_t:s0:c1,c2"] {
            assert_eq!(context(text).to_string(), text);
        }
        for text in ["", "kernel", "a:b", "a::c", ":b:c", "a:b:c:", "a:b:c\"d"] {
            assert!(text.parse::<Context>().is_err(), "{text}");
        }
    }

    #[test]
    fn choices_are_dockers() {
        let read = |text: &str| text.parse::<Choice>();
        assert_eq!(read("disable"), Ok(Choice::Disable));
        assert_eq!(read("type:c_t"), Ok(Choice::Type("c_t".to_string())));
        assert_eq!(read("level:s0:c1,c2"), Ok(Choice::Level("s0:c1,c2".to_string())));
        assert_eq!(read("a_u:b_r:c_t:s0"), Ok(Choice::Whole(context("a_u:b_r:c_t:s0"))));
        for text in ["", "type:", "level", "disable:x", "kind:c_t", "type:a\"b"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn parts_replace_parts() {
        let usual = Contexts {
            process: context("s_u:s_r:container_t:s0"),
            files: Some(context("s_u:object_r:container_file_t:s0")),
        };
        let said = |texts: &[&str]| {
            let choices: Vec<Choice> = texts.iter().map(|text| text.parse().expect("a choice")).collect();
            let found = with(usual.clone(), &choices.iter().collect::<Vec<_>>());
            (found.process.to_string(), found.files.expect("the policy has one").to_string())
        };
        let files = |text: &str| text.to_string();
        assert_eq!(
            said(&["type:web_t", "level:s0:c1,c2"]),
            (files("s_u:s_r:web_t:s0:c1,c2"), files("s_u:object_r:container_file_t:s0:c1,c2"))
        );
        assert_eq!(said(&["user:me_u"]).1, "me_u:object_r:container_file_t:s0");
        assert_eq!(said(&["filetype:web_file_t"]).1, "s_u:object_r:web_file_t:s0");
        // Where the policy names none, a type of files makes one.
        let unnamed = Contexts { files: None, ..usual.clone() };
        let found = with(unnamed, &[&Choice::FileType("f_t".to_string())]);
        assert_eq!(found.files, Some(context("s_u:object_r:f_t:s0")));
    }

    #[test]
    fn files_are_read_as_they_are_written() {
        let text = "# a comment\nprocess = \"a:b:c:s0\"\nSELINUXTYPE=default\n";
        assert_eq!(value(text, "process"), Some("a:b:c:s0"));
        assert_eq!(value(text, "SELINUXTYPE"), Some("default"));
        assert_eq!(value(text, "file"), None);
    }

    #[test]
    fn a_level_with_commas_is_one_option() {
        assert_eq!(labelled(b"mode=755", None), b"mode=755");
        assert_eq!(labelled(b"mode=755", Some("a:b:c:s0:c1,c2")), b"mode=755,context=\"a:b:c:s0:c1,c2\"");
        assert_eq!(labelled(b"", Some("a:b:c")), b"context=\"a:b:c\"");
    }
}
