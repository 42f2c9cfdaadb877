//! Builds what is to be graded, and keeps of the compiler's messages the first error.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::workshop::errors::{Error, Result};

/// What came of building: a program, or the compiler's first error.
pub type Built = std::result::Result<PathBuf, String>;

const STEP: &str = "build what is to be graded";

/// Builds programs of the crate itself.
pub fn own(root: &Path, names: &[&str]) -> Result<BTreeMap<String, Built>> {
    let mut command = cargo(root);
    command.arg("build").arg("--keep-going");
    for name in names {
        command.args(["--bin", name]);
    }
    run(command, names)
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
    let mut dependencies = match own.get("dependencies") {
        Some(toml::Value::Table(table)) => table.clone(),
        _ => toml::Table::new(),
    };
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
    // The same flags, so that the library need not be built again.
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

    let mut command = cargo(root);
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    command.current_dir(directory).env("CARGO_TARGET_DIR", target);
    command.args(["build", "--offline", "--keep-going", "--bins"]);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    run(command, &names)
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

fn run(mut command: Command, names: &[&str]) -> Result<BTreeMap<String, Built>> {
    command.args(["--quiet", "--message-format=json"]).stdin(Stdio::null());
    let output = command.output().map_err(|error| {
        Error::new(STEP, format!("cargo can't be started: {error}"))
            .remedy("install Rust (rustup.rs); or grade an executable with --program PATH")
    })?;
    let mut built: BTreeMap<String, Built> = BTreeMap::new();
    let mut general = None;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
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
    }
    if !output.status.success() && built.values().all(|result| result.is_ok()) {
        // Not the student's file: the library, the manifest, the linker.
        let text = general.unwrap_or_else(|| String::from_utf8_lossy(&output.stderr).trim_end().to_string());
        for name in names {
            built.entry((*name).to_string()).or_insert_with(|| Err(text.clone()));
        }
    }
    Ok(built)
}
