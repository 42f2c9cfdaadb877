//! The house: which file imports which. No import runs upward, and no files import each other in a circle.
//!
//! What is read is the text of `use` declarations and of paths that begin with `crate::` or `super::`. Unit tests may
//! import what they like: a file's text is read up to its `#[cfg(test)]`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The floors, the lowest first. A file may import from its own floor and from those below.
const FLOORS: [&str; 3] = ["told", "container", "workshop"];

/// The files of a crate by their modules: `container::net::network`.
fn modules(source: &Path) -> BTreeMap<String, PathBuf> {
    fn collect(directory: &Path, prefix: &str, found: &mut BTreeMap<String, PathBuf>) {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            let path = entry.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let below =
                |name: &str| if prefix.is_empty() { name.into() } else { format!("{prefix}::{name}") };
            if path.is_dir() {
                collect(&path, &below(&name), found);
            } else if name == "mod" {
                found.insert(prefix.to_string(), path);
            } else if path.extension().is_some_and(|is| is == "rs")
                && !["lib", "main"].contains(&name.as_str())
            {
                found.insert(below(&name), path);
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(source, "", &mut found);
    found.retain(|module, _| !module.starts_with("bin"));
    found
}

/// The paths that a use tree stands for: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths_of(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, inside)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap_or(tree).trim().to_string()];
    };
    let inside = inside.trim_end().trim_end_matches('}');
    let (mut parts, mut depth, mut part) = (Vec::new(), 0, String::new());
    for c in inside.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(c);
        }
    }
    parts.push(part);
    let whole = |part: &String| !part.trim().is_empty();
    parts
        .iter()
        .filter(|part| whole(part))
        .flat_map(|part| paths_of(part))
        .map(|path| format!("{before}{path}"))
        .collect()
}

/// What a file names: the paths of its `use` declarations and those that it writes out.
fn named(text: &str) -> Vec<String> {
    let code: String = text
        .split("#[cfg(test)]\n")
        .next()
        .unwrap_or_default()
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = Vec::new();
    for declaration in code.split("use ").skip(1) {
        found.extend(paths_of(declaration.split(';').next().unwrap_or_default()));
    }
    for start in ["crate::", "super::", "cooperage::"] {
        for rest in code.replace("pub(in crate::", "pub(in ").split(start).skip(1) {
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let path: String = rest.chars().take_while(|c| is_path(*c)).collect();
            // What stands in braces has been read already.
            if !path.is_empty() && !path.ends_with(':') {
                found.push(start.to_string() + &path);
            }
        }
    }
    found
}

/// The module, as far as there is a file for it, that `path` leads to when `from` names it.
fn resolve(path: &str, from: &str, file: &Path, modules: &BTreeMap<String, PathBuf>) -> Option<String> {
    let mut parts: Vec<&str> = path.split("::").collect();
    let mut base: Vec<&str> = from.split("::").collect();
    match *parts.first()? {
        "crate" | "cooperage" => base.clear(),
        // In a file of its own name, `super` is the module above it; in mod.rs likewise.
        "super" => drop(base.pop()),
        "self" => {}
        // A child of this module, which only its mod.rs can name so.
        first if file.ends_with("mod.rs") && modules.contains_key(&format!("{from}::{first}")) => {
            parts.insert(0, "")
        }
        _ => return None,
    }
    parts.remove(0);
    let parts = parts.into_iter().filter(|part| !part.is_empty() && *part != "self");
    let full: Vec<&str> = base.into_iter().chain(parts).collect();
    (1..=full.len()).rev().map(|length| full[..length].join("::")).find(|module| modules.contains_key(module))
}

/// Which module imports which. A `mod.rs` that only hands on what its children have is no import of theirs.
fn imports(source: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let modules = modules(source);
    let mut all = BTreeMap::new();
    for (module, file) in &modules {
        let text = fs::read_to_string(file).expect("readable");
        let mut named = named(&text);
        // A mod.rs names its children without `crate` or `super`.
        let children = modules.keys().filter_map(|other| other.strip_prefix(&format!("{module}::")));
        let child_is_named = |child: &&str| {
            let code = text.split("#[cfg(test)]\n").next().unwrap_or_default();
            code.split(&format!("{child}::")).zip(code.split(&format!("{child}::")).skip(1)).any(
                |(before, _)| {
                    let line = before.lines().next_back().unwrap_or_default();
                    !line.contains("//")
                        && !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                },
            )
        };
        named.extend(children.filter(child_is_named).map(|child| format!("self::{child}")));
        let targets = named
            .iter()
            .filter_map(|path| resolve(path, module, file, &modules))
            .filter(|target| target != module)
            .collect();
        all.insert(module.clone(), targets);
    }
    all
}

