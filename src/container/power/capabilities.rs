//! Chapter 9: the pieces of root's power that a command keeps. See capabilities(7).
//!
//! A thread has five sets. *Effective* is what counts when the kernel asks; *permitted* what it may make effective;
//! *inheritable* and *ambient* what passes through execve(2); and the *bounding* set is the lid: what is not in it, no
//! program can ever get again, whatever stands in its file.

use std::fmt;
use std::str::FromStr;

use crate::container::capability::Capability;
use crate::container::sys;
use crate::container::user::person::User;
use crate::told::errors::{Error, Result};
use crate::told::explain;

const STEP: &str = "settle what root may do";

// ANCHOR: usual-capabilities
/// What a container's root keeps unless it is told otherwise: Docker's fourteen. Each can be explained by a program that
/// packages need when they are installed, or by a server that changes its user.
pub const USUAL: [Capability; 14] = [
    Capability::CHOWN,
    Capability::DAC_OVERRIDE,
    Capability::FOWNER,
    Capability::FSETID,
    Capability::KILL,
    Capability::SETGID,
    Capability::SETUID,
    Capability::SETPCAP,
    Capability::NET_BIND_SERVICE,
    Capability::NET_RAW,
    Capability::SYS_CHROOT,
    Capability::MKNOD,
    Capability::AUDIT_WRITE,
    Capability::SETFCAP,
];
// ANCHOR_END: usual-capabilities

/// A set of capabilities: a bit for each, as the kernel has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Set(pub u64);

impl Set {
    /// Those of this list.
    pub fn of(list: impl IntoIterator<Item = Capability>) -> Set {
        Set(list.into_iter().fold(0, |set, capability| set | bit(capability)))
    }

    /// Is it in the set?
    pub fn contains(self, capability: Capability) -> bool {
        capability.is_in(self.0)
    }

    /// Its members.
    pub fn members(self) -> impl Iterator<Item = Capability> {
        (0..64).map(Capability).filter(move |&capability| self.contains(capability))
    }
}

fn bit(capability: Capability) -> u64 {
    1_u64.checked_shl(capability.0).unwrap_or(0)
}

/// Their names, one after the other.
impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.members().map(|capability| capability.to_string()).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(" "))
    }
}

/// The argument of `--cap-add` and `--cap-drop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// `ALL`
    All,
    /// One of them.
    One(Capability),
}

impl FromStr for Choice {
    type Err = String;

    /// `NET_ADMIN`, `CAP_NET_ADMIN`, in small letters too; `ALL`. One without a name is called by its number: `CAP_41`.
    fn from_str(text: &str) -> Result<Choice, String> {
        let upper = text.to_uppercase();
        if upper == "ALL" {
            return Ok(Choice::All);
        }
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let named =
            |capability: &&Capability| capability.name().is_some_and(|full| &full["CAP_".len()..] == name);
        if let Some(&capability) = Capability::KNOWN.iter().find(named) {
            return Ok(Choice::One(capability));
        }
        match name.parse() {
            Ok(number) if number < 64 && !name.starts_with('+') => Ok(Choice::One(Capability(number))),
            _ => {
                Err(format!("{text:?} is no capability: see capabilities(7), for example NET_ADMIN; or ALL"))
            }
        }
    }
}

/// What a command keeps of root's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// The lid, and what root has.
    bounding: Set,
    /// Those that were asked for by name: another user than root keeps them too.
    added: Set,
}

impl Capabilities {
    /// All of them, as far as the runtime itself has them.
    pub fn all() -> Result<Capabilities> {
        let all = own()?;
        Ok(Capabilities { bounding: all, added: all })
    }

    // ANCHOR: capabilities-chosen
    /// The usual ones without `drop` and with `add`. `ALL` is read as Docker reads it: to add all is to have all but what is
    /// dropped by name, and to drop all is to have what is added by name.
    pub fn chosen(add: &[Choice], drop: &[Choice]) -> Result<Capabilities> {
        let named = |choices: &[Choice]| {
            Set::of(choices.iter().filter_map(|choice| match choice {
                Choice::One(capability) => Some(*capability),
                Choice::All => None,
            }))
        };
        let (added, dropped, own) = (named(add), named(drop), own()?);
        let wanted = if add.contains(&Choice::All) {
            Set(own.0 & !dropped.0)
        } else if drop.contains(&Choice::All) {
            added
        } else {
            // The runtime may lack some of the usual ones itself, in a container of somebody else's.
            Set(Set::of(USUAL).0 & own.0 & !dropped.0 | added.0)
        };
        let missing = Set(added.0 & !own.0);
        if missing != Set(0) {
            return Err(Error::new(
                STEP,
                format!("{missing} was to be added, and the runtime does not have it"),
            )
            .remedy(format!("choose from what it has: {own}")));
        }
        let added = if add.contains(&Choice::All) { wanted } else { Set(added.0 & wanted.0) };
        Ok(Capabilities { bounding: wanted, added })
    }
    // ANCHOR_END: capabilities-chosen

