//! Builds what is to be graded, and keeps of the compiler's messages the first error.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use cooperage::told::errors::{Error, Result};
use cooperage::workshop::chapters;

/// What came of building: a program, or the compiler's first error.
pub type Built = std::result::Result<PathBuf, String>;

const STEP: &str = "build what is to be graded";
/// How long cargo may have nothing to say. A text can keep the compiler busy for ever.
const SILENCE: Duration = Duration::from_secs(180);

/// Builds programs of the crate itself.
pub fn own(root: &Path, names: &[&str]) -> Result<BTreeMap<String, Built>> {
    let command = |names: &[&str]| {
        let mut command = cargo(root);
        command.arg("build").arg("--keep-going");
        for name in names {
            command.args(["--bin", name]);
        }
        command
    };
    let mut built = one_by_one(names, command)?;
    for (name, result) in &mut built {
        let chapter = name.strip_prefix("exercise").and_then(|digits| digits.parse().ok());
        if let Some(directory) = chapter.and_then(|chapter| chapters::directory(root, chapter).ok()) {
            of_one_file(result, root, &directory.join("exercise.rs"));
        }
    }
    Ok(built)
}

/// Builds files that are not of the crate, each a whole program against this crate's library, all at once:
/// in a package of their own in `directory`, with the crate's dependencies and its target directory.
pub fn foreign(
    root: &Path,
    directory: &Path,
    files: &[(String, PathBuf)],
) -> Result<BTreeMap<String, Built>> {
    let io = |path: &Path, error: &std::io::Error| Error::io(STEP, path, error);
    fs::create_dir_all(directory).map_err(|error| io(directory, &error))?;
    let file = root.join("Cargo.toml");
    let text = fs::read_to_string(&file).map_err(|error| io(&file, &error))?;
    let own: toml::Table =
        toml::from_str(&text).map_err(|error| Error::new(STEP, format!("{}: {error}", file.display())))?;
    let mut dependencies = dependencies(&own);
    let mut library = toml::Table::new();
    library.insert("path".into(), root.display().to_string().into());
    dependencies.insert("cooperage".into(), library.into());
    let mut package = toml::Table::new();
    package.insert("name".into(), "cooperage-graded".into());
    package.insert("version".into(), "0.0.0".into());
    package.insert("edition".into(), "2024".into());
    package.insert("autobins".into(), false.into());
    let mut bins = Vec::new();
    for (name, path) in files {
        let mut bin = toml::Table::new();
        bin.insert("name".into(), name.as_str().into());
        bin.insert("path".into(), path.display().to_string().into());
        bins.push(toml::Value::Table(bin));
    }
    let mut manifest = toml::Table::new();
    // With the crate's own flags, so that the library need not be built again.
    if let Some(profile) = own.get("profile") {
        manifest.insert("profile".into(), profile.clone());
    }
    manifest.insert("package".into(), package.into());
    manifest.insert("dependencies".into(), dependencies.into());
    manifest.insert("bin".into(), bins.into());
    // Not part of a workspace that may be above it.
    manifest.insert("workspace".into(), toml::Table::new().into());
    let manifest_file = directory.join("Cargo.toml");
    fs::write(&manifest_file, manifest.to_string()).map_err(|error| io(&manifest_file, &error))?;
    // The versions that the crate is locked to; cargo adds the new package.
    let _ = fs::copy(root.join("Cargo.lock"), directory.join("Cargo.lock"));

    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let command = |names: &[&str]| {
        let mut command = cargo(root);
        command.current_dir(directory).env("CARGO_TARGET_DIR", &target);
        command.args(["build", "--offline", "--keep-going"]);
        for name in names {
            command.args(["--bin", name]);
        }
        command
    };
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    let mut built = one_by_one(&names, command)?;
    for (name, path) in files {
        if let Some(result) = built.get_mut(name) {
            of_one_file(result, directory, path);
        }
    }
    Ok(built)
}

/// What the crate's library depends on. What a dependency inherits from the workspace is written out.
fn dependencies(manifest: &toml::Table) -> toml::Table {
    let table =
        |value: Option<&toml::Value>| value.and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let workspace = table(manifest.get("workspace"));
    let shared = table(workspace.get("dependencies"));
    let written_out = |(name, value): (String, toml::Value)| {
        let inherits = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
        let value = if inherits { shared.get(&name).cloned().unwrap_or(value) } else { value };
        (name, value)
    };
    table(manifest.get("dependencies")).into_iter().map(written_out).collect()
}

/// Builds all at once; and if the compiler gets stuck in one of them, what is left, each for itself.
fn one_by_one(names: &[&str], command: impl Fn(&[&str]) -> Command) -> Result<BTreeMap<String, Built>> {
    let (mut built, ended) = run(command(names), names)?;
    if ended {
        return Ok(built);
    }
    for name in names {
        if built.contains_key(*name) {
            continue;
        }
        let (mut one, _) = run(command(&[name]), &[name])?;
        let stuck = || Err(format!("the compiler has not ended within {} s", SILENCE.as_secs()));
        built.insert((*name).to_string(), one.remove(*name).unwrap_or_else(stuck));
    }
    Ok(built)
}

