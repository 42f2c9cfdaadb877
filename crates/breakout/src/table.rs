//! How results are shown.

use std::fmt::Write;

use colored::Colorize;

use super::cell::{Cell, Outcome};
use super::peer::Peer;
use super::{ATTACKS, Attack, CHAPTERS, End};

fn cell_of<'a>(cells: &'a [Cell], attack: &Attack, chapter: u8) -> Option<&'a Cell> {
    cells.iter().find(|cell| cell.attack == attack.name && cell.chapter == chapter)
}

/// A cell in one word: `escaped`, the error that stopped it, `held` where nothing failed and nothing came of
/// it, `-` where there is nothing to attack.
fn word(cell: &Cell) -> String {
    match (cell.outcome, &cell.errno) {
        (Outcome::Escaped, _) => "escaped".to_string(),
        (Outcome::Contained, Some(errno)) => errno.clone(),
        (Outcome::Contained, None) => "held".to_string(),
        (Outcome::Absent, _) => "-".to_string(),
        (Outcome::Error, _) => "ERROR".to_string(),
    }
}

/// The same for the book.
fn in_the_book(cell: &Cell) -> String {
    let word = word(cell);
    if word == "escaped" { "**escaped**".to_string() } else { word }
}

/// The attacks that have results, in order, and the chapters.
fn axes(cells: &[Cell]) -> (Vec<&'static Attack>, Vec<u8>) {
    let attacks =
        ATTACKS.iter().filter(|attack| cells.iter().any(|cell| cell.attack == attack.name)).collect();
    let chapters =
        (1..=CHAPTERS).filter(|&chapter| cells.iter().any(|cell| cell.chapter == chapter)).collect();
    (attacks, chapters)
}

/// The table for a terminal.
pub fn text(cells: &[Cell]) -> String {
    let (attacks, chapters) = axes(cells);
    let width = |chapter| {
        let words = cells.iter().filter(|cell| cell.chapter == chapter).map(|cell| word(cell).len());
        words.max().unwrap_or(0).max("escaped".len()) + 1
    };
    let mut text = format!("{:<17}", "chapter");
    for &chapter in &chapters {
        let _ = write!(text, "{chapter:<width$}", width = width(chapter));
    }
    text.push_str("stopped in\n");
    for attack in attacks {
        let _ = write!(text, "{:<17}", attack.name);
        for &chapter in &chapters {
            let word = cell_of(cells, attack, chapter).map_or(String::new(), word);
            let padded = format!("{word:<width$}", width = width(chapter));
            let coloured = match word.as_str() {
                "escaped" => padded.red().bold(),
                "-" => padded.dimmed(),
                "ERROR" => padded.yellow().bold(),
                _ => padded.green(),
            };
            let _ = write!(text, "{coloured}");
        }
        let _ = writeln!(text, "{}", attack.end.words());
    }
    for cell in cells.iter().filter(|cell| cell.outcome == Outcome::Error) {
        let _ = writeln!(text, "\n{} against chapter {}: {}", cell.attack, cell.chapter, cell.text);
    }
    text
}

/// The table for the book.
pub fn markdown(cells: &[Cell]) -> String {
    let (attacks, chapters) = axes(cells);
    let mut text = String::from("| attack |");
    for chapter in &chapters {
        let _ = write!(text, " {chapter} |");
    }
    text.push_str(" stopped in |\n|---|");
    text.push_str(&"---|".repeat(chapters.len() + 1));
    text.push('\n');
    for attack in attacks {
        let _ = write!(text, "| `{}` |", attack.name);
        for &chapter in &chapters {
            let word = cell_of(cells, attack, chapter).map_or(String::new(), in_the_book);
            let _ = write!(text, " {word} |");
        }
        let _ = writeln!(text, " {} |", attack.end.words());
    }
    text
}