fn floor(module: &str) -> usize {
    let room = module.split("::").next().unwrap_or_default();
    FLOORS.iter().position(|floor| *floor == room).unwrap_or_else(|| unreachable!("{module} is on no floor"))
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn no_import_runs_upward() {
    let mut upward = Vec::new();
    for (module, targets) in imports(&source()) {
        upward.extend(
            targets
                .iter()
                .filter(|target| floor(target) > floor(&module))
                .map(|target| format!("{module} -> {target}")),
        );
    }
    assert_eq!(upward, Vec::<String>::new());
}

/// Finds a circle by taking away, again and again, what imports nothing that is left.
fn circle(mut graph: BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    loop {
        let free: Vec<String> = graph
            .iter()
            .filter(|(_, targets)| targets.iter().all(|target| !graph.contains_key(target)))
            .map(|(module, _)| module.clone())
            .collect();
        if free.is_empty() {
            // What is left imports into the circle, or is in it.
            return graph
                .iter()
                .map(|(module, targets)| {
                    let left: Vec<_> =
                        targets.iter().filter(|target| graph.contains_key(*target)).cloned().collect();
                    format!("{module} -> {}", left.join(", "))
                })
                .collect();
        }
        for module in free {
            graph.remove(&module);
        }
        if graph.is_empty() {
            return Vec::new();
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for source in ["src", "crates/grade/src", "crates/breakout/src"] {
        let graph = imports(&Path::new(env!("CARGO_MANIFEST_DIR")).join(source));
        assert!(graph.len() > 5, "{source} is read");
        assert_eq!(circle(graph), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn a_use_tree_is_read_whole() {
    let tree = "crate::a::{self, b::{C, D}, e as f}";
    assert_eq!(paths_of(tree), ["crate::a::self", "crate::a::b::C", "crate::a::b::D", "crate::a::e"]);
    assert_eq!(named("//! use crate::no;\nuse super::x;\nlet y = crate::z::w(1);").len(), 3);
}

#[test]
fn a_circle_is_found() {
    let graph = |edges: &[(&str, &[&str])]| {
        edges
            .iter()
            .map(|(from, to)| (from.to_string(), to.iter().map(|to| to.to_string()).collect()))
            .collect()
    };
    assert!(circle(graph(&[("a", &["b"]), ("b", &["c"]), ("c", &[])])).is_empty());
    assert_eq!(circle(graph(&[("a", &["b"]), ("b", &["a"]), ("c", &["a"])])).len(), 3);
}

/// Does this line go through chapters up to one that it names by its number? With the next chapter it would be wrong.
fn ends_at_a_number(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let mut loops = ["for number in ", "for chapter in "].iter().filter_map(|start| code.split_once(start));
    loops.any(|(_, chapters)| {
        // Thousands are no chapters.
        let is_one = |text: &str| {
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            (1..=2).contains(&digits)
        };
        let last = chapters.split_once("..").map(|(_, last)| last.trim_start_matches('='));
        chapters.strip_prefix('[').or(last).is_some_and(is_one)
    })
}

#[test]
fn whoever_goes_through_the_chapters_asks_the_list() {
    fn search(directory: &Path, found: &mut Vec<String>) {
        for path in fs::read_dir(directory).expect("a directory").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                search(&path, found);
            } else if path.extension().is_some_and(|is| is == "rs") && !path.ends_with(file!()) {
                let text = fs::read_to_string(&path).expect("readable");
                let lines = text.lines().filter(|line| ends_at_a_number(line));
                found.extend(lines.map(|line| format!("{}: {}", path.display(), line.trim())));
            }
        }
    }
    let mut found = Vec::new();
    for directory in ["src", "crates", "tests"] {
        search(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), &mut found);
    }
    assert_eq!(found, Vec::<String>::new(), "chapters::from, and support::sweep in tests");
}

#[test]
fn a_number_at_the_end_is_found() {
    for line in ["for number in 1..=7 {", "    for chapter in [6, 7] {", "for number in 3..8 {"] {
        assert!(ends_at_a_number(line), "{line}");
    }
    for line in [
        "for number in since(3) {",
        "for number in 1..LIMITS {",
        "// for number in 1..=7",
        "for round in 0..5 {",
        "for number in 0..6000 {",
        "for number in [found.len(), 1] {",
    ] {
        assert!(!ends_at_a_number(line), "{line}");
    }
}
