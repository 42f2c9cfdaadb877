//! Calls by their names: numbers are not the same on all architectures.

use super::tables::{AARCH64, X86_64};

/// The calls of this machine.
pub const HERE: &[(&str, u32)] = if cfg!(target_arch = "aarch64") { AARCH64 } else { X86_64 };

/// The number of a call on this machine.
pub fn number(name: &str) -> Option<u32> {
    find(HERE, name)
}

/// Is there a call of this name on some machine?
pub fn is_known(name: &str) -> bool {
    find(X86_64, name).or(find(AARCH64, name)).is_some()
}

fn find(table: &[(&str, u32)], name: &str) -> Option<u32> {
    let index = table.binary_search_by_key(&name, |(known, _)| known).ok()?;
    Some(table[index].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_number_and_each_number_one_name() {
        for table in [X86_64, AARCH64] {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
            let mut numbers: Vec<u32> = table.iter().map(|(_, number)| *number).collect();
            numbers.sort_unstable();
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
        }
        assert_eq!((find(X86_64, "read"), find(AARCH64, "read")), (Some(0), Some(63)));
        assert_eq!((find(X86_64, "clone3"), find(AARCH64, "clone3")), (Some(435), Some(435)));
        assert_eq!((find(X86_64, "open"), find(AARCH64, "open")), (Some(2), None));
        assert_eq!(number("getppid"), Some(libc::SYS_getppid as u32));
        assert_eq!(number("keyctl"), Some(libc::SYS_keyctl as u32));
        assert!(is_known("open") && !is_known("openat3"));
    }
}
