//! Chapter 9: AppArmor. A process carries the name of a *profile*: rules that say which files it may use and how, which
//! capabilities, whom it may send a signal. Root loads profiles into the kernel; a name is taken with execve(2), stays with
//! every child, and is given up again only where the profile says so. See apparmor(7).

use std::path::Path;

use super::labels::Label;
use crate::told::errors::{Error, Result};

/// The profile that is a container's unless it is said otherwise.
pub const USUAL: &str = "cooperage-default";

/// Its rules, as apparmor_parser(8) reads them.
pub const RULES: &str = include_str!("cooperage-default.apparmor");

/// No profile.
pub const UNCONFINED: &str = "unconfined";

/// Where the kernel lists the profiles. There is an older list, the file `profiles` beside it, but only the machine's root
/// may read that one.
const LOADED: &str = "/sys/kernel/security/apparmor/policy/profiles";

// ANCHOR: apparmor-chosen
/// The label for the profile that was asked for; the usual one, if it is loaded, where none was.
///
/// It is decided in the parent, because the container's /sys has no list of profiles.
pub fn chosen(profile: Option<&str>) -> Result<Option<Label>> {
    match profile {
        None => Ok(is_loaded(USUAL).then(|| Label::AppArmor(USUAL.to_string()))),
        Some(UNCONFINED) => Ok(None),
        Some(profile) => {
            is_on()?;
            // No list, or a profile that is in none (a child of another): then the kernel answers when the name is taken.
            let may_be_there = profile.contains(['/', ':']) || loaded().is_none() || is_loaded(profile);
            may_be_there
                .then(|| Some(Label::AppArmor(profile.to_string())))
                .ok_or_else(|| not_loaded(profile))
        }
    }
}
// ANCHOR_END: apparmor-chosen

/// Is AppArmor on in this kernel? The error says that it is not.
pub fn is_on() -> Result<()> {
    let parameter = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if parameter.is_ok_and(|found| found.trim() == "Y") {
        return Ok(());
    }
    Err(Error::new("confine a command by AppArmor", "AppArmor is not on in this kernel").remedy(
        "everything else holds without it; a kernel that has it is booted with apparmor=1 security=apparmor",
    ))
}

/// Is this profile loaded? No, if there is no list of them to be seen here.
pub fn is_loaded(profile: &str) -> bool {
    loaded().is_some_and(|loaded| loaded.iter().any(|name| name == profile))
}

/// The error for a profile that is not.
pub fn not_loaded(profile: &str) -> Error {
    let remedy = match profile {
        USUAL => "as root: target/debug/doctor --apparmor",
        _ => "apparmor_parser -r FILE loads one; `aa-status` shows which there are",
    };
    Error::new("choose a profile of AppArmor's", format!("{profile} is not loaded")).remedy(remedy)
}

/// The names of the profiles, if they can be seen here.
pub fn loaded() -> Option<Vec<String>> {
    let profiles = std::fs::read_dir(Path::new(LOADED)).ok()?.flatten();
    let name = |path: &Path| std::fs::read_to_string(path.join("name")).ok();
    Some(profiles.filter_map(|entry| name(&entry.path())).map(|name| name.trim().to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_for_the_usual_name() {
        assert!(RULES.contains(&format!("\nprofile {USUAL} flags=")));
        assert_eq!(RULES.matches("peer=cooperage-default,").count(), 2);
        // Every rule that is no denial was thought about.
        let allows = |line: &&str| line.starts_with("  ") && !line.trim().starts_with(['#', 'd']);
        let allowed: Vec<&str> =
            RULES.lines().filter(allows).map(|line| line.split([' ', ',']).nth(2).unwrap_or("")).collect();
        assert_eq!(allowed, ["file", "network", "capability", "signal", "signal", "ptrace"]);
    }

    #[test]
    fn nothing_is_asked_of_the_kernel_for_no_profile() {
        assert!(chosen(Some(UNCONFINED)).is_ok_and(|label| label.is_none()));
    }
}
