//! Hooks: programs of others at six points of a container's life.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::kit::{Bundle, ROOTFS, give, leaves_nothing, oci, pid, status, until_stopped};
use crate::support::run::eventually;
use crate::support::{BOTH, Case, Who, binary};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("hooks_in_their_order", BOTH, hooks_in_their_order),
        Case::new("arguments_and_environment_of_hooks", BOTH, arguments_and_environment_of_hooks),
        Case::new("the_state_meanwhile", BOTH, the_state_meanwhile),
        Case::new("a_hook_that_fails", BOTH, a_hook_that_fails),
        Case::new("a_hook_out_of_time", BOTH, a_hook_out_of_time),
        Case::new("hooks_that_change_nothing_when_they_fail", BOTH, hooks_that_change_nothing_when_they_fail),
    ]
}

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

const PLACE: &str = "/tmp/hooks";

/// A place where hooks write, which startContainer's find at /hooks.
fn place(who: Who) {
    let _ = fs::remove_dir_all(PLACE);
    fs::create_dir(PLACE).expect("new");
    fs::write(format!("{PLACE}/log"), "").expect("new");
    give(Path::new(PLACE), who);
    give(&Path::new(PLACE).join("log"), who);
}

fn log() -> Vec<String> {
    fs::read_to_string(format!("{PLACE}/log")).expect("there").lines().map(str::to_string).collect()
}

fn hook(kind: &str, name: &str, script: &str) -> Value {
    let place = if kind == "startContainer" { "/hooks" } else { PLACE };
    let script = format!("echo {name} >> {place}/log; cat > {place}/{name}.state; {script}");
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]})
}

fn bundle(who: Who, script: &str) -> Bundle {
    place(who);
    let bundle = Bundle::sh(who, "a", script);
    fs::create_dir_all(format!("{ROOTFS}/hooks")).expect("writable");
    bundle.mount(PLACE, "/hooks", "bind", &["rbind"])
}

fn with_all(mut bundle: Bundle) -> Bundle {
    bundle = bundle.set("/hooks", json!({}));
    for kind in KINDS {
        let two = json!([hook(kind, &format!("{kind}-1"), "true"), hook(kind, &format!("{kind}-2"), "true")]);
        bundle = bundle.set(&format!("/hooks/{kind}"), two);
    }
    bundle
}

/// Each kind at its time, each with the state as it is then, and two of one kind one after the other.
fn hooks_in_their_order(who: Who) {
    let bundle = with_all(bundle(who, "echo command >> /hooks/log; sleep 1000"))
        .set("/annotations", json!({"a.b": "c"}));
    let names = |kinds: &[&str]| -> Vec<String> {
        kinds.iter().flat_map(|kind| [format!("{kind}-1"), format!("{kind}-2")]).collect()
    };
    bundle.create("one").good();
    let first = pid(who, "one");
    assert_eq!(log(), names(&KINDS[..3]));
    oci(who, &["start", "one"]).good();
    eventually("the command", || log().contains(&"command".to_string()));
    let mut now = log();
    // The command runs, and nobody says which of it and poststart comes first.
    now.retain(|name| name != "command");
    assert_eq!(now, names(&KINDS[..5]));
    assert_eq!(log().iter().position(|name| name == "startContainer-2"), Some(7));
    oci(who, &["kill", "one", "KILL"]).good();
    until_stopped(who, "one");
    assert_eq!(log().len(), 11);
    oci(who, &["delete", "one"]).good();
    assert_eq!(log()[11..], names(&KINDS[5..]));

    let inside = 1;
    for (kind, status, pid) in [
        ("prestart", "creating", Some(first)),
        ("createRuntime", "creating", Some(first)),
        ("createContainer", "creating", Some(inside)),
        ("startContainer", "created", Some(inside)),
        ("poststart", "running", Some(first)),
        ("poststop", "stopped", None),
    ] {
        for which in [1, 2] {
            let text = fs::read_to_string(format!("{PLACE}/{kind}-{which}.state")).expect("written");
            let state: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(state["status"], status, "{kind}: {state}");
            assert_eq!(state.get("pid").and_then(Value::as_i64), pid.map(i64::from), "{kind}: {state}");
            assert_eq!((&state["id"], &state["bundle"]), (&json!("one"), &json!("/tmp/bundles/a")), "{kind}");
            assert_eq!(state["ociVersion"], bundle.config["ociVersion"], "{kind}");
            assert_eq!(state["annotations"], json!({"a.b": "c"}), "{kind}");
        }
    }
}

/// As long as the hooks of create run, the container is being made, for everybody.
fn the_state_meanwhile(who: Who) {
    let program = binary("chapter10", who);
    let script = format!("{} state one > {PLACE}/state", program.display());
    for kind in ["prestart", "createRuntime"] {
        let bundle = bundle(who, "true").set("/hooks", json!({kind: [hook(kind, "state", &script)]}));
        bundle.create("one").good();
        let text = fs::read_to_string(format!("{PLACE}/state")).expect("written");
        let state: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&state["status"], &state["pid"]), (&json!("creating"), &json!(pid(who, "one"))));
        assert_eq!(status(who, "one"), "created");
        oci(who, &["delete", "one"]).good();
    }
}

