//! Chapter 8: a range of users that belongs to one container alone.
//!
//! Were two containers to have the same numbers, the root of one would be the root of the other: whatever lets it reach
//! the other's files, or its processes, is open to it. So each takes a range that no one else has, by the same kind of
//! lock as an address, and the kernel gives it back whatever the runtime dies of.

use std::fs;
use std::path::PathBuf;

use super::map::{Extent, Map};
use crate::container::state::claim::Claim;
use crate::container::state::directory::{lock, state_directory};
use crate::container::state::pool;
use crate::told::errors::{Error, Result};

/// How many users and groups a container has: all that programs are used to, 0 to 65535.
pub const COUNT: u32 = 65536;

// ANCHOR: range-region
/// Where ranges are taken from if /etc/subuid gives none to root: numbers that no login, no systemd and no
/// container engine uses by itself. See systemd's document UIDS-GIDS.
const REGION: std::ops::Range<u32> = 0x7000_0000..0x7ffe_0000;
// ANCHOR_END: range-region

/// Whose entries in /etc/subuid and /etc/subgid are for root's containers.
const OWNERS: [&str; 3] = ["root", "0", "cooperage"];

const STEP: &str = "choose users for the container";

/// Users and groups that are this runtime's as long as it lives.
pub struct Range {
    first_user: u32,
    first_group: u32,
    claims: Vec<Claim>,
}

impl Range {
    /// Takes the lowest free users, and the lowest free groups.
    pub fn take() -> Result<Range> {
        let lock = lock("users")?;
        let (first_user, users) = USERS.take(&lock)?;
        match GROUPS.take(&lock) {
            Ok((first_group, groups)) => Ok(Range { first_user, first_group, claims: vec![users, groups] }),
            Err(error) => {
                pool::give_back(users);
                Err(error)
            }
        }
    }

    /// The map of its users.
    pub fn uids(&self) -> Map {
        map(self.first_user)
    }

    /// The map of its groups.
    pub fn gids(&self) -> Map {
        map(self.first_group)
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        // Without the lock the next one could take what is being removed; then the next sweep removes it.
        let Ok(_lock) = lock("users") else { return };
        self.claims.drain(..).for_each(pool::give_back);
    }
}

fn map(first: u32) -> Map {
    Map(vec![Extent { inside: 0, outside: first, count: COUNT }])
}

/// Users or groups: the files that say who has which.
struct Kind {
    name: &'static str,
    /// The directory of the claims.
    claims: &'static str,
    /// subuid(5), subgid(5)
    subordinate: &'static str,
    /// passwd(5), group(5)
    names: &'static str,
}

const USERS: Kind = Kind { name: "users", claims: "uids", subordinate: "/etc/subuid", names: "/etc/passwd" };
const GROUPS: Kind = Kind { name: "groups", claims: "gids", subordinate: "/etc/subgid", names: "/etc/group" };

impl Kind {
    // ANCHOR: range-take
    fn take(&self, _: &Claim) -> Result<(u32, Claim)> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default(); // not there: nobody has any
        let candidates = candidates(&read(self.subordinate), &read(self.names), self)?;
        let taken = pool::take(STEP, &self.directory()?, || candidates.iter().copied())?;
        match taken {
            Some(taken) => Ok(taken),
            None => {
                let all = candidates.len();
                let detail = format!("living containers have all {all} ranges of {COUNT} {}", self.name);
                Err(Error::new(STEP, detail).remedy(format!(
                    "give root more: add a line root:START:COUNT to {}, or use --userns host",
                    self.subordinate
                )))
            }
        }
    }
    // ANCHOR_END: range-take

    fn directory(&self) -> Result<PathBuf> {
        Ok(state_directory()?.join(self.claims))
    }
}

