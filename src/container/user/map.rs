//! Chapter 8: a map of users or groups, as it stands in `/proc/PID/uid_map` and `gid_map`: who is who.

use std::fmt;
use std::path::Path;

use crate::container::sys;
use crate::told::errors::{Error, Result};

/// One line of a map: `count` users in a row, who they are inside and who outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first of them, inside.
    pub inside: u32,
    /// The same one, outside: in the namespace of whoever reads or writes the map.
    pub outside: u32,
    /// How many there are.
    pub count: u32,
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.inside, self.outside, self.count)
    }
}

/// Who is who: all lines of a map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Map(pub Vec<Extent>);

impl Map {
    /// The map in this file of /proc.
    pub fn read(file: &str) -> Result<Map> {
        let text = sys::read_file(Path::new(file))
            .map_err(|error| Error::io("see who is who here", file, &error))?;
        Ok(Map::parse(&text))
    }

    fn parse(text: &str) -> Map {
        let extent = |line: &str| {
            let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
            Some(Extent { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? })
        };
        Map(text.lines().filter_map(extent).collect())
    }

    // ANCHOR: one-to-one
    /// For a namespace below one that has this map: whoever has a number there has the same in here.
    pub fn one_to_one(&self) -> Map {
        Map(self.0.iter().map(|extent| Extent { outside: extent.inside, ..*extent }).collect())
    }
    // ANCHOR_END: one-to-one

    /// Who is this inside, seen from outside? `None`: there is no such user.
    pub fn outside(&self, inside: u32) -> Option<u32> {
        self.0.iter().find_map(|extent| {
            let offset = inside.checked_sub(extent.inside).filter(|&offset| offset < extent.count)?;
            extent.outside.checked_add(offset)
        })
    }

    /// Is it that of the first user namespace, in which everybody is who he is?
    pub fn is_the_first(&self) -> bool {
        self.0 == [Extent { inside: 0, outside: 0, count: u32::MAX }]
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|extent| u64::from(extent.count)).sum()
    }

    /// As the kernel wants it: a line for each extent.
    pub fn text(&self) -> String {
        self.0.iter().map(|extent| format!("{extent}\n")).collect()
    }
}

/// "0 to 65535"
impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut spans: Vec<(u64, u64)> = Vec::new();
        for extent in &self.0 {
            let (first, end) = (u64::from(extent.inside), u64::from(extent.inside) + u64::from(extent.count));
            match spans.last_mut() {
                Some((_, last)) if *last == first => *last = end,
                _ => spans.push((first, end)),
            }
        }
        for (index, (first, end)) in spans.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match end - first {
                1 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first} to {}", end - 1)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(u32, u32, u32)]) -> Map {
        Map(lines.iter().map(|&(inside, outside, count)| Extent { inside, outside, count }).collect())
    }

    #[test]
    fn a_map_is_three_columns() {
        let read = Map::parse("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(read, map(&[(0, 1000, 1), (1, 100_000, 65536)]));
        assert_eq!(read.text(), "0 1000 1\n1 100000 65536\n");
        assert_eq!((read.outside(0), read.outside(65536)), (Some(1000), Some(165_535)));
        assert_eq!(read.outside(65537), None);
        assert_eq!(read.count(), 65537);
        assert_eq!(Map::parse("0 0\nx y z\n"), map(&[]));
    }

    #[test]
    fn below_everybody_keeps_the_number() {
        let below = map(&[(0, 1000, 1), (5, 100_000, 10)]).one_to_one();
        assert_eq!(below, map(&[(0, 0, 1), (5, 5, 10)]));
        assert_eq!(map(&[(0, 0, u32::MAX)]).outside(u32::MAX), None);
    }

    #[test]
    fn spans_are_told_in_words() {
        assert_eq!(map(&[(0, 7, 1)]).to_string(), "0");
        assert_eq!(map(&[(0, 7, 1), (1, 100, 65536)]).to_string(), "0 to 65536");
        assert_eq!(map(&[(0, 7, 1), (5, 100, 2)]).to_string(), "0, 5 to 6");
    }
}