/// An exercise is one file: with `include!` it could be somebody else's answer. What the compiler has read is
/// told by a file in the form of a makefile.
/// `root` is the directory of the package: names in that file are relative to it.
fn of_one_file(result: &mut Built, root: &Path, file: &Path) {
    let Ok(program) = result else { return };
    let Some(text) = dep_info(program) else {
        *result = Err(format!("what {} was built from can't be told", program.display()));
        return;
    };
    // Its first line is "program: file file ...", with a backslash before a blank in a name. Cargo knows a
    // text that was handed in twice, and names the place where it first was.
    let own = fs::read(file).ok();
    let files = text.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, files)| files);
    let other = files
        .replace("\\ ", "\0")
        .split_whitespace()
        .map(|file| PathBuf::from(file.replace('\0', " ")))
        .find(|other| root.join(other) != file && fs::read(root.join(other)).ok() != own);
    if let Some(other) = other {
        *result = Err(format!(
            "it is built from {} as well: an exercise is one file, and what it needs of others is written into it",
            other.display()
        ));
    }
}

/// The compiler's list of what this program is made of. It is beside the program's other name, in deps/.
fn dep_info(program: &Path) -> Option<String> {
    let inode = fs::metadata(program).ok()?.ino();
    let stem = format!("{}-", program.file_name()?.to_string_lossy().replace('-', "_"));
    let entries = fs::read_dir(program.with_file_name("deps")).ok()?.flatten();
    let mut newest = None;
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(&stem) || path.extension().is_none_or(|extension| extension != "d") {
            continue;
        }
        let is_it = fs::metadata(path.with_extension("")).is_ok_and(|found| found.ino() == inode);
        let time = fs::metadata(&path).and_then(|found| found.modified()).ok()?;
        // Where there are no hard links, it is a copy.
        newest = newest.max(Some((is_it, time, path)));
    }
    fs::read_to_string(newest?.2).ok()
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    // What `cargo run` has set for this program is not for the next.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO_BIN_NAME" {
            command.env_remove(name);
        }
    }
    command
}

/// What cargo has built, and whether it came to its end.
fn run(mut command: Command, names: &[&str]) -> Result<(BTreeMap<String, Built>, bool)> {
    command.args(["--quiet", "--message-format=json"]).stdin(Stdio::null());
    // A process group, so that the compilers can be ended with it.
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut cargo = command.spawn().map_err(|error| {
        Error::new(STEP, format!("cargo can't be started: {error}"))
            .remedy("install Rust (rustup.rs); or grade an executable with --program PATH")
    })?;
    let (said, lines) = channel();
    let stdout = cargo.stdout.take();
    let reader = std::thread::spawn(move || {
        for line in
            stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(|line| line.ok())
        {
            if said.send(line).is_err() {
                return;
            }
        }
    });
    let mut stderr = cargo.stderr.take();
    let complaints = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stderr.as_mut().map(|stderr| stderr.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).trim_end().to_string()
    });

    let mut built: BTreeMap<String, Built> = BTreeMap::new();
    let mut general = None;
    let ended = loop {
        let line = match lines.recv_timeout(SILENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => {
                let _ = killpg(Pid::from_raw(cargo.id() as i32), Signal::SIGKILL);
                break false;
            }
        };
        let Ok(message) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
        let name = message["target"]["name"].as_str().unwrap_or_default().to_string();
        match message["reason"].as_str() {
            Some("compiler-message") if message["message"]["level"] == "error" => {
                let text = message["message"]["rendered"].as_str().unwrap_or_default().trim_end().to_string();
                if names.contains(&name.as_str()) {
                    built.entry(name).or_insert(Err(text));
                } else {
                    general.get_or_insert(text);
                }
            }
            Some("compiler-artifact") => {
                if let Some(path) = message["executable"].as_str() {
                    built.entry(name).or_insert_with(|| Ok(PathBuf::from(path)));
                }
            }
            _ => {}
        }
    };
    let status: ExitStatus = cargo.wait().map_err(|error| Error::new(STEP, format!("cargo: {error}")))?;
    let complaints = complaints.join().unwrap_or_default();
    drop(lines);
    let _ = reader.join();
    if ended && !status.success() && built.values().all(|result| result.is_ok()) {
        // Not the student's file: the library, the manifest, the linker.
        let text = general.unwrap_or(complaints);
        for name in names {
            built.entry((*name).to_string()).or_insert_with(|| Err(text.clone()));
        }
    }
    Ok((built, ended))
}
