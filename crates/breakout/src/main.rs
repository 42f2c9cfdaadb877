//! `cargo run --bin breakout -- ATTACK --chapter N`: attacks the containers of the chapters, in a lab.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use breakout::cell::{self, Cell, Outcome};
use breakout::peer::{PEERS, Peer};
use breakout::run::Range;
use breakout::{ATTACKS, Attack, CHAPTERS, find, inside, table, victim};
use clap::{Parser, ValueEnum};
use cooperage::told::errors::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Attack the chapters' containers, and see what stops it.
///
/// Every attack runs in a throw-away lab, against a container that is made for it; nothing else can be
/// attacked. Exit status 0 if the attack could be tried, whatever came of it; 1 if one could not; 2 for a wrong
/// command line.
#[derive(Parser, Debug)]
#[command(name = "breakout")]
struct Args {
    /// `list` for all attacks, `matrix` for all against every chapter, `peers` for all against other runtimes and the newest
    /// chapter, or the name of one
    #[arg(value_name = "list|matrix|peers|ATTACK")]
    what: String,

    /// With `peers`: only this runtime, as its own `spec` sets it up (default: those that are there)
    #[arg(long, value_name = "RUNTIME", value_parser = PEERS)]
    runtime: Option<String>,

    /// Only against this chapter (default: all)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=CHAPTERS as i64))]
    chapter: Option<u8>,

    /// Against the container of an ordinary user (which is what you have if you are one)
    #[arg(long)]
    user: bool,

    /// How the result is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// For the book
    Markdown,
    /// For machines
    Json,
}

fn main() -> ExitCode {
    let roles = [inside::take_over, victim::take_over, cell::take_over];
    if let Some(status) = roles.iter().find_map(|role| role()) {
        return status;
    }
    match run(&Args::parse()) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("cooperage: {error}");
            ExitCode::from(error.status)
        }
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    let attacks: Vec<&Attack> = match args.what.as_str() {
        "list" => {
            print(&table::list());
            return Ok(ExitCode::SUCCESS);
        }
        "peers" => return peers(args),
        "matrix" => ATTACKS.iter().collect(),
        name => vec![find(name).ok_or_else(|| {
            let remedy = "cargo run --bin breakout -- list    shows them all";
            Error::new("attack", format!("there is no attack {name:?}")).remedy(remedy).status(2)
        })?],
    };
    let user = args.user || !nix::unistd::geteuid().is_root();
    let chapters: Vec<u8> = args.chapter.map_or((1..=CHAPTERS).collect(), |chapter| vec![chapter]);
    let range = Range::new()?;
    let bar = progress(attacks.len() * chapters.len());
    let cells = range.matrix(&attacks, &chapters, user, |done, _| bar.set_position(done as u64));
    bar.finish_and_clear();
    print(&shown(args.format, &attacks, &cells)?);
    let failed = cells.iter().any(|cell| cell.outcome == Outcome::Error);
    Ok(ExitCode::from(u8::from(failed)))
}

/// Every attack on other runtimes' containers. They are root's.
fn peers(args: &Args) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::new("attack other runtimes", "they are tried as root").remedy("use sudo"));
    }
    let peers: Vec<Peer> = match &args.runtime {
        Some(name) => vec![Peer::find(name)?],
        None => PEERS.iter().filter_map(|name| Peer::find(name).ok()).collect(),
    };
    let attacks: Vec<&Attack> = ATTACKS.iter().collect();
    let range = Range::new()?;
    let bar = progress(attacks.len() * (peers.len() + 1));
    let cells = range.peers(&attacks, &peers, |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    match args.format {
        Format::Json => print(&shown(Format::Json, &attacks, &cells)?),
        Format::Text | Format::Markdown => print(&table::peers(&cells, &peers)),
    }
    let failed: Vec<&Cell> = cells.iter().filter(|cell| cell.outcome == Outcome::Error).collect();
    for cell in &failed {
        let whom = cell.peer.as_deref().unwrap_or("the chapter");
        eprintln!("{} against {whom}: {}", cell.attack, cell.text);
    }
    Ok(ExitCode::from(u8::from(!failed.is_empty())))
}

fn shown(format: Format, attacks: &[&Attack], cells: &[Cell]) -> Result<String> {
    Ok(match (format, attacks, cells) {
        (Format::Json, _, _) => serde_json::to_string_pretty(cells)
            .map(|text| text + "\n")
            .map_err(|error| Error::new("write JSON", error.to_string()))?,
        (Format::Markdown, _, _) => table::markdown(cells),
        (Format::Text, [attack], [cell]) => table::one(attack, cell),
        (Format::Text, [attack], cells) => {
            let one =
                |cell: &Cell| format!("chapter {}  {}", cell.chapter, first_line(&table::one(attack, cell)));
            cells.iter().map(one).chain([attack.end.words() + ": " + attack.because + "\n"]).collect()
        }
        (Format::Text, _, _) => table::text(cells),
    })
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_string() + "\n"
}

/// Prints; to a pipe that nobody reads any more (`| head`) too.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn progress(count: usize) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() && count > 1 {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(count as u64), target);
    match ProgressStyle::with_template("{bar:30} {pos} of {len} attacks") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
