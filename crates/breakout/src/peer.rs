//! Other runtimes in a chapter's place: runc and crun, as they come.
//!
//! What they are given is what their own `spec` writes: the file that everybody begins with. Only what an attack needs is
//! changed in it: where the root filesystem is, what is started in it, that there is no terminal, and the volume that the chapters
//! are given by an option.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cooperage::told::errors::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Those that are known here.
pub const PEERS: [&str; 2] = ["runc", "crun"];

/// A runtime of this machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Peer {
    /// What it is called.
    pub name: String,
    /// Its program.
    pub program: PathBuf,
}

impl Peer {
    /// Finds it on this machine.
    pub fn find(name: &str) -> Result<Peer> {
        let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
        let found = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file());
        let missing =
            || Error::new("attack", format!("there is no {name}")).remedy(format!("apt install {name}"));
        Ok(Peer { name: name.to_string(), program: found.ok_or_else(missing)? })
    }

    /// Which one it is: the last word of the first line that it says of itself.
    pub fn version(&self) -> String {
        let said = Command::new(&self.program).arg("--version").stdin(Stdio::null()).output();
        let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
        said.lines().next().and_then(|line| line.split(' ').next_back()).unwrap_or_default().to_string()
    }
}

/// Makes a bundle in `directory` by the runtime's own `spec`, with this command and what the options ask for.
pub fn bundle(
    program: &Path,
    directory: &Path,
    rootfs: &Path,
    options: &[String],
    command: &[String],
) -> Result<()> {
    const STEP: &str = "make a bundle";
    fs::create_dir(directory).map_err(|error| Error::io(STEP, directory, &error))?;
    let mut spec = Command::new(program);
    let status = spec.arg("spec").current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.map_err(|error| Error::io(STEP, program, &error))?;
    let file = directory.join("config.json");
    let text = fs::read(&file).map_err(|error| Error::io(format!("{STEP} ({status})"), &file, &error))?;
    let mut config: Value =
        serde_json::from_slice(&text).map_err(|error| Error::new(STEP, error.to_string()))?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(command);
    config["root"]["path"] = json!(rootfs);
    for option in options.chunks_exact(2) {
        config["mounts"]
            .as_array_mut()
            .zip(volume(&option[0], &option[1]))
            .map(|(all, one)| all.push(one))
            .ok_or_else(|| {
            Error::new(STEP, format!("{} {} has no place in config.json", option[0], option[1]))
        })?;
    }
    fs::write(&file, config.to_string()).map_err(|error| Error::io(STEP, &file, &error))
}

/// What the chapters' `--volume` is in config.json.
fn volume(option: &str, value: &str) -> Option<Value> {
    let (value, how) = value.strip_suffix(":ro").map_or((value, "rw"), |value| (value, "ro"));
    let (source, target) = value.split_once(':').filter(|_| option == "--volume")?;
    Some(json!({ "destination": target, "type": "bind", "source": source, "options": ["rbind", how] }))
}

/// What comes before the bundle. crun would want to raise a limit for its filter of devices, which not every machine's root
/// may; so it makes no cgroup.
pub fn arguments(name: &str) -> &'static [&'static str] {
    if name == "crun" { &[WITHOUT_CGROUPS, "run"] } else { &["run"] }
}

/// crun's word for that.
pub const WITHOUT_CGROUPS: &str = "--cgroup-manager=disabled";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_have_their_place() {
        let found = volume("--volume", "/here:/there:ro").expect("a volume");
        assert_eq!((&found["source"], &found["destination"]), (&json!("/here"), &json!("/there")));
        assert_eq!(found["options"], json!(["rbind", "ro"]));
        assert!(volume("--memory", "1:2").is_none() && volume("--volume", "/here").is_none());
    }
}
