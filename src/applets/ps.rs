//! ps: the processes that /proc shows, which is to say those of the PID namespace that this /proc was mounted in.

use std::collections::BTreeMap;
use std::fs;

use crate::{Done, Failure, print};

const USAGE: &str = "ps [-e] [-o COLUMN[=HEADING],...] [-p PID,...] [-C NAME,...]; COLUMN is one of user uid pid ppid pgid sid \
                     stat nice vsz rss comm args";

/// The columns: name, heading, width. What is a number is aligned to the right.
const COLUMNS: &[(&str, &str, usize)] = &[
    ("user", "USER", 8),
    ("uid", "UID", 5),
    ("pid", "PID", 5),
    ("ppid", "PPID", 5),
    ("pgid", "PGID", 5),
    ("sid", "SID", 5),
    ("stat", "STAT", 4),
    ("nice", "NI", 5),
    ("vsz", "VSZ", 7),
    ("rss", "RSS", 7),
    ("comm", "COMMAND", 16),
    ("args", "COMMAND", 27),
];

/// Lists processes.
pub fn main(arguments: &[String]) -> Done {
    let (mut columns, mut names, mut pids) = (Vec::new(), Vec::new(), Vec::new());
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        // Both `-o pid` and `-opid`.
        let mut list = |letter: &str| -> Option<Vec<String>> {
            let attached = word.strip_prefix(letter)?;
            let list =
                if attached.is_empty() { words.next().cloned().unwrap_or_default() } else { attached.into() };
            Some(list.split([',', ' ']).filter(|part| !part.is_empty()).map(str::to_string).collect())
        };
        if let Some(wanted) = list("-o") {
            for wanted in wanted {
                columns.push(column(&wanted)?);
            }
        } else if let Some(wanted) = list("-C") {
            names.extend(wanted);
        } else if let Some(wanted) = list("-p") {
            pids.extend(wanted);
        } else if !word.trim_start_matches('-').chars().all(|letter| "eAafuxww".contains(letter)) {
            // Those choose processes or columns elsewhere. Here all processes are shown, as busybox does.
            return Err(Failure::usage(USAGE));
        }
    }
    if columns.is_empty() {
        columns =
            ["pid", "user", "args"].map(|name| column(name).map_err(drop)).into_iter().flatten().collect();
    }
    let mut processes = Vec::new();
    let all =
        fs::read_dir("/proc").map_err(|error| format!("can't open '/proc': {}", crate::words(&error)))?;
    let users = users();
    for entry in all.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Ok(pid) = name.parse::<u32>()
            && let Some(process) = Process::read(pid, &users)
        // it may have ended in between
        {
            processes.push((pid, process));
        }
    }
    processes.sort_by_key(|(pid, _)| *pid);
    let wanted = |(pid, process): &(u32, Process)| {
        (pids.is_empty() && names.is_empty())
            || pids.contains(&pid.to_string())
            || names.iter().any(|name| *name == process.0["comm"])
    };
    let headings: Vec<&str> = columns.iter().map(|column| column.heading.as_str()).collect();
    if headings.iter().any(|heading| !heading.is_empty()) {
        print(&line(&columns, &headings, false));
    }
    let mut status = 1;
    for (_, process) in processes.iter().filter(|found| wanted(found)) {
        let values: Vec<&str> = columns.iter().map(|column| process.0[column.name].as_str()).collect();
        print(&line(&columns, &values, true));
        status = 0;
    }
    // That a named process is not there is a failure; that /proc is empty, as in chapter 1, is not.
    Ok(if names.is_empty() && pids.is_empty() { 0 } else { status })
}

struct Column {
    name: &'static str,
    heading: String,
    width: usize,
}

/// `pid`, or `pid=NUMBER`, or `pid=` for no heading.
fn column(wanted: &str) -> Result<Column, Failure> {
    let (name, own) = wanted.split_once('=').map_or((wanted, None), |(name, own)| (name, Some(own)));
    let name = match name {
        "command" | "cmd" => "args",
        "ucmd" | "ucomm" => "comm",
        "s" | "state" => "stat",
        "ni" => "nice",
        name => name,
    };
    match COLUMNS.iter().find(|(known, _, _)| *known == name) {
        Some(&(name, heading, width)) => {
            Ok(Column { name, heading: own.unwrap_or(heading).to_string(), width })
        }
        None => Err(Failure::usage(USAGE)),
    }
}

