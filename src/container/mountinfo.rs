//! What is mounted: the lines of /proc/PID/mountinfo. See proc_pid_mountinfo(5).

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A mount: one line, without the numbers at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mounted {
    /// The directory of the filesystem that is seen here; not `/` for most bind mounts.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Options of this mount, such as `ro` and `nosuid`.
    pub options: Vec<String>,
    /// How it shares what is mounted below it: `shared:N`, `master:N`, `propagate_from:N`, `unbindable`; or
    /// nothing, if it is private.
    pub propagation: Vec<String>,
    /// The kind of filesystem.
    pub kind: String,
    /// What was mounted: a device, or any word.
    pub source: String,
    /// Options of the filesystem, whichever mount it is seen through.
    pub filesystem_options: Vec<String>,
}

impl Mounted {
    /// Is it mounted with this option, or does its filesystem have it?
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().chain(&self.filesystem_options).any(|other| other == option)
    }
}

/// As the kernel writes it, but for the numbers and the escapes.
impl fmt::Display for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.root.display(), self.point.display(), self.options.join(","))?;
        for word in &self.propagation {
            write!(f, "{word} ")?;
        }
        write!(f, "- {} {} {}", self.kind, self.source, self.filesystem_options.join(","))
    }
}

/// The mounts of this process's mount namespace that can be seen from its root directory, in the kernel's order.
pub fn here() -> std::io::Result<Vec<Mounted>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// The mounts in a mountinfo file.
pub fn parse(table: &[u8]) -> Vec<Mounted> {
    table.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

/// A line such as `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
fn parse_line(line: &[u8]) -> Option<Mounted> {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    // How many words stand before the dash differs.
    let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    let path = |n: usize| Some(PathBuf::from(OsStr::from_bytes(&unescape(fields.get(n)?))));
    let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
    let word = |n: usize| fields.get(n).map(|field| text(field));
    let options = |n: usize| -> Option<Vec<String>> {
        Some(fields.get(n)?.split(|&byte| byte == b',').map(text).collect())
    };
    Some(Mounted {
        root: path(3)?,
        point: path(4)?,
        options: options(5)?,
        propagation: fields[6..dash].iter().map(|field| text(field)).collect(),
        kind: word(dash + 1)?,
        source: word(dash + 2)?,
        filesystem_options: options(dash + 3)?,
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits: `\040` is a space.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let digits =
            tail.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            None => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn reads_every_field() {
        let line =
            br"36 35 98:0 /a\040b /mnt\134x rw,nosuid shared:3 master:1 - ext3 /dev/root ro,errors=continue";
        let mount = parse_line(line).expect("the line is well-formed");
        assert_eq!((mount.root.as_path(), mount.point.as_path()), (Path::new("/a b"), Path::new(r"/mnt\x")));
        assert_eq!(
            (mount.options.join(" "), mount.propagation.join(" ")),
            ("rw nosuid".into(), "shared:3 master:1".into())
        );
        assert_eq!((mount.kind.as_str(), mount.source.as_str()), ("ext3", "/dev/root"));
        assert!(mount.has("ro") && mount.has("nosuid") && !mount.has("nodev"));
        assert_eq!(
            mount.to_string(),
            r"/a b /mnt\x rw,nosuid shared:3 master:1 - ext3 /dev/root ro,errors=continue"
        );
    }

    #[test]
    fn skips_what_is_no_line() {
        assert_eq!(parse_line(b""), None);
        assert_eq!(parse_line(b"1 -"), None);
        let private = b"22 1 0:21 / /proc rw - proc proc rw\n\nrubbish\n";
        let mounts = parse(private);
        assert_eq!(mounts.len(), 1);
        assert!(mounts[0].propagation.is_empty());
    }

    #[test]
    fn a_path_need_not_be_text() {
        let mounts = parse(b"1 1 0:1 / /\xff\\011\\x - tmpfs tmpfs rw\n1 1 0:1 / /a\\0 rw - tmpfs - rw\n");
        assert_eq!(mounts.len(), 1, "the first has no options");
        assert_eq!(mounts[0].point, Path::new(r"/a\0"));
        let mounts = parse(b"1 1 0:1 / /\xff\\011 rw - tmpfs tmpfs rw");
        assert_eq!(mounts[0].point.as_os_str().as_bytes(), b"/\xff\t");
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(here().expect("readable").iter().any(|mount| mount.point == Path::new("/")));
    }
}
