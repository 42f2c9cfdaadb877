//! The plot of the book: cost by chapter, stacked by step. An SVG that stands in the page itself, so it has
//! the page's colours, and no blank line.

use std::fmt::Write;
use std::path::Path;

use super::contenders::Contender;
use super::{Outcome, Rounds};

/// The bars: the contender, and the step that it adds to the one before.
const STEPS: [(&str, &str); 10] = [
    ("true", "a process: fork, exec, exit"),
    ("chapter 1", "1: the runtime itself, chroot"),
    ("chapter 2", "2: PID namespace, /proc"),
    ("chapter 3", "3: mount namespace, overlay, /dev"),
    ("chapter 4", "4: UTS and IPC namespaces"),
    ("chapter 5", "5: network namespace"),
    ("chapter 6", "6: cgroup and its namespace"),
    ("chapter 7", "7: an init"),
    ("chapter 7, limits", "7: three limits"),
    ("chapter 7, limits, bridge", "7: a cable to the bridge"),
];

pub fn write(contenders: &[Contender], rounds: &Rounds) -> Outcome {
    const WIDTH: f64 = 640.0;
    const ROW: f64 = 46.0;
    const LEFT: f64 = 4.0;
    let place = |name: &str| contenders.iter().position(|contender| contender.name == name);
    let mut steps: Vec<(&str, f64)> = Vec::new();
    let mut former: Option<usize> = None;
    for (name, label) in STEPS {
        let Some(which) = place(name) else { continue };
        let more = former.map_or(rounds.median(which), |former| rounds.difference(which, former));
        steps.push((label, more.max(0.0)));
        former = Some(which);
    }
    let total: f64 = steps.iter().map(|(_, more)| more).sum();
    let scale = (WIDTH - LEFT - 80.0) / total;
    let height = ROW * steps.len() as f64 + 8.0;
    let mut svg = String::new();
    writeln!(
        svg,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"cost-title cost-desc\" \
         xmlns=\"http://www.w3.org/2000/svg\">"
    )?;
    writeln!(svg, "<title id=\"cost-title\">Milliseconds from start to end, chapter by chapter</title>")?;
    let words: Vec<String> =
        steps.iter().map(|(label, more)| format!("{label}: {more:.2} ms more")).collect();
    writeln!(svg, "<desc id=\"cost-desc\">{}.</desc>", words.join("; "))?;
    for row in 0..steps.len() {
        let top = ROW * row as f64;
        let mut left = LEFT;
        let sum: f64 = steps[..=row].iter().map(|(_, more)| more).sum();
        let (label, more) = steps[row];
        let plus = if row == 0 { String::new() } else { format!(" (+{more:.2})") };
        writeln!(svg, "<text class=\"small\" x=\"{LEFT}\" y=\"{:.0}\">{label}{plus}</text>", top + 16.0)?;
        for (index, (_, more)) in steps[..=row].iter().enumerate() {
            let width = more * scale;
            // What is new is bright; what was there before is alternately pale and paler.
            let (colour, opacity) = match index {
                _ if index == row => ("warm", "1"),
                _ if index % 2 == 0 => ("accent", "0.6"),
                _ => ("accent", "0.35"),
            };
            writeln!(
                svg,
                "<rect class=\"fill {colour}\" fill-opacity=\"{opacity}\" x=\"{left:.1}\" y=\"{:.0}\" \
                 width=\"{width:.1}\" height=\"18\"/>",
                top + 22.0
            )?;
            left += width;
        }
        writeln!(
            svg,
            "<text class=\"small\" x=\"{:.1}\" y=\"{:.0}\">{sum:.2} ms</text>",
            left + 6.0,
            top + 36.0
        )?;
    }
    writeln!(svg, "</svg>")?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("book/src/pictures/costs-by-chapter.svg");
    Ok(std::fs::write(file, svg)?)
}
