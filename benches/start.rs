//! What a container costs: `cargo bench`.
//!
//! Every figure is the time of a whole process, from its start to its end, with `/bin/true` as the command. In
//! each round every contender runs once, so that whatever disturbs the machine disturbs all of them; shown
//! are medians, and the medians of the ratios within a round. Cold means 50 ms of rest before each start, as
//! when a person or a test starts things; hot means back to back. Goals stand beside figures, and nothing is
//! asserted.
//!
//!     cargo bench                         # everything but the builds, some minutes; as root
//!     cargo bench -- start --rounds 100   # one part: start, many, scale, layers, memory, oci, filter, builds
//!     cargo bench -- filter --profile default.json   # with Docker's seccomp profile from there
//!     cargo bench -- --write              # also into the book: book/costs/, and the plot

#[path = "start/contenders.rs"]
mod contenders;
#[path = "start/filter.rs"]
mod filter;
#[path = "../tests/chapters/libseccomp.rs"]
mod libseccomp;
#[path = "start/memory.rs"]
mod memory;
#[path = "start/oci.rs"]
mod oci;
#[path = "start/plot.rs"]
mod plot;
#[path = "start/scale.rs"]
mod scale;
#[path = "start/table.rs"]
mod table;

use std::error::Error;
use std::time::{Duration, Instant};

use contenders::{Bench, Contender};
use table::Table;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// How long the machine rests before a cold start.
const REST: Duration = Duration::from_millis(50);

struct Options {
    parts: Vec<String>,
    rounds: usize,
    write: bool,
    /// Docker's seccomp profile, if it is said where that is.
    profile: Option<String>,
}

impl Options {
    fn wants(&self, part: &str) -> bool {
        self.parts.iter().any(|name| name == part) || (self.parts.is_empty() && part != "builds")
    }
}

fn main() -> Outcome {
    let options = options()?;
    if !nix::unistd::geteuid().is_root() {
        println!("The benchmark makes containers of several runtimes, and most want root: run it with sudo.");
        return Ok(());
    }
    contenders::move_out()?;
    let mut tables = Vec::new();
    if options.wants("start") || options.wants("many") || options.wants("scale") {
        let bench = Bench::new()?;
        if options.wants("start") {
            tables.extend(starts(&bench, &options)?);
        }
        if options.wants("many") {
            tables.push(scale::many_at_a_time(&bench)?);
        }
        if options.wants("scale") {
            tables.push(scale::five_hundred(&bench)?);
        }
    }
    if options.wants("layers") {
        tables.push(scale::layers()?);
    }
    if options.wants("memory") {
        tables.push(memory::memory_and_size()?);
    }
    if options.wants("oci") {
        tables.push(oci::race(&options)?);
    }
    if options.wants("filter") {
        tables.push(filter::cost(&options)?);
    }
    if options.wants("builds") {
        tables.push(memory::builds()?);
    }
    if options.write {
        for table in &tables {
            table.write()?;
        }
    }
    Ok(())
}

fn options() -> Outcome<Options> {
    let mut options = Options { parts: Vec::new(), rounds: 60, write: false, profile: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {} // cargo says so
            "--write" => options.write = true,
            "--rounds" => options.rounds = arguments.next().ok_or("--rounds N")?.parse()?,
            "--profile" => options.profile = Some(arguments.next().ok_or("--profile FILE")?),
            "start" | "many" | "scale" | "layers" | "memory" | "oci" | "filter" | "builds" => {
                options.parts.push(argument)
            }
            other => return Err(format!("{other:?}: see the top of benches/start.rs").into()),
        }
    }
    Ok(options)
}

/// The time of each contender in each round.
struct Rounds(Vec<Vec<f64>>);

impl Rounds {
    /// Runs every contender once a round, beginning with another one each time.
    fn run(contenders: &[Contender], rounds: usize, rest: Duration) -> Outcome<Rounds> {
        let mut times = vec![Vec::new(); contenders.len()];
        for contender in contenders {
            contender.run()?; // what is only done the first time
        }
        for round in 0..rounds {
            for offset in 0..contenders.len() {
                let which = (round + offset) % contenders.len();
                std::thread::sleep(rest);
                let begun = Instant::now();
                contenders[which].run()?;
                times[which].push(begun.elapsed().as_secs_f64() * 1e3);
            }
        }
        Ok(Rounds(times))
    }

    fn median(&self, which: usize) -> f64 {
        median(self.0[which].clone())
    }

    /// How many times the time of `other` it takes.
    fn ratio(&self, which: usize, other: usize) -> f64 {
        median(self.0[which].iter().zip(&self.0[other]).map(|(one, other)| one / other).collect())
    }

