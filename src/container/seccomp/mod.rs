//! Chapter 9: a filter for system calls. Whatever a command asks the kernel for, a small program is run first, in the kernel,
//! which is told the number of the call and its six arguments, and answers what is to happen. See seccomp(2).
//!
//! - [`profile`]: what is to be said to which call, in Docker's format;
//! - [`names`] and [`tables`]: the numbers of the calls;
//! - [`tree`]: how to find out in few steps what is to be said;
//! - [`program`]: the program, in the kernel's language;
//! - [`machine`]: the kernel's half, to try one.

pub mod machine;
pub mod names;
pub mod profile;
pub mod program;
pub mod tables;
pub mod tree;

use std::path::Path;

use nix::errno::Errno;

use self::profile::Profile;
use self::program::Instruction;
use super::power::capabilities::Set;
use super::sys;
use crate::told::errors::{Advise, Error, Result};
use crate::told::explain;

/// A filter, as the kernel takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Vec<Instruction>);

impl Filter {
    /// The one that holds unless it is said otherwise, for who has these capabilities.
    pub fn usual(held: Set) -> Result<Filter> {
        Filter::new(&Profile::usual(held)?)
    }

    /// One that a profile describes.
    pub fn from_file(file: &Path, held: Set) -> Result<Filter> {
        let filter = Filter::new(&Profile::from_file(file, held)?)?;
        filter.explain();
        Ok(filter)
    }

    /// Compiles a profile.
    pub fn new(profile: &Profile) -> Result<Filter> {
        const LONGEST: usize = 4096; // BPF_MAXINSNS
        let program = program::compile(&tree::Tree::new(profile));
        if program.len() > LONGEST {
            let detail =
                format!("its program has {} instructions, and the kernel takes {LONGEST}", program.len());
            return Err(
                Error::new("compile the seccomp profile", detail).remedy("compare fewer arguments in it")
            );
        }
        Ok(Filter(program))
    }

    // ANCHOR: filter-load
    /// Loads it: from here on it is asked about every call of this process, and of all that it starts. It cannot be
    /// taken away again.
    pub fn load(&self) -> Result<()> {
        let program: Vec<_> = self.0.iter().map(Instruction::for_kernel).collect();
        sys::seccomp("let the kernel ask the filter before each call", &program).remedy_for(
            Errno::EACCES,
            "without no-new-privileges only root may load a filter: leave it on, or use seccomp=unconfined",
        )
    }
    // ANCHOR_END: filter-load

    /// Chapter 10: loads it with flags of seccomp(2). Returns the descriptor of the listener, if that was one of them.
    pub fn load_with(&self, flags: u64) -> Result<Option<std::os::fd::OwnedFd>> {
        let program: Vec<_> = self.0.iter().map(Instruction::for_kernel).collect();
        sys::seccomp_with("let the kernel ask the filter before each call", flags, &program)
    }

    /// Its instructions.
    pub fn program(&self) -> &[Instruction] {
        &self.0
    }