/// args[0] is a name, the environment is what is said and nothing else, stdin may be left unread.
fn arguments_and_environment_of_hooks(who: Who) {
    let script = format!("echo \"$0 $1 $A\" >> {PLACE}/log; tr '\\0' '\\n' < /proc/$$/environ > {PLACE}/env");
    let bundle = bundle(who, "true").set(
        "/hooks",
        json!({"createRuntime": [
            {"path": "/bin/sh", "args": ["another-name", "-c", script, "zero", "one"], "env": ["A=b=c", "EMPTY="]},
            {"path": "/bin/true"},
        ]}),
    );
    bundle.run("one").good();
    assert_eq!(log(), ["zero one b=c"]);
    assert_eq!(fs::read_to_string(format!("{PLACE}/env")).expect("written"), "A=b=c\nEMPTY=\n");
}

/// One that fails before the command runs is an error, and the container is not. Those after it don't run; poststop's do, because
/// what others have made is theirs to undo.
fn a_hook_that_fails(who: Who) {
    for (index, kind) in KINDS[..4].iter().enumerate() {
        let bundle = with_all(bundle(who, "echo command >> /hooks/log"));
        let failing = hook(kind, "failing", "echo no such luck >&2; exit 3");
        let bundle = bundle.set(&format!("/hooks/{kind}/0"), failing);
        // Until startContainer's the container is made by create.
        let early = index < 3;
        let said = if early {
            bundle.create("one")
        } else {
            bundle.create("one").good();
            oci(who, &["start", "one"])
        };
        let said = said.bad(125, kind);
        assert!(said.err.contains("status 3") && said.err.contains("no such luck"), "{kind}: {}", said.err);
        if !early {
            until_stopped(who, "one");
            oci(who, &["delete", "one"]).good();
        }
        oci(who, &["state", "one"]).bad(125, "does not exist");
        let log = log();
        assert_eq!(log[index * 2], "failing", "{kind}: {log:?}");
        assert_eq!(log[index * 2 + 1..], ["poststop-1", "poststop-2"], "{kind}: {log:?}");
    }
    // Neither is there.
    for path in ["/no/such", "/etc/passwd"] {
        let bundle = bundle(who, "true").set("/hooks", json!({"createRuntime": [{"path": path}]}));
        leaves_nothing(path, || bundle.create("one").bad(125, path));
    }
}

/// It is killed when its time is up, with what it has started.
fn a_hook_out_of_time(who: Who) {
    let slow = json!({"path": "/bin/sh", "args": ["sh", "-c", "sleep 1003 & sleep 1004"], "timeout": 1});
    let bundle = bundle(who, "true").set("/hooks", json!({"createRuntime": [slow]}));
    leaves_nothing("a slow hook", || {
        bundle.create("one").bad(125, "its time is up");
    });
    // Enough of it, and more than any clock has.
    for timeout in [60, i64::MAX] {
        let quick = json!({"path": "/bin/sh", "args": ["sh", "-c", "cat > /dev/null"], "timeout": timeout});
        let bundle = Bundle::sh(who, "b", "true").set("/hooks", json!({"createRuntime": [quick]}));
        bundle.run("one").good();
    }
    // A time that is none.
    for timeout in [0, -1] {
        let wrong = json!({"path": "/bin/true", "timeout": timeout});
        let bundle = Bundle::sh(who, "b", "true").set("/hooks", json!({"poststop": [wrong]}));
        bundle.create("one").bad(125, "timeout");
    }
    let relative = Bundle::sh(who, "b", "true").set("/hooks", json!({"poststop": [{"path": "bin/true"}]}));
    relative.create("one").bad(125, "hooks");
}

/// When the container is there, or over, a failure is told to the log, and those after it run.
fn hooks_that_change_nothing_when_they_fail(who: Who) {
    let bundle = with_all(bundle(who, "sleep 1000"))
        .set("/hooks/poststart/0", hook("poststart", "failing", "exit 3"))
        .set("/hooks/poststop/0", hook("poststop", "failing", "exit 4"));
    bundle.create("one").good();
    fs::write("/tmp/hooks.log", "").expect("new");
    give(Path::new("/tmp/hooks.log"), who);
    oci(who, &["--log", "/tmp/hooks.log", "start", "one"]).good();
    assert_eq!(status(who, "one"), "running");
    assert_eq!(log()[8..], ["failing", "poststart-2"]);
    oci(who, &["--log", "/tmp/hooks.log", "delete", "--force", "one"]).good();
    assert_eq!(log()[10..], ["failing", "poststop-2"]);
    let text = fs::read_to_string("/tmp/hooks.log").expect("written");
    assert!(
        text.contains("level=warning") && text.contains("status 3") && text.contains("status 4"),
        "{text}"
    );
}
