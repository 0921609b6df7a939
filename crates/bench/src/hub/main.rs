//! Measures the hub end to end, beside its peers. See `docs/measurements.md`.
//!
//! `bench-hub --hub PROGRAM` measures everything; `bench-hub --hub PROGRAM PART…` only these parts. `bench-hub --bare
//! LISTEN UPSTREAM` is the forwarder without a policy that the hub is compared with.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a command-line program for developers"
)]

mod bare;
mod chat;
mod client;
mod flood;
mod report;
mod stream;
mod subject;
mod upstream;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::report::Budgets;
use crate::subject::Programs;

/// What the forwarder without a policy has: the comparison is with the best that it can do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTS: [&str; 9] = [
    "size",
    "start",
    "memory",
    "allocations",
    "cpu",
    "large",
    "stream",
    "held",
    "flood",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["--bare", listen, upstream] => match listen.parse() {
            Ok(listen) => bare::run(listen, upstream).map(|()| true),
            Err(_) => Err(io::Error::other("an address was expected")),
        },
        ["--hub", hub, parts @ ..] if parts.iter().all(|part| PARTS.contains(part)) => {
            measure(PathBuf::from(hub), parts)
        }
        _ => Err(io::Error::other(format!(
            "bench-hub --hub PROGRAM [PART…]; parts: {}",
            PARTS.join(", ")
        ))),
    };
    match done {
        Ok(kept) => ExitCode::from(u8::from(!kept)),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Measures these parts, or all; says whether the budgets of figures that repeat were kept.
fn measure(hub: PathBuf, parts: &[&str]) -> io::Result<bool> {
    upstream::now();
    let programs = Programs {
        hub,
        upstream: upstream::start()?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut budgets = Budgets::default();
    runtime.block_on(async {
        for part in PARTS {
            if !parts.is_empty() && !parts.contains(&part) {
                continue;
            }
            match part {
                "size" => chat::size(&programs, &mut budgets)?,
                "start" => chat::start(&programs, &mut budgets).await?,
                "memory" => chat::memory(&programs, &mut budgets).await?,
                "allocations" => chat::allocations(&programs, &mut budgets).await?,
                "cpu" => chat::cpu(&programs, &mut budgets).await?,
                "large" => chat::large(&programs, &mut budgets).await?,
                "stream" => stream::stream(&programs, &mut budgets).await?,
                "held" => stream::held(&programs, &mut budgets).await?,
                _ => flood::flood(&programs, &mut budgets).await?,
            }
        }
        Ok::<_, io::Error>(())
    })?;
    println!("## Budgets\n\n{budgets}");
    Ok(budgets.kept())
}