    /// What root has.
    pub fn set(&self) -> Set {
        self.bounding
    }

    // ANCHOR: capabilities-bound
    /// The lid first: to leave the bounding set takes CAP_SETPCAP, which may be among what goes. The kernel is asked for
    /// each number up to the last one it knows, because it may know some that this program has no name for.
    pub fn bound(&self) -> Result<()> {
        let mut dropped = Set::default();
        for capability in known_to_kernel().filter(|&capability| !self.bounding.contains(capability)) {
            capability
                .drop_from_bounding_set()
                .map_err(|errno| Error::call(STEP, format!("prctl(PR_CAPBSET_DROP, {capability})"), errno))?;
            dropped = Set(dropped.0 | bit(capability));
        }
        explain::remark(&format!("no program gets these any more, by prctl(PR_CAPBSET_DROP): {dropped}"));
        Ok(())
    }
    // ANCHOR_END: capabilities-bound

    // ANCHOR: capabilities-keep
    /// Becomes `user`, and has from then on what that user is to have. Root has it all, and execve(2) gives root the same
    /// again. Anyone else has nothing, since execve(2) gives nothing to who is not root; but what was added by name
    /// would have been added for nothing, so it is kept by way of the ambient set.
    pub fn keep_as(&self, user: Option<&User>) -> Result<()> {
        sys::clear_ambient("hand nothing on that was handed on to us")?;
        match user {
            Some(user) if !user.uid.is_root() => {
                if self.added != Set(0) {
                    sys::keep_capabilities("lose nothing yet by being another user")?;
                }
                user.become_it()?;
                let kept = self.added.0;
                sys::capset("keep what was asked for by name, and nothing else", kept, kept, kept)?;
                for capability in self.added.members() {
                    sys::raise_ambient("keep it through execve(2), though not root", capability)?;
                }
                Ok(())
            }
            _ => {
                user.map_or(Ok(()), User::become_it)?;
                let kept = self.bounding.0;
                // Inheritable stays empty: what is in there, a program's file could make permitted (CVE-2022-24769).
                sys::capset("keep these of root's pieces of power, and nothing else", kept, kept, 0)
            }
        }
    }
    // ANCHOR_END: capabilities-keep
}

/// Those that the kernel knows: capabilities that it does not know are an invalid argument to it.
pub fn known_to_kernel() -> impl Iterator<Item = Capability> {
    (0..64).map(Capability).take_while(|capability| capability.is_known_to_kernel())
}

/// What the runtime can hand on. (In a user namespace of its own a container's root begins with all of them; but it is
/// no good to promise more there than outside.)
fn own() -> Result<Set> {
    let bounding = known_to_kernel().filter(|capability| capability.is_in_bounding_set());
    let permitted = sys::permitted().map_err(|errno| Error::call(STEP, "capget()", errno))?;
    Ok(Set(Set::of(bounding).0 & permitted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(words: &[&str]) -> Vec<Choice> {
        words.iter().map(|word| word.parse().expect("a capability")).collect()
    }

    #[test]
    fn names_are_read_as_docker_reads_them() {
        for name in ["NET_ADMIN", "CAP_NET_ADMIN", "net_admin", "cap_net_admin", "12", "CAP_12"] {
            assert_eq!(name.parse(), Ok(Choice::One(Capability::NET_ADMIN)), "{name}");
        }
        assert_eq!("all".parse(), Ok(Choice::All));
        assert_eq!("CAP_41".parse(), Ok(Choice::One(Capability(41))));
        for name in ["", "CAP_", "NET", "64", "-1", "+1", "ALL,KILL", "CAP_CAP_KILL"] {
            assert!(name.parse::<Choice>().is_err(), "{name}");
        }
    }

    #[test]
    fn all_is_read_as_docker_reads_it() {
        let own = own().expect("capget").0;
        let set = |add: &[&str], drop: &[&str]| {
            Capabilities::chosen(&choices(add), &choices(drop))
                .expect("no more than this process has")
                .bounding
                .0
        };
        let (usual, kill) = (Set::of(USUAL).0 & own, bit(Capability::KILL));
        assert_eq!(set(&[], &[]), usual);
        assert_eq!(set(&[], &["KILL"]), usual & !kill);
        assert_eq!(set(&[], &["ALL"]), 0);
        assert_eq!(set(&["ALL"], &["KILL"]), own & !kill);
        assert_eq!(set(&["ALL"], &["ALL"]), own);
        if own & kill != 0 {
            assert_eq!(set(&["KILL"], &["ALL"]), kill);
            assert_eq!(set(&["KILL"], &["KILL"]), usual);
        }
    }

    #[test]
    fn what_nobody_has_cannot_be_added() {
        let error = Capabilities::chosen(&choices(&["63"]), &[]).expect_err("no kernel has it");
        assert!(error.reason().contains("CAP_63"), "{}", error.reason());
    }
}
