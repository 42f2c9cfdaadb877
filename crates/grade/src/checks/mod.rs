//! What each chapter's tasks are checked with.

use super::check::Check;

mod chapter01;
mod chapter02;
mod chapter03;
mod chapter04;
mod chapter05;
mod chapter06;
mod chapter07;
mod chapter08;
mod chapter09;
mod chapter10;

/// The checks of a chapter, in the order of its tasks.
pub fn of(chapter: u8) -> &'static [Check] {
    match chapter {
        1 => chapter01::CHECKS,
        2 => chapter02::CHECKS,
        3 => chapter03::CHECKS,
        4 => chapter04::CHECKS,
        5 => chapter05::CHECKS,
        6 => chapter06::CHECKS,
        7 => chapter07::CHECKS,
        8 => chapter08::CHECKS,
        9 => chapter09::CHECKS,
        10 => chapter10::CHECKS,
        _ => &[],
    }
}
