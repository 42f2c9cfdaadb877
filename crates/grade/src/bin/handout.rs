//! `cargo run --bin handout`: cuts the students' exercises from the solutions.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use cooperage::told::errors::Result;
use cooperage::workshop::chapters;
use grade::handout;

/// Prints a line; to a pipe that nobody reads any more (`| head`) too.
macro_rules! say {
    ($($words:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

/// Cut every chapter's exercise.rs from its solution.rs.
#[derive(Parser, Debug)]
#[command(name = "handout")]
struct Args {
    /// Write nothing; exit status 1 if an exercise.rs is not what its solution.rs gives
    #[arg(long, conflicts_with = "student")]
    check: bool,

    /// Write the students' edition of the whole crate into this new directory: no answers in it
    #[arg(long, value_name = "DIR")]
    student: Option<PathBuf>,

    /// Chapters whose library sources the students' edition shall not show, such as 3,5
    #[arg(long, value_name = "CHAPTERS", value_delimiter = ',', requires = "student",
          value_parser = clap::value_parser!(u8).range(i64::from(chapters::FIRST)..=i64::from(chapters::NEWEST)))]
    hide_library: Vec<u8>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("cooperage: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    let root = chapters::workbook();
    if let Some(to) = &args.student {
        let count = handout::student_edition(&root, to, &args.hide_library)?;
        say!("{count} files in {}: try `cargo run --bin grade -- 1` there", to.display());
        return Ok(ExitCode::SUCCESS);
    }
    let different = handout::cut_all(&root, args.check)?;
    for file in &different {
        let file = file.strip_prefix(&root).unwrap_or(file).display();
        if args.check {
            eprintln!("{file} is not what its solution.rs gives: run `cargo run --bin handout`");
        } else {
            say!("wrote {file}");
        }
    }
    Ok(if args.check && !different.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
