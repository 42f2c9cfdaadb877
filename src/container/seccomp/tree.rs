//! How to find out in few steps what is to be said to a call.
//!
//! A profile says something about some three hundred calls. To compare the number with one after the other would take
//! three hundred steps for the last of them, and a program asks the kernel for something a hundred thousand times a second.
//! But the numbers are in order, and neighbours are most often told the same. So they are put together into ranges, and
//! the range is found by halving: those of the default profile, 74 of them, in 7 steps.

use super::profile::{Action, Profile, Rule};

/// What is to be said to all calls of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Always this.
    Always(Action),
    /// It depends on the arguments: the first rule whose conditions hold, or else the last action.
    Depends(Vec<Rule>, Action),
}

/// A search tree over the numbers of the calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// Numbers below `first_of_right` are in the left half.
    Node {
        /// Where the right half begins.
        first_of_right: u32,
        /// The lower numbers.
        left: Box<Tree>,
        /// The higher numbers.
        right: Box<Tree>,
    },
    /// One range is left.
    Leaf(Answer),
}

impl Tree {
    // ANCHOR: tree-new
    /// The tree for a profile.
    ///
    /// Calls newer than all that the profile speaks of are answered "there is no such call" where they would be refused:
    /// a C library that tries a new call then falls back to an older one, and would give up at EPERM. So runc does it.
    pub fn new(profile: &Profile) -> Tree {
        let mut ranges: Vec<(u32, Answer)> = Vec::new();
        let mut add = |first: u32, answer: Answer| match ranges.last() {
            Some((_, last)) if *last == answer => {} // the range goes on
            _ => ranges.push((first, answer)),
        };
        let mut next = 0;
        for (number, rules) in &profile.calls {
            if *number > next {
                add(next, Answer::Always(profile.default));
            }
            add(*number, answer(rules, profile.default));
            next = number + 1;
        }
        let newer = if profile.default.is_permissive() {
            profile.default
        } else {
            Action::errno(libc::ENOSYS as u32)
        };
        add(next, Answer::Always(newer));
        Tree::over(&ranges)
    }

    fn over(ranges: &[(u32, Answer)]) -> Tree {
        if let [(_, answer)] = ranges {
            return Tree::Leaf(answer.clone());
        }
        let (left, right) = ranges.split_at(ranges.len() / 2);
        Tree::Node {
            first_of_right: right[0].0,
            left: Box::new(Tree::over(left)),
            right: Box::new(Tree::over(right)),
        }
    }
    // ANCHOR_END: tree-new
}

/// Rules with conditions are tried in their order, and what holds without any comes last.
fn answer(rules: &[Rule], default: Action) -> Answer {
    let always = rules.iter().find(|rule| rule.conditions.is_empty()).map_or(default, |rule| rule.action);
    let depends: Vec<Rule> = rules.iter().filter(|rule| !rule.conditions.is_empty()).cloned().collect();
    if depends.is_empty() { Answer::Always(always) } else { Answer::Depends(depends, always) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(tree: &Tree) -> usize {
        match tree {
            Tree::Leaf(_) => 0,
            Tree::Node { left, right, .. } => 1 + depth(left).max(depth(right)),
        }
    }

    #[test]
    fn neighbours_are_one_range_and_ranges_are_halved() {
        let allow = |number| (number, vec![Rule { conditions: Vec::new(), action: Action::ALLOW }]);
        let in_a_row = Profile { default: Action::errno(1), calls: (0..100).map(allow).collect() };
        assert_eq!(depth(&Tree::new(&in_a_row)), 1, "those, and newer ones");
        let apart =
            Profile { default: Action::errno(1), calls: (0..100).map(|number| allow(2 * number)).collect() };
        assert_eq!(depth(&Tree::new(&apart)), 8, "200 ranges");
    }
}
