//! What this runtime writes, as the standard's own schemas and types have it; and that every requirement has its test.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::kit::{Bundle, oci};
use crate::support::{BOTH, Case, OCI_SCHEMAS, Who, python_with_schemas, schemas};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("the_types", BOTH, the_types),
        Case::new("the_schemas", BOTH, the_schemas).needs(&[OCI_SCHEMAS]),
    ]
}

/// spec and state are read by types that others have made, and nothing is lost on the way.
fn the_types(who: Who) {
    let bundle = Bundle::idle(who, "a");
    let spec: oci_spec::runtime::Spec = serde_json::from_value(bundle.config.clone()).expect("a Spec");
    let again = serde_json::to_value(&spec).expect("JSON");
    for pointer in ["/process/args", "/process/cwd", "/linux/namespaces", "/linux/maskedPaths", "/hostname"] {
        assert_eq!(again.pointer(pointer), bundle.config.pointer(pointer), "{pointer}");
    }
    bundle.create("one").good();
    let text = oci(who, &["state", "one"]).good().out;
    let state: oci_spec::runtime::State = serde_json::from_str(&text).expect("a State");
    assert_eq!((state.id().as_str(), state.bundle().as_path()), ("one", Path::new("/tmp/bundles/a")));
    let text = oci(who, &["features"]).good().out;
    let features: oci_spec::runtime::Features = serde_json::from_str(&text).expect("Features");
    assert!(!features.oci_version_min().is_empty() && !features.oci_version_max().is_empty());
    oci(who, &["delete", "one"]).good();
}

/// In every status, and both kinds of `spec`.
fn the_schemas(who: Who) {
    let bundle = Bundle::idle(who, "a").set("/annotations", json!({"a.b": "c"}));
    agrees("config-schema.json", &bundle.config);
    bundle.create("one").good();
    let look = || serde_json::from_str::<Value>(&oci(who, &["state", "one"]).good().out).expect("JSON");
    agrees("state-schema.json", &look());
    oci(who, &["start", "one"]).good();
    agrees("state-schema.json", &look());
    oci(who, &["kill", "one", "KILL"]).good();
    crate::kit::until_stopped(who, "one");
    agrees("state-schema.json", &look());
    oci(who, &["delete", "one"]).good();
    // Older packages have none.
    if schemas().join("features-schema.json").is_file() {
        let text = oci(who, &["features"]).good().out;
        agrees("features-schema.json", &serde_json::from_str(&text).expect("JSON"));
    }
}

#[track_caller]
fn agrees(schema: &str, value: &Value) {
    const SCRIPT: &str = "
import json, sys, warnings
warnings.simplefilter('ignore')
import jsonschema
path, text = sys.argv[1], sys.argv[2]
schema = json.load(open(path))
resolver = jsonschema.RefResolver('file://' + path, schema)
for error in jsonschema.Draft4Validator(schema, resolver=resolver).iter_errors(json.loads(text)):
    print('/'.join(map(str, error.path)), error.message)
";
    let path = schemas().join(schema);
    let output = Command::new(python_with_schemas().expect("it is there"))
        .args(["-W", "ignore", "-c", SCRIPT])
        .arg(path)
        .arg(value.to_string())
        .output();
    let output = output.expect("python3");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{schema}: {said}\n{value:#}");
}

/// Each line of requirements.tsv names tests that there are, or says why it names none.
pub fn every_requirement_has_a_test(names: &[&str]) {
    let text = include_str!("requirements.tsv");
    let mut count = 0;
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let parts: Vec<&str> = line.split('\t').collect();
        let [place, says, tests] = parts[..] else { panic!("three columns, with tabs between them: {line}") };
        assert!(
            ["runtime.md ", "config.md ", "config-linux.md "].iter().any(|file| place.starts_with(file)),
            "{line}"
        );
        assert!(!says.is_empty() && !tests.is_empty(), "{line}");
        let (named, reason) = match tests.split_once("- ") {
            Some((named, reason)) => (named.trim_end_matches(','), reason),
            None => (tests, ""),
        };
        for name in named.split(',').filter(|name| !name.is_empty()) {
            assert!(names.contains(&name), "there is no test {name}: {line}");
        }
        assert!(!named.is_empty() || reason.len() > 5, "no test, and no reason: {line}");
        count += 1;
    }
    assert!(count > 90, "{count} lines");
}