    /// Shows it, if it is so small that somebody may want to read it.
    fn explain(&self) {
        const READABLE: usize = 64;
        if self.0.len() <= READABLE {
            explain::remark("the filter, as the kernel has it:");
            for (number, instruction) in self.0.iter().enumerate() {
                explain::remark(&format!("{number:4}  {}", instruction.shown(number)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::machine::run;
    use super::profile::{Action, Comparison, Condition, Rule};
    use super::*;
    use crate::container::seccomp::program::{AUDIT_ARCH, X32};

    /// Numbers around which a comparison could go wrong.
    const BORDERS: [u64; 13] = [
        0,
        1,
        2,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_fffe,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0001,
        0x1_ffff_ffff,
        0x7fff_ffff_ffff_ffff,
        0x8000_0000_0000_0000,
        u64::MAX,
    ];

    fn comparisons(value: u64) -> [Comparison; 8] {
        [
            Comparison::Equal(value),
            Comparison::NotEqual(value),
            Comparison::Less(value),
            Comparison::LessOrEqual(value),
            Comparison::Greater(value),
            Comparison::GreaterOrEqual(value),
            Comparison::Masked { mask: 0xffff_ffff, value },
            Comparison::Masked { mask: value, value: value & 0xf0f0_f0f0_f0f0_f0f0 },
        ]
    }

    fn same(profile: &Profile, number: u32, arguments: [u64; 6]) {
        let filter = Filter::new(profile).expect("it is small");
        let said = run(filter.program(), AUDIT_ARCH, number, &arguments);
        assert_eq!(said, profile.action(number, &arguments), "{number} {arguments:#x?}");
    }

    #[test]
    fn every_comparison_is_right_at_every_border() {
        for value in BORDERS {
            for comparison in comparisons(value) {
                let condition = Condition { argument: 5, comparison };
                let rule = Rule { conditions: vec![condition], action: Action::ALLOW };
                let profile = Profile { default: Action::errno(1), calls: vec![(7, vec![rule])] };
                let filter = Filter::new(&profile).expect("it is small");
                for argument in BORDERS {
                    let arguments = [1, 2, 3, 4, 5, argument];
                    let said = run(filter.program(), AUDIT_ARCH, 7, &arguments);
                    assert_eq!(said, profile.action(7, &arguments), "{comparison:?} {argument:#x}");
                }
            }
        }
    }

    #[test]
    fn rules_are_tried_in_order_and_the_unconditional_one_last() {
        let rule = |argument, value, errno| Rule {
            conditions: vec![
                Condition { argument, comparison: Comparison::Equal(value) },
                Condition { argument: 2, comparison: Comparison::NotEqual(9) },
            ],
            action: Action::errno(errno),
        };
        let always = Rule { conditions: Vec::new(), action: Action::ALLOW };
        let profile =
            Profile { default: Action::KILL, calls: vec![(3, vec![rule(0, 1, 2), always, rule(1, 1, 3)])] };
        for first in 0..3 {
            for second in 0..3 {
                for third in [8, 9] {
                    same(&profile, 3, [first, second, third, 0, 0, 0]);
                    same(&profile, 2, [first, second, third, 0, 0, 0]);
                }
            }
        }
    }

    #[test]
    fn ours_says_what_its_profile_says() {
        for held in [Set::default(), Set(u64::MAX), Set::of(crate::container::power::capabilities::USUAL)] {
            let profile = Profile::usual(held).expect("it is ours");
            let newest = profile.calls.last().map_or(0, |(number, _)| *number);
            for number in 0..=newest {
                for argument in [0, 1, 8, 38, 39, 40, 0x11, 0x5412, 0x2000_0011, 0xffff_ffff, 0x1_0000_5412] {
                    same(&profile, number, [argument, argument, 0, 0, 0, 0]);
                }
            }
            let filter = Filter::usual(held).expect("it is ours");
            let not_there = Action::errno(libc::ENOSYS as u32);
            for number in [newest + 1, 1000, X32 - 1] {
                assert_eq!(run(filter.program(), AUDIT_ARCH, number, &[0; 6]), not_there, "{number}");
            }
        }
    }

    #[test]
    fn other_kinds_of_calls_are_refused() {
        for default in [Action::ALLOW, Action::errno(1)] {
            let filter = Filter::new(&Profile { default, calls: Vec::new() }).expect("it is small");
            refuses_other_kinds(&filter);
        }
    }

    fn refuses_other_kinds(filter: &Filter) {
        let not_there = Action::errno(libc::ENOSYS as u32);
        const I386: u32 = 0x4000_0003;
        assert_eq!(run(filter.program(), I386, 1, &[0; 6]), not_there);
        assert_eq!(run(filter.program(), AUDIT_ARCH, X32, &[0; 6]), not_there);
        assert_eq!(run(filter.program(), AUDIT_ARCH, u32::MAX, &[0; 6]), not_there);
    }

    #[test]
    fn a_program_that_is_too_long_is_refused() {
        let condition = |value| Condition { argument: 0, comparison: Comparison::Equal(value) };
        let rule = |value| Rule { conditions: vec![condition(value)], action: Action::ALLOW };
        let rules: Vec<Rule> = (0..2000).map(|value| rule(value << 20)).collect();
        let profile = Profile { default: Action::errno(1), calls: vec![(0, rules)] };
        assert!(Filter::new(&profile).expect_err("too long").reason().contains("4096"));
        // And one that is long enough for jumps that do not fit into eight bits.
        let rules: Vec<Rule> = (0..250).map(rule).collect();
        let calls = (0..3).map(|number| (number * 2, rules.clone())).collect();
        let profile = Profile { default: Action::errno(1), calls };
        let around = [0, 1, 249, 250];
        let everything = (0..5).flat_map(|number| around.map(|argument| (number, argument)));
        everything.for_each(|(number, argument)| same(&profile, number, [argument, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn a_frequent_call_takes_few_steps() {
        let filter = Filter::usual(Set::default()).expect("it is ours");
        let steps = machine::steps(filter.program(), AUDIT_ARCH, libc::SYS_getppid as u32, &[0; 6]);
        assert!(steps <= 16, "{steps} steps of {} instructions", filter.program().len());
    }
}
