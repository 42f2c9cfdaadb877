//! Chapter 8: the container's own names for its users, passwd(5) and group(5).
//!
//! The files are the container's and may hold anything. A FIFO would keep us waiting, a device never ends, a link leads
//! to a file of the host, a number that cannot be read must not count as 0. So they are opened inside the new root, looked at
//! before they are read, and believed only where a line is whole.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

use super::map::Map;
use super::maps::Users;
use super::person::{User, may_set_groups};
use super::subordinate;
use crate::container::process::Process;
use crate::container::root::NewRoot;
use crate::told::errors::{Error, Result};
use crate::told::explain;

/// More than that is no list of users.
const LONGEST_FILE: u64 = 1 << 20;
const LONGEST_LINE: usize = 16 << 10;

const STEP: &str = "find the user to run as";

/// A user or a group, by name or by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    fn number(&self) -> Option<u32> {
        self.0.parse().ok()
    }

    fn is(&self, name: &str, number: u32) -> bool {
        self.0 == name || self.number() == Some(number)
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Name, String> {
        if text.is_empty() {
            return Err("it is empty: write a name or a number".to_string());
        }
        if let Some(odd) = text.chars().find(|&odd| odd == ':' || odd.is_control()) {
            return Err(format!("{odd:?} is in no name"));
        }
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        // The last number of all stands for "no change": see setresuid(2).
        if digits && text.parse::<u32>().map_or(true, |number| number == u32::MAX) {
            return Err(format!("{text} is larger than any user's or group's number, 4294967294"));
        }
        Ok(Name(text.to_string()))
    }
}

/// Whom the command is to run as: `USER[:GROUP]`, as Docker writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    user: Name,
    group: Option<Name>,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Wanted, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group.parse()?)),
            None => (text, None),
        };
        Ok(Wanted { user: user.parse()?, group })
    }
}

impl Users {
    // ANCHOR: wanted-process
    /// The command, to be run as whom was wanted: with that user's group and further groups, as login would give
    /// them, and HOME. Asked for nobody, it runs as root.
    pub fn process(
        &self,
        mut process: Process,
        wanted: Option<&Wanted>,
        further: &[Name],
        root: &NewRoot,
    ) -> Result<Process> {
        if wanted.is_none() && further.is_empty() {
            return Ok(process);
        }
        let (passwd, group) = (Table::read(root, "etc/passwd", 7)?, Table::read(root, "etc/group", 4)?);
        let person =
            wanted.map_or_else(|| Ok(Person::root()), |wanted| Person::find(wanted, &passwd, &group))?;
        let mut groups = self.within(person.member_of);
        for name in further {
            groups.push(group.number_of(name)?);
        }
        groups.sort_unstable();
        groups.dedup();

        check("user", person.uid, &self.uids)?;
        for &gid in groups.iter().chain([&person.gid]) {
            check("group", gid, &self.gids)?;
        }
        if !groups.is_empty() && !self.may_set_groups() {
            return Err(Error::new(
                STEP,
                "an ordinary user who has mapped himself alone can be in no further group",
            )
            .remedy(subordinate::REMEDY));
        }
        process.user = Some(User {
            uid: Uid::from_raw(person.uid),
            gid: Gid::from_raw(person.gid),
            groups: groups.into_iter().map(Gid::from_raw).collect(),
        });
        process.set_variable("HOME", &person.home);
        Ok(process)
    }
    // ANCHOR_END: wanted-process

    /// Groups that a line of group(5) gives, without those that this container does not have.
    fn within(&self, groups: Vec<u32>) -> Vec<u32> {
        let (kept, left): (Vec<u32>, Vec<u32>) =
            groups.into_iter().partition(|&gid| self.gids.outside(gid).is_some() && self.may_set_groups());
        if !left.is_empty() {
            explain::remark(&format!("/etc/group gives groups that are not to be had here: {left:?}"));
        }
        kept
    }

    fn may_set_groups(&self) -> bool {
        self.differ() || may_set_groups()
    }
}

/// Does the container have a user or a group of this number?
fn check(kind: &str, number: u32, all: &Map) -> Result<()> {
    if all.outside(number).is_some() {
        return Ok(());
    }
    let error = Error::new(STEP, format!("{kind} {number} is out of range: this container has {all} only"));
    Err(if all.count() == 1 { error.remedy(subordinate::REMEDY) } else { error })
}