    /// How much longer than `other` it takes.
    fn difference(&self, which: usize, other: usize) -> f64 {
        median(self.0[which].iter().zip(&self.0[other]).map(|(one, other)| one - other).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The tables of single starts, and the plot.
fn starts(bench: &Bench, options: &Options) -> Outcome<Vec<Table>> {
    let contenders = bench.contenders();
    let names: Vec<&str> = contenders.iter().map(|contender| contender.name.as_str()).collect();
    println!("{} contenders, {} rounds, cold and hot", names.len(), options.rounds);
    let cold = Rounds::run(&contenders, options.rounds, REST)?;
    let hot = Rounds::run(&contenders, options.rounds, Duration::ZERO)?;

    let place = |name: &str| names.iter().position(|other| *other == name);
    let floor = place("floor").ok_or("no floor")?;
    let mut all = Table::new(
        "start",
        "One container, from the start of its runtime to the end",
        &["", "sets up", "cold, ms", "hot, ms", "cold, floors", "hot, floors"],
    );
    for (which, contender) in contenders.iter().enumerate() {
        all.row(&[
            &contender.name,
            contender.sets_up,
            &format!("{:.2}", cold.median(which)),
            &format!("{:.2}", hot.median(which)),
            &format!("{:.2}", cold.ratio(which, floor)),
            &format!("{:.2}", hot.ratio(which, floor)),
        ]);
    }
    all.print();

    let mut goals = Table::new("goals", "Goals, as ratios", &["", "goal", "cold", "hot"]);
    let goal = |goals: &mut Table, one: &str, other: &str, cold_goal: Option<f64>, hot_goal: Option<f64>| {
        let (Some(first), Some(second)) = (place(one), place(other)) else { return };
        let shown = |goal: Option<f64>, rounds: &Rounds| match (goal, rounds.ratio(first, second)) {
            (None, ratio) => format!("{ratio:.2}"),
            (Some(goal), ratio) if ratio <= goal => format!("{ratio:.2}"),
            (Some(_), ratio) => format!("{ratio:.2} (missed)"),
        };
        let wanted = match (cold_goal, hot_goal) {
            (Some(cold), Some(hot)) if cold == hot => format!("{cold}"),
            (Some(cold), Some(hot)) => format!("cold {cold}, hot {hot}"),
            (Some(cold), None) => format!("cold {cold}"),
            _ => String::new(),
        };
        goals.row(&[&format!("{one} / {other}"), &wanted, &shown(cold_goal, &cold), &shown(hot_goal, &hot)]);
    };
    goal(&mut goals, "chapter 7, limits", "floor", Some(1.15), Some(1.15));
    goal(&mut goals, "chapter 7, limits", "floor, all calls", Some(1.15), Some(1.15));
    goal(&mut goals, "chapter 7, limits", "bwrap", Some(1.0), Some(1.0));
    goal(&mut goals, "chapter 7, limits", "crun", Some(0.2), Some(0.333));
    goal(&mut goals, "chapter 7, limits", "runc", Some(0.1), None);
    goal(&mut goals, "chapter 7, limits, bridge", "floor, bridge", Some(1.25), Some(1.25));
    goal(&mut goals, "chapter 7, limits, bridge", "chapter 7, limits", Some(1.4), Some(1.4));
    goal(&mut goals, "chapter 8, limits", "floor, users", Some(1.15), Some(1.15));
    goal(&mut goals, "chapter 8, limits", "floor, users, all calls", Some(1.15), Some(1.15));
    goal(&mut goals, "chapter 8, limits, bridge", "floor, users, bridge", Some(1.25), Some(1.25));
    goal(&mut goals, "chapter 8, limits", "chapter 7, limits", None, None);
    goal(&mut goals, "chapter 9, limits", "floor, power", Some(1.15), Some(1.15));
    goal(&mut goals, "chapter 9, limits", "floor, power, all calls", Some(1.15), Some(1.15));
    goal(&mut goals, "chapter 9, limits, bridge", "floor, power, bridge", Some(1.25), Some(1.25));
    goal(&mut goals, "chapter 9, limits", "chapter 8, limits", None, None);
    goal(&mut goals, "chapter 9, limits", "crun", Some(0.25), None);
    let (small, small_bridge) = ("chapter 7, limits, static", "chapter 7, limits, bridge, static");
    goal(&mut goals, small, "floor, static", Some(1.15), Some(1.15));
    goal(&mut goals, small, "floor, all calls, static", Some(1.15), Some(1.15));
    goal(&mut goals, small, "bwrap", Some(1.0), Some(1.0));
    goal(&mut goals, small, "crun", Some(0.2), Some(0.333));
    goal(&mut goals, small, "runc", Some(0.1), None);
    goal(&mut goals, small_bridge, "floor, bridge, static", Some(1.25), Some(1.25));
    goals.print();

    if options.write {
        plot::write(&contenders, &cold)?;
    }
    Ok(vec![all, goals])
}