/// Other runtimes beside the newest chapter: the attacks that get out of one of them, or out of the chapter.
pub fn peers(cells: &[Cell], peers: &[Peer]) -> String {
    let contenders = || [None].into_iter().chain(peers.iter().map(|peer| Some(peer.name.as_str())));
    let mut text = format!("| attack | chapter {CHAPTERS} |");
    for peer in peers {
        let _ = write!(text, " {} {} |", peer.name, peer.version());
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(peers.len() + 1));
    for attack in ATTACKS {
        let of = |peer| cells.iter().find(|cell| cell.attack == attack.name && cell.peer.as_deref() == peer);
        if contenders().filter_map(of).all(|cell| cell.outcome != Outcome::Escaped) {
            continue;
        }
        let _ = write!(text, "| `{}` |", attack.name);
        for peer in contenders() {
            let _ = write!(text, " {} |", of(peer).map_or(String::new(), in_the_book));
        }
        text.push('\n');
    }
    text
}

/// A chapter's rows for its page: what still works, and what this chapter has stopped. With what came of it
/// for root and for an ordinary user.
pub fn chapter(root: &[Cell], user: &[Cell], chapter: u8) -> String {
    let escaped = |cells: &[Cell], attack: &Attack, chapter| {
        cell_of(cells, attack, chapter).is_some_and(|cell| cell.outcome == Outcome::Escaped)
    };
    let mut text = String::new();
    let stopped: Vec<_> = ATTACKS.iter().filter(|attack| attack.end == End::Chapter(chapter)).collect();
    if !stopped.is_empty() {
        let _ = writeln!(
            text,
            "Stopped by this chapter:\n\n| attack | the trick | root's container | a user's container | what stops it |"
        );
        text.push_str("|---|---|---|---|---|\n");
        for attack in stopped {
            row(&mut text, attack, root, user, chapter, attack.because);
        }
        text.push('\n');
    }
    let open: Vec<_> = ATTACKS
        .iter()
        .filter(|attack| escaped(root, attack, chapter) || escaped(user, attack, chapter))
        .collect();
    if !open.is_empty() {
        let _ = writeln!(
            text,
            "Still open:\n\n| attack | the trick | root's container | a user's container | stopped in |"
        );
        text.push_str("|---|---|---|---|---|\n");
        for attack in open {
            row(&mut text, attack, root, user, chapter, &attack.end.words());
        }
    }
    text
}

fn row(text: &mut String, attack: &Attack, root: &[Cell], user: &[Cell], chapter: u8, last: &str) {
    let word = |cells| cell_of(cells, attack, chapter).map_or(String::new(), in_the_book);
    let _ =
        writeln!(text, "| `{}` | {} | {} | {} | {last} |", attack.name, attack.title, word(root), word(user));
}

/// One cell for a terminal, with its reason.
pub fn one(attack: &Attack, cell: &Cell) -> String {
    let verdict = match cell.outcome {
        Outcome::Escaped => "escaped".red().bold(),
        Outcome::Contained => "contained".green(),
        Outcome::Absent => "nothing to attack".dimmed(),
        Outcome::Error => "error".yellow().bold(),
    };
    let mut text = format!("{verdict}: {}\n", cell.text);
    match (cell.outcome, attack.end) {
        (Outcome::Contained, End::Chapter(number)) if cell.chapter >= number => {
            let _ = writeln!(text, "chapter {number} stops it: {}", attack.because);
        }
        (Outcome::Contained, End::Never) => {
            let _ = writeln!(text, "it never worked: {}", attack.because);
        }
        (Outcome::Escaped, End::Chapter(number) | End::Later(number)) => {
            let _ = writeln!(text, "chapter {number} stops it: {}", attack.because);
        }
        _ => {}
    }
    text
}

/// All attacks for the book, with what stops each.
pub fn attacks() -> String {
    let mut text = String::from("| attack | the trick | stopped in | by what |\n|---|---|---|---|\n");
    for Attack { name, title, end, because, .. } in ATTACKS {
        let _ = writeln!(text, "| `{name}` | {title} | {} | {because} |", end.words());
    }
    text
}

/// All attacks, a line each.
pub fn list() -> String {
    let mut text = String::new();
    for attack in ATTACKS {
        let _ = writeln!(text, "{:<17} {:<66} {}", attack.name.bold(), attack.title, attack.end.words());
    }
    text
}