/// What the two files say of somebody.
struct Person {
    uid: u32,
    gid: u32,
    home: String,
    member_of: Vec<u32>,
}

impl Person {
    fn root() -> Person {
        Person { uid: 0, gid: 0, home: "/root".to_string(), member_of: Vec::new() }
    }

    // ANCHOR: find-person
    /// By Docker's rules: a number need not have a name, and is in group 0 then; whoever asks for a group is in that one
    /// alone.
    fn find(wanted: &Wanted, passwd: &Table, group: &Table) -> Result<Person> {
        let line = passwd.lines.iter().find(|line| wanted.user.is(&line.name, line.number));
        let mut person = match (line, wanted.user.number()) {
            (Some(line), _) => Person {
                uid: line.number,
                gid: line.fields[3].parse().map_err(|_| passwd.broken(line.at, "its group is no number"))?,
                home: line.fields[5].clone(),
                member_of: group.with_member(&line.name),
            },
            (None, Some(uid)) => Person { uid, home: "/".to_string(), ..Person::root() },
            (None, None) => return Err(passwd.unknown(&wanted.user)),
        };
        if person.home.is_empty() {
            person.home = "/".to_string();
        }
        if let Some(name) = &wanted.group {
            person.gid = group.number_of(name)?;
            person.member_of.clear();
        }
        Ok(person)
    }
    // ANCHOR_END: find-person
}

/// A file of lines with fields: name, password, number, and more.
struct Table {
    path: PathBuf,
    lines: Vec<Line>,
}

struct Line {
    at: usize,
    name: String,
    number: u32,
    fields: Vec<String>,
}

