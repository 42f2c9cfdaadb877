//! The machine's clock.
//!
//! There is one for all: certificates, logs, cron, the make of the host go by it. It is set to what it says already.
//! Tried in the virtual machine alone.
//!
//! Chapter 8 stops it: CAP_SYS_TIME counts in the first user namespace only. (Time namespaces shift two other clocks, the
//! monotonic ones. See time_namespaces(7).)

use nix::errno::Errno;

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "clock",
    title: "clock_settime(2)",
    won: "set the machine's clock",
    harmless: "",
    end: End::Chapter(8),
    because: "CAP_SYS_TIME counts in the first user namespace only",
    prepare: Arena::in_a_throw_away_machine,
    attack: |_: &Inside| -> Result<String, Stopped> {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the time outlives both calls.
        let (got, set) = unsafe {
            let got = libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now);
            (got, libc::clock_settime(libc::CLOCK_REALTIME, &raw const now))
        };
        Errno::result(got).at("clock_gettime()")?;
        Errno::result(set).at("clock_settime()").map(|_| String::new())
    },
    judge: Arena::was_let,
};