fn line(columns: &[Column], values: &[&str], numbers_to_the_right: bool) -> String {
    let mut line = String::new();
    for (index, (column, value)) in columns.iter().zip(values).enumerate() {
        let width = column.width;
        let last = index + 1 == columns.len();
        let number = numbers_to_the_right && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        line += &match (number && !matches!(column.name, "user" | "comm" | "args"), last) {
            (true, _) => format!("{value:>width$}"),
            (false, false) => format!("{value:<width$}"),
            (false, true) => value.to_string(),
        };
        if !last {
            line.push(' ');
        }
    }
    line
}

/// What is known of a process, by the column's name.
struct Process(BTreeMap<&'static str, String>);

impl Process {
    fn read(pid: u32, users: &BTreeMap<u32, String>) -> Option<Process> {
        let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
        let text = |name: &str| file(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let status = text("status")?;
        let number = |name: &str, nth| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.split_whitespace().nth(nth)?.parse::<u32>().ok()
        };
        let uid = number("Uid:", 1)?;
        let arguments = file("cmdline").unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).trim_end_matches('\0').replace('\0', " ");
        let mut process = Process::parse(&text("stat")?, &arguments)?;
        process.0.insert("uid", uid.to_string());
        process.0.insert("rss", number("VmRSS:", 0).unwrap_or_default().to_string());
        process.0.insert("user", users.get(&uid).cloned().unwrap_or_else(|| uid.to_string()));
        Some(process)
    }

    /// From /proc/PID/stat, see proc_pid_stat(5): a name in parentheses may itself have some.
    fn parse(stat: &str, arguments: &str) -> Option<Process> {
        let (pid, rest) = stat.split_once(" (")?;
        let (comm, rest) = rest.rsplit_once(") ")?;
        // The third field is the first of these.
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).map(|field| field.to_string());
        let (state, nice, bytes) = (field(3)?, field(19)?, field(23)?);
        let mut stat = state.clone();
        if bytes == "0" && state != "Z" {
            stat.push('W'); // no memory of its own: a kernel thread
        }
        match nice.parse::<i32>().ok()? {
            ..0 => stat.push('<'),
            0 => {}
            1.. => stat.push('N'),
        }
        // Without arguments it is a kernel thread, or has ended.
        let args = if arguments.is_empty() { format!("[{comm}]") } else { arguments.to_string() };
        Some(Process(BTreeMap::from([
            ("pid", pid.to_string()),
            ("comm", comm.to_string()),
            ("ppid", field(4)?),
            ("pgid", field(5)?),
            ("sid", field(6)?),
            ("nice", nice),
            ("stat", stat),
            ("vsz", (bytes.parse::<u64>().ok()? / 1024).to_string()),
            ("args", args),
        ])))
    }
}

/// The names of users, from /etc/passwd.
fn users() -> BTreeMap<u32, String> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((fields.nth(1)?.parse().ok()?, name.to_string()))
    };
    text.lines().filter_map(user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_process_with_parentheses_in_its_name() {
        let stat = "42 (a) b) S 7 40 39 34816 42 4194304 90 0 0 0 0 0 0 0 20 5 1 0 9000 4096000 300 18446744073709551615";
        let process = Process::parse(stat, "").map(|process| process.0).unwrap_or_default();
        let values: Vec<&str> = ["pid", "ppid", "pgid", "sid", "stat", "nice", "vsz", "comm", "args"]
            .map(|name| process[name].as_str())
            .into();
        assert_eq!(values, ["42", "7", "40", "39", "SN", "5", "4000", "a) b", "[a) b]"]);
    }

    #[test]
    fn lines_are_as_busybox_has_them() {
        let columns: Vec<Column> =
            ["pid", "ppid", "stat", "comm"].map(column).into_iter().flatten().collect();
        assert_eq!(line(&columns, &["PID", "PPID", "STAT", "COMMAND"], false), "PID   PPID  STAT COMMAND");
        assert_eq!(line(&columns, &["1", "0", "S", "sh"], true), "    1     0 S    sh");
        assert_eq!(column("pid=").map(|column| column.heading).ok(), Some(String::new()));
        assert!(column("colour").is_err());
    }
}