impl Table {
    // ANCHOR: read-table
    /// Reads it, inside the new root. One that is not there is empty.
    fn read(root: &NewRoot, name: &str, fields: usize) -> Result<Table> {
        let path = Path::new("/").join(name);
        let nothing = || Ok(Table { path: path.clone(), lines: Vec::new() });
        // O_NONBLOCK: to open a FIFO would wait for somebody to write to it.
        let file = match root.open_to_read(name) {
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENOTDIR)) => return nothing(),
            opened => File::from(opened?),
        };
        let found = file.metadata().map_err(|error| Error::io(STEP, &path, &error))?;
        if !found.is_file() {
            return Err(Error::new(STEP, format!("{} is not a file", path.display())));
        }
        let mut bytes = Vec::new();
        file.take(LONGEST_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io(STEP, &path, &error))?;
        if bytes.len() as u64 > LONGEST_FILE {
            return Err(Error::new(STEP, format!("{} is larger than 1 MiB", path.display())));
        }
        Table::parse(path, &bytes, fields)
    }
    // ANCHOR_END: read-table

    fn parse(path: PathBuf, bytes: &[u8], fields: usize) -> Result<Table> {
        let mut table = Table { path, lines: Vec::new() };
        for (at, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            // + and - are those of NIS, which nobody in a container asks.
            if line.is_empty() || b"#+-".contains(&line[0]) {
                continue;
            }
            let at = at + 1;
            if line.len() > LONGEST_LINE {
                return Err(table.broken(at, "it is longer than 16 KiB"));
            }
            if line.contains(&0) {
                return Err(table.broken(at, "it has a zero byte in it"));
            }
            let text = String::from_utf8_lossy(line);
            let all: Vec<String> = text.split(':').map(str::to_string).collect();
            if all.len() != fields {
                return Err(table.broken(at, &format!("it has {} fields and must have {fields}", all.len())));
            }
            let number = match all[2].parse() {
                Ok(number) if number != u32::MAX => number,
                _ => return Err(table.broken(at, &format!("{:?} is no number of a user or group", all[2]))),
            };
            table.lines.push(Line { at, name: all[0].clone(), number, fields: all });
        }
        Ok(table)
    }

    /// The number that goes with this name. A number need not have a name.
    fn number_of(&self, name: &Name) -> Result<u32> {
        let line = self.lines.iter().find(|line| name.is(&line.name, line.number));
        line.map(|line| line.number).or(name.number()).ok_or_else(|| self.unknown(name))
    }

    /// The groups that name this user as a member.
    fn with_member(&self, user: &str) -> Vec<u32> {
        let is_member = |line: &&Line| line.fields[3].split(',').any(|member| member.trim() == user);
        self.lines.iter().filter(is_member).map(|line| line.number).collect()
    }

    fn unknown(&self, name: &Name) -> Error {
        let path = self.path.display();
        let detail = match self.lines.is_empty() {
            true => format!("{:?} is a name, and the container has no {path}", name.0),
            false => format!("{:?} is not in the container's {path}", name.0),
        };
        Error::new(STEP, detail).remedy("give a number: no file has to know it")
    }

    fn broken(&self, at: usize, what: &str) -> Error {
        Error::new(STEP, format!("line {at} of the container's {}: {what}", self.path.display()))
            .remedy("correct it in the root filesystem")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# a comment\n\nweb:x:33:33::/var/www:/bin/sh\n+::::::\n\
                          odd:x:5:6::: \n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nlog:x:4:web,root\nbig:x:70000: web\n";

    fn table(text: &str, fields: usize) -> Result<Table> {
        Table::parse(
            PathBuf::from(if fields == 7 { "/etc/passwd" } else { "/etc/group" }),
            text.as_bytes(),
            fields,
        )
    }

    fn find(wanted: &str) -> Result<(u32, u32, Vec<u32>, String)> {
        let wanted: Wanted = wanted.parse().map_err(|error: String| Error::new("parse", error))?;
        let person = Person::find(&wanted, &table(PASSWD, 7)?, &table(GROUP, 4)?)?;
        Ok((person.uid, person.gid, person.member_of, person.home))
    }

    #[test]
    fn people_are_found_as_docker_finds_them() {
        let person = |uid, gid, groups: &[u32], home: &str| Ok((uid, gid, groups.to_vec(), home.to_string()));
        let found = |wanted| find(wanted).map_err(|error| error.to_string());
        assert_eq!(found("web"), person(33, 33, &[4, 70000], "/var/www"));
        assert_eq!(found("33"), person(33, 33, &[4, 70000], "/var/www"));
        assert_eq!(found("web:log"), person(33, 4, &[], "/var/www"));
        assert_eq!(found("web:12"), person(33, 12, &[], "/var/www"));
        assert_eq!(found("1234"), person(1234, 0, &[], "/"));
        assert_eq!(found("1234:web"), person(1234, 33, &[], "/"));
        assert_eq!(found("root"), person(0, 0, &[4], "/root"));
        assert_eq!(found("odd"), person(5, 6, &[], "/"));
    }

    #[test]
    fn nobody_is_found_by_guessing() {
        for (wanted, says) in [
            ("nosuch", "\"nosuch\" is not in the container's /etc/passwd"),
            ("web:nosuch", "\"nosuch\" is not in the container's /etc/group"),
            ("-1", "not in"),
        ] {
            let error = find(wanted).expect_err(wanted).to_string();
            assert!(error.contains(says), "{error}");
        }
        for wrong in ["", ":", "a:", ":b", "a:b:c", "4294967295", "99999999999", "a\nb"] {
            assert!(wrong.parse::<Wanted>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_broken_line_is_no_user() {
        let long = format!("root:x:0:0:{}:/root:/bin/sh\n", "x".repeat(LONGEST_LINE));
        for (text, says) in [
            ("root:x:0:0\n", "line 1 of the container's /etc/passwd: it has 4 fields and must have 7"),
            (
                "a:x:1:1::/:\nroot:x:zero:0::/:\n",
                "line 2 of the container's /etc/passwd: \"zero\" is no number",
            ),
            ("root:x::0::/:\n", "\"\" is no number"),
            ("root:x:-1:0::/:\n", "\"-1\" is no number"),
            ("root:x:4294967295:0::/:\n", "is no number"),
            ("root:x:0:0:a\0b:/:\n", "zero byte"),
            (&long, "longer than 16 KiB"),
        ] {
            let error = table(text, 7).err().expect(says).to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(table("", 7).expect("empty").lines.is_empty());
    }
}
