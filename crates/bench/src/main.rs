//! Prints what each layer costs a request. See `docs/measurements.md`.
//!
//! `bench-layers` measures every case; `bench-layers PART…` only those whose names hold a part, and the bare
//! service. `bench-layers --case NAME --iterations N` runs one case and prints nothing: that is what valgrind runs.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a command-line program for developers"
)]

mod callgrind;
mod report;

use std::io;
use std::process::ExitCode;

use proactions_bench::Case;
use tokio::time::Instant;

use crate::callgrind::Callgrind;
use crate::report::{Cost, Report};

/// The one that the hub has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Iterations of one timed round, after as many for warming up.
const ITERATIONS: u32 = 20_000;
/// Timed rounds, of which the median counts.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["--case", name, "--iterations", iterations] = arguments.as_slice() {
        let case = proactions_bench::find(name).expect("the name of a case");
        case.run(iterations.parse().expect("a number of iterations"));
        return ExitCode::SUCCESS;
    }
    let wanted = |case: &Case| {
        case.name() == case.baseline()
            || arguments.is_empty()
            || arguments.iter().any(|part| case.name().contains(part))
    };
    match measure(&wanted) {
        Ok(report) => {
            println!("{report}");
            ExitCode::from(u8::from(!report.within_budget()))
        }
        Err(error) => {
            eprintln!("valgrind: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(wanted: &dyn Fn(&Case) -> bool) -> io::Result<Report> {
    let mut report = Report::default();
    let mut cases = proactions_bench::cases();
    cases.retain(wanted);
    let callgrind = Callgrind::new(cases.first().expect("the bare service").name())?;
    for case in &cases {
        eprintln!("{} …", case.name());
        let nanoseconds = nanoseconds(case);
        let counts = callgrind.count(case.name())?;
        report.add(
            case,
            Cost {
                nanoseconds,
                allocations: counts.allocations,
                instructions: counts.instructions,
            },
        );
    }
    Ok(report)
}

/// The median of the rounds, for one request.
fn nanoseconds(case: &Case) -> f64 {
    case.warm_up(ITERATIONS);
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            case.run(ITERATIONS);
            start.elapsed().as_nanos() as f64 / f64::from(ITERATIONS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(ROUNDS / 2).copied().unwrap_or_default()
}
