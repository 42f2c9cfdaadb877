//! What the pages show, page by page.

use crate::support::Case;
use crate::support::session::Session;

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
mod others;
mod system_calls;

/// All of them.
pub fn sessions() -> Vec<Session> {
    [
        chapter01::SESSIONS,
        chapter02::SESSIONS,
        chapter03::SESSIONS,
        chapter04::SESSIONS,
        chapter05::SESSIONS,
        chapter06::SESSIONS,
        chapter07::SESSIONS,
        chapter08::SESSIONS,
        chapter09::SESSIONS,
        chapter10::SESSIONS,
        others::SESSIONS,
    ]
    .concat()
}

/// What is made for pages and is no session.
pub fn others() -> Vec<Case> {
    system_calls::cases()
}
