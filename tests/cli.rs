//! The command line, as far as it needs no lab: what --help says, and what bad arguments get.

use assert_cmd::cargo::cargo_bin_cmd;
use cooperage::workshop::chapters;

fn help(mut command: assert_cmd::Command) -> String {
    let output = command.arg("--help").env("COLUMNS", "100").assert().success().get_output().clone();
    assert!(output.stderr.is_empty());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_chapter_has_its_options_and_those_before() {
    let mut programs: Vec<String> =
        chapters::containers().map(|number| format!("chapter{number:02}")).collect();
    programs.extend(["doctor", "lab"].map(str::to_string));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots/help");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for name in programs {
        let command = assert_cmd::Command::cargo_bin(&name).expect("it was built");
        settings.bind(|| insta::assert_snapshot!(name.as_str(), help(command)));
    }
}

#[test]
fn a_lab_is_not_made_where_it_would_be_no_protection() {
    for directory in ["/", "/proc", "/dev", "/run"] {
        let output = cargo_bin_cmd!("lab").args(["--", "true"]).current_dir(directory).assert().code(125);
        let said = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
        assert!(said.contains("could not make a lab") && said.contains("remedy"), "{directory}: {said}");
    }
}

#[test]
fn the_doctor_speaks_json() {
    let output = cargo_bin_cmd!("doctor").arg("--json").output().expect("it starts");
    let findings: Vec<serde_json::Value> =
        serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    for finding in &findings {
        for key in ["name", "ok", "required", "chapters", "detail", "remedy"] {
            assert!(finding.get(key).is_some(), "{finding} has no {key}");
        }
        if finding["ok"] == false && finding["required"] == true {
            assert!(finding["remedy"].is_string(), "{finding} has no remedy");
        }
    }
    let all_there = findings.iter().all(|finding| finding["ok"] == true || finding["required"] == false);
    assert_eq!(output.status.success(), all_there, "green is exit status 0");
}

#[test]
fn the_witness_refuses_what_it_does_not_know() {
    let output = cargo_bin_cmd!("witness").arg("weather").assert().code(2);
    assert!(
        String::from_utf8_lossy(&output.get_output().stderr).contains("hostname"),
        "it lists what it knows"
    );
}
