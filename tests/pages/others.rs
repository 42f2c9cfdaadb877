//! What the pages that are no chapter's show.

use crate::support::session::Session;

pub const SESSIONS: &[Session] = &[
    // What a container is.
    Session::new(
        "page00-process",
        &[
            "cargo run --bin chapter05 -- sleep 1000 &",
            "~ wait_for pgrep -P $! sleep",
            "ps -o pid,ppid,args -C chapter05,sleep",
            "pkill -KILL sleep; wait $!; echo $?",
        ],
    ),
    Session::new(
        "page00-uts",
        &["~ hostname desk", "hostname", "unshare --uts sh -c 'hostname web; hostname'", "hostname"],
    ),
    Session::new(
        "page00-overlay",
        &[
            "cd /tmp && mkdir lower upper work merged",
            "echo one > lower/changed; echo two > lower/deleted; echo three > lower/untouched",
            "mount -t overlay demo -o lowerdir=lower,upperdir=upper,workdir=work merged",
            "ls merged",
            "# the container at work",
            "echo ONE > merged/changed; rm merged/deleted; echo four > merged/new",
            "ls merged",
            "ls lower; cat lower/changed",
            "ls -l upper",
        ],
    )
    .filters(&[(r"[A-Z][a-z]{2} +\d+ \d\d:\d\d", "Nov 23 18:30")]),
    // Setting up.
    Session::new(
        "page00-lab",
        &[
            "~ hostname desk",
            "hostname",
            "cargo run --bin lab -- sh -c 'hostname oops; mount -t tmpfs none /home; ps; touch /etc/passwd'",
            "hostname; ls -d /home",
        ],
    ),
];