// ANCHOR: range-candidates
/// Where a range may begin: in what `subordinate` gives to root; otherwise anywhere in the region where neither an
/// entry of it nor one of `names` is.
fn candidates(subordinate: &str, names: &str, kind: &Kind) -> Result<Vec<u32>> {
    let entries: Vec<Entry> = subordinate.lines().filter_map(Entry::parse).collect();
    let given: Vec<&Entry> = entries.iter().filter(|entry| OWNERS.contains(&entry.owner)).collect();
    if !given.is_empty() {
        let blocks = |entry: &&Entry| (0..entry.count / COUNT).map(|n| entry.start + n * COUNT).collect();
        let starts: Vec<u32> = given.iter().flat_map::<Vec<u32>, _>(blocks).collect();
        if starts.is_empty() {
            let detail = format!("{} gives root fewer than {COUNT} {} in a row", kind.subordinate, kind.name);
            return Err(Error::new(STEP, detail)
                .remedy("raise the count, or remove root's line: then a range is found"));
        }
        return Ok(starts);
    }
    let number = |line: &str| line.split(':').nth(2)?.parse::<u32>().ok();
    let named: Vec<u32> = names.lines().filter_map(number).filter(|id| REGION.contains(id)).collect();
    let is_free = |start: &u32| {
        let end = *start + COUNT;
        !named.iter().any(|id| (*start..end).contains(id))
            && !entries.iter().any(|entry| entry.meets(*start, end))
    };
    let starts: Vec<u32> = REGION.step_by(COUNT as usize).filter(is_free).collect();
    if starts.is_empty() {
        let detail = format!("other entries of {} and {} leave none free", kind.subordinate, kind.names);
        return Err(Error::new(STEP, detail)
            .remedy(format!("give root some: add a line root:START:COUNT to {}", kind.subordinate)));
    }
    Ok(starts)
}
// ANCHOR_END: range-candidates

/// A line of subuid(5): `owner:start:count`.
pub(super) struct Entry<'a> {
    pub owner: &'a str,
    pub start: u32,
    pub count: u32,
}

impl Entry<'_> {
    /// `None` for what is no such line, or leads beyond the largest number.
    pub fn parse(line: &str) -> Option<Entry<'_>> {
        let mut fields = line.trim().split(':');
        let (owner, start, count) =
            (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let fits = u32::checked_add(start, count).is_some() && count > 0 && fields.next().is_none();
        fits.then_some(Entry { owner, start, count })
    }

    pub fn meets(&self, start: u32, end: u32) -> bool {
        self.start < end && start < self.start + self.count
    }
}

/// Removes the files of ranges whose runtimes are dead.
pub fn sweep() -> Result<()> {
    for kind in [&USERS, &GROUPS] {
        let directory = kind.directory()?;
        if directory.exists() {
            let _lock = lock("users")?;
            pool::sweep(&directory);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(subordinate: &str, names: &str) -> Vec<u32> {
        candidates(subordinate, names, &USERS).expect("some are free")
    }

    #[test]
    fn what_subuid_gives_to_root_comes_first() {
        let subuid = "alice:100000:65536\nroot:1000000:131073\n0:5000000:65536\ncooperage:70000000:65536\n";
        assert_eq!(starts(subuid, ""), [1_000_000, 1_065_536, 5_000_000, 70_000_000]);
    }

    #[test]
    fn otherwise_it_is_where_nobody_is() {
        assert_eq!(starts("", "")[0], 0x7000_0000);
        assert_eq!(starts("", "").len(), 0xffe);
        let named = "x:x:1879048192:0::/:/bin/sh\nbroken\ny:x:1000:0::/:/bin/sh\n";
        assert_eq!(starts("", named)[0], 0x7001_0000);
        let subuid = "alice:1879048191:2\nbob:1879113728:65536\nbroken:1:\n:::\nx:4294967295:9\n";
        assert_eq!(starts(subuid, "")[0], 0x7002_0000);
    }

    #[test]
    fn nothing_left_is_an_error_that_names_the_setting() {
        let error = |subuid| candidates(subuid, "", &USERS).expect_err("none is free");
        let small = error("root:100000:65535");
        assert!(small.to_string().contains("fewer than 65536 users"), "{small}");
        let full = error("alice:1879048192:268435456");
        assert!(full.to_string().contains("/etc/subuid"), "{full}");
        assert!(full.advice().is_some_and(|advice| advice.contains("root:START:COUNT")));
    }
}
