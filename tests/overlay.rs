//! The overlay that the book's chapter 3 lets its reader write to does what the kernel's does.
//!
//! Its rules are in book/js/overlay-lab.js; tests/overlay/cases.mjs writes what they say into tests/overlay/cases.json
//! (`--check` in CI), and here the same steps are taken on a real overlay.

#![allow(clippy::panic)] // that is how a test fails

mod support;

use std::ffi::CString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;
use support::{Case, ROOT, Who, run};

fn main() -> std::process::ExitCode {
    support::main(vec![
        Case::new("does_what_the_page_says", ROOT, does_what_the_page_says).needs(&["overlay"]),
    ])
}

const PLACE: &str = "/tmp/overlay";

fn does_what_the_page_says(_: Who) {
    let text = include_str!("overlay/cases.json");
    let all: Value = serde_json::from_str(text).expect("JSON");
    let cases = all["cases"].as_array().expect("a list");
    assert!(cases.len() > 10, "there is something to try");
    for (number, steps) in cases.iter().enumerate() {
        lay(&all["lower"]);
        let mut taken = Vec::new();
        for expected in steps.as_array().expect("a list") {
            let step = &expected["step"];
            taken.push(step.to_string());
            let error = take(step).err().map_or(String::new(), |errno| format!("{errno:?}"));
            let told = |key: &str| -> Vec<String> {
                let lines = expected[key].as_array().expect("a list").iter();
                lines.map(|line| line.as_str().expect("text").to_string()).collect()
            };
            let story = taken.join(" ");
            assert_eq!(Value::from(error), expected["error"], "case {number}: {story}");
            assert_eq!(entries("merged", &all["lower"]), told("merged"), "case {number}, merged: {story}");
            assert_eq!(entries("upper", &all["lower"]), told("upper"), "case {number}, upper: {story}");
        }
        assert_eq!(entries("lower", &all["lower"]).len(), all["lower"].as_array().map_or(0, Vec::len));
        umount2(Path::new(PLACE).join("merged").as_path(), MntFlags::empty()).expect("it is mounted");
        umount2(PLACE, MntFlags::empty()).expect("it is mounted");
    }
}

/// Mounts a new overlay of a lower directory with these files.
fn lay(lower: &Value) {
    fs::create_dir_all(PLACE).expect("/tmp is writable");
    mount(Some("tmpfs"), PLACE, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a tmpfs");
    for directory in ["lower", "upper", "work", "merged"] {
        fs::create_dir(Path::new(PLACE).join(directory)).expect("it is new");
    }
    for entry in lower.as_array().expect("a list") {
        let word = |index: usize| entry[index].as_str().expect("text");
        let path = Path::new(PLACE).join("lower").join(word(1));
        match word(0) {
            "dir" => fs::create_dir(&path).expect("it is new"),
            _ => fs::write(&path, word(2)).expect("it is new"),
        }
    }
    // As where nobody has chosen otherwise. Some kernels can rename a directory of the lower layer; never in a user
    // namespace, where it is an error to ask.
    let more = if run::real_root() { "redirect_dir=off" } else { "userxattr" };
    let options = format!("lowerdir={PLACE}/lower,upperdir={PLACE}/upper,workdir={PLACE}/work,{more}");
    let merged = Path::new(PLACE).join("merged");
    mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .expect("an overlay");
}

/// Does to the merged directory what the reader does.
fn take(step: &Value) -> Result<(), Errno> {
    let word = |index: usize| step[index].as_str().unwrap_or_default();
    let path = |index: usize| Path::new(PLACE).join("merged").join(word(index));
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
    match word(0) {
        "write" => fs::write(path(1), word(2)).map_err(errno),
        "mkdir" => fs::create_dir(path(1)).map_err(errno),
        "remove" => if path(1).is_dir() { fs::remove_dir_all(path(1)) } else { fs::remove_file(path(1)) }
            .map_err(errno),
        "rename" => {
            if path(2).exists() {
                return Err(Errno::EEXIST); // the page does not replace anything
            }
            match fs::rename(path(1), path(2)) {
                // What mv(1) does then.
                Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                    copy(&path(1), &path(2)).and_then(|()| fs::remove_dir_all(path(1))).map_err(errno)
                }
                result => result.map_err(errno),
            }
        }
        other => panic!("what is {other}?"),
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        return fs::write(to, fs::read(from)?);
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// What is in one of the directories, as the page's rules write it.
fn entries(directory: &str, lower: &Value) -> Vec<String> {
    let top = Path::new(PLACE).join(directory);
    let mut lines = Vec::new();
    walk(&top, &top, lower, &mut lines);
    lines.sort();
    lines
}

fn walk(top: &Path, directory: &Path, lower: &Value, lines: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("readable").flatten() {
        let path = entry.path();
        let name = path.strip_prefix(top).expect("below it").display().to_string();
        let found = fs::symlink_metadata(&path).expect("it is there");
        if found.is_dir() {
            // The kernel marks every new directory as opaque, to save itself a look below. It matters where there is
            // something below.
            let below = lower.as_array().is_some_and(|all| all.iter().any(|entry| entry[1] == *name));
            let kind = if below && is_opaque(&path) { "opaque" } else { "dir" };
            lines.push(format!("{kind} {name}"));
            walk(top, &path, lower, lines);
        } else if found.file_type().is_char_device() && found.rdev() == 0 {
            lines.push(format!("whiteout {name}"));
        } else {
            lines.push(format!("file {name} {}", fs::read_to_string(&path).expect("readable")));
        }
    }
}

fn is_opaque(path: &Path) -> bool {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no zero in a path");
    [c"trusted.overlay.opaque", c"user.overlay.opaque"].iter().any(|name| {
        let mut value = [0u8; 1];
        // SAFETY: both names are C strings, and the kernel writes one byte at most into `value`.
        let length =
            unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        length == 1 && value[0] == b'y'
    })
}
