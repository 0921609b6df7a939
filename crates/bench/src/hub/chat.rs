//! Chats and large answers: processor time, memory, allocations, the start, the size.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::process::Command;

use tokio::time::Instant;

use crate::client::{Connection, Pool, median, percentile};
use crate::report::{Budgets, Repeats, Table, number};
use crate::subject::{Kind, Programs, Special, Subject};
use crate::upstream::Scenario;

/// Rounds, of which the median counts.
const ROUNDS: usize = 5;
const MIB: f64 = 1024.0 * 1024.0;

/// One kind of load.
struct Load {
    label: &'static str,
    scenario: Scenario,
    connections: usize,
    /// Requests of one round.
    requests: u64,
    budget: (f64, f64),
}

/// Processor time a request, beside the peers.
pub(crate) async fn cpu(programs: &Programs, budgets: &mut Budgets) -> io::Result<()> {
    let loads = [
        ("c=1", 1, 3_000, (1.40, 1.20)),
        ("c=32", 32, 12_000, (1.35, 1.15)),
        ("c=256", 256, 12_000, (1.35, 1.15)),
    ]
    .map(|(label, connections, requests, budget)| Load {
        label,
        scenario: Scenario::Chat,
        connections,
        requests,
        budget,
    });
    println!("## Chat: processor time a request\n");
    compare(programs, budgets, &loads, "CPU-µs/req", |_| 1.0).await
}

/// Processor time a mebibyte of large answers.
pub(crate) async fn large(programs: &Programs, budgets: &mut Budgets) -> io::Result<()> {
    let loads = [
        ("64 KiB", Scenario::Large64k, 2_000, (1.20, 1.10)),
        ("1 MiB", Scenario::Large1m, 300, (1.10, 1.03)),
    ]
    .map(|(label, scenario, requests, budget)| Load {
        label,
        scenario,
        connections: 8,
        requests,
        budget,
    });
    println!("## Large answers: processor time a mebibyte\n");
    compare(programs, budgets, &loads, "CPU-µs/MiB", |bytes| {
        bytes / MIB
    })
    .await
}

/// Runs each load on each program in turn. The ratio is the median of the ratios within one round, so that what the
/// neighbours do in a round meets both.
async fn compare(
    programs: &Programs,
    budgets: &mut Budgets,
    loads: &[Load],
    unit: &str,
    amount: fn(f64) -> f64,
) -> io::Result<()> {
    let mut columns = vec!["program".to_owned()];
    for load in loads {
        let label = load.label;
        columns.extend([
            format!("{unit} {label}"),
            format!("×bare {label}"),
            format!("p50 / p99 ms {label}"),
        ]);
    }
    let kinds = Kind::present();
    let mut cells: Vec<Vec<String>> = kinds
        .iter()
        .map(|kind| vec![kind.name().to_owned()])
        .collect();
    for load in loads {
        eprintln!("{} …", load.label);
        let mut subjects = Vec::new();
        for kind in &kinds {
            let subject = Subject::start(*kind, programs).await?;
            let request = subject.request(load.scenario);
            let mut pool = Pool::open(subject.addr, load.connections, &request).await?;
            pool.run(load.requests / 4).await?;
            subjects.push((subject, pool, Vec::new(), Vec::new()));
        }
        for round in 0..ROUNDS {
            // Whoever comes first in a round comes last in the next one.
            let order: Vec<usize> = match round % 2 {
                0 => (0..subjects.len()).collect(),
                _ => (0..subjects.len()).rev().collect(),
            };
            for index in order {
                let Some((subject, pool, costs, latencies)) = subjects.get_mut(index) else {
                    continue;
                };
                let before = subject.cpu()?;
                let run = pool.run(load.requests).await?;
                let spent = subject.cpu()? - before;
                if run.failed > 0 {
                    let name = subject.kind.name();
                    return Err(io::Error::other(format!(
                        "{name}: {} requests failed",
                        run.failed
                    )));
                }
                let done = run.latencies.len() as f64;
                costs.push(spent / done / amount(run.bytes as f64 / done));
                latencies.extend(run.latencies);
            }
        }
        let bare: Vec<f64> = subjects
            .iter()
            .find(|(subject, ..)| subject.kind == Kind::Bare)
            .map(|(_, _, costs, _)| costs.clone())
            .unwrap_or_default();
        for ((subject, _, costs, mut latencies), row) in subjects.into_iter().zip(&mut cells) {
            let ratio = median(
                costs
                    .iter()
                    .zip(&bare)
                    .map(|(cost, bare)| cost / bare)
                    .collect(),
            );
            latencies.sort_unstable();
            let millis = |percent| number(percentile(&latencies, percent) as f64 / 1e6);
            row.extend([
                number(median(costs)),
                number(ratio),
                format!("{} / {}", millis(50), millis(99)),
            ]);
            if subject.kind == Kind::Hub {
                let what = format!("{unit}, {}", load.label);
                budgets.add(what, "× bare", ratio, load.budget, Repeats::No);
            }
        }
    }
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut table = Table::new(&columns);
    for row in cells {
        table.row(row);
    }
    println!("{table}");
    Ok(())
}

/// Resident memory after the start, and at its highest after chats on 256 connections.
pub(crate) async fn memory(programs: &Programs, budgets: &mut Budgets) -> io::Result<()> {
    println!("## Memory\n");
    let mut table = Table::new(&[
        "program",
        "RSS at start, MiB",
        "VmHWM after chat c=256, MiB",
    ]);
    for kind in Kind::present() {
        eprintln!("memory of {} …", kind.name());
        let mut subject = Subject::launch(kind, programs, &Special::default())?;
        subject.ready().await?;
        let start = subject.memory().now / 1024.0;
        subject.enter().await?;
        let request = subject.request(Scenario::Chat);
        Pool::open(subject.addr, 256, &request)
            .await?
            .run(20_000)
            .await?;
        let peak = subject.memory().peak / 1024.0;
        table.row([kind.name(), &number(start), &number(peak)]);
        if kind == Kind::Hub {
            budgets.add("RSS at start", " MiB", start, (16.0, 12.0), Repeats::Yes);
            budgets.add(
                "VmHWM after chat c=256",
                " MiB",
                peak,
                (45.0, 35.0),
                Repeats::Yes,
            );
        }
    }
    println!("{table}");
    Ok(())
}

/// Heap allocations and instructions of a chat, end to end: the difference between two counted runs.
pub(crate) async fn allocations(programs: &Programs, budgets: &mut Budgets) -> io::Result<()> {
    const FEW: u64 = 200;
    const MANY: u64 = 1_200;
    println!("## Allocations\n");
    let mut table = Table::new(&[
        "program",
        "allocations/req",
        "instructions/req outside of the kernel",
    ]);
    for kind in [Kind::Hub] {
        let few = counted(kind, programs, FEW).await?;
        let many = counted(kind, programs, MANY).await?;
        let each = |few: u64, many: u64| many.saturating_sub(few) as f64 / (MANY - FEW) as f64;
        let allocations = each(few.allocations, many.allocations);
        table.row([
            kind.name(),
            &number(allocations),
            &number(each(few.instructions, many.instructions)),
        ]);
        budgets.add(
            "allocations/req",
            "",
            allocations,
            (30.0, 22.0),
            Repeats::Yes,
        );
    }
    println!("{table}");
    Ok(())
}

/// Counts what a process does from its start to its end, with this many chats on one connection.
async fn counted(kind: Kind, programs: &Programs, requests: u64) -> io::Result<Counts> {
    eprintln!("{requests} chats under valgrind …");
    let profile = std::env::temp_dir().join(format!("bench-hub.{}.callgrind", std::process::id()));
    let special = Special {
        under: vec![
            "valgrind".to_owned(),
            "--tool=callgrind".to_owned(),
            format!("--callgrind-out-file={}", profile.display()),
        ],
        ..Special::default()
    };
    let mut subject = Subject::launch(kind, programs, &special)?;
    subject.ready().await?;
    subject.enter().await?;
    let request = subject.request(Scenario::Chat);
    let run = Pool::open(subject.addr, 1, &request)
        .await?
        .run(requests)
        .await?;
    subject.stop().await?;
    let text = fs::read_to_string(&profile);
    let _ = fs::remove_file(&profile);
    let counts = parse(&text?);
    if run.failed > 0 || counts.allocations < requests {
        return Err(io::Error::other("nothing was counted"));
    }
    Ok(counts)
}

/// What a profile says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    instructions: u64,
    allocations: u64,
}

/// What the hub's allocator is entered by, and the C library's.
const ALLOCATORS: [&str; 9] = [
    "mi_malloc_aligned",
    "mi_realloc_aligned",
    "mi_zalloc_aligned",
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
];

/// Reads a profile of callgrind. Names are compressed: `(12) malloc` at first, `(12)` afterwards. Calls that an
/// allocating function makes to another one are not counted again.
fn parse(text: &str) -> Counts {
    let mut names: HashMap<&str, bool> = HashMap::new();
    let mut counts = Counts::default();
    let (mut within, mut called) = (false, false);
    for line in text.lines() {
        let (callee, rest) = if let Some(rest) = line.strip_prefix("cfn=") {
            (true, rest)
        } else if let Some(rest) = line.strip_prefix("fn=") {
            (false, rest)
        } else {
            if let Some(total) = line.strip_prefix("totals: ") {
                counts.instructions = total.trim().parse().unwrap_or_default();
            } else if let Some(calls) = line.strip_prefix("calls=")
                && called
                && !within
            {
                let calls = calls.split(' ').next().unwrap_or_default();
                counts.allocations += calls.parse::<u64>().unwrap_or_default();
            }
            continue;
        };
        let (id, name) = rest.split_once(' ').unwrap_or((rest, ""));
        if !name.is_empty() {
            let base = name.split(['@', '\'']).next().unwrap_or_default();
            names.insert(id, ALLOCATORS.contains(&base));
        }
        let allocating = names.get(id).copied().unwrap_or_default();
        if callee {
            called = allocating;
        } else {
            within = allocating;
        }
    }
    counts
}

/// From the start of the process to the first answer with 200.
pub(crate) async fn start(programs: &Programs, budgets: &mut Budgets) -> io::Result<()> {
    println!("## Start\n");
    let mut table = Table::new(&["program", "start to first 200, ms: median of 15", "at most"]);
    for kind in [Kind::Hub, Kind::Bare] {
        let mut millis = Vec::new();
        for _ in 0..15 {
            let began = Instant::now();
            let mut subject = Subject::launch(kind, programs, &Special::default())?;
            subject.ready().await?;
            let mut connection = Connection::open(subject.addr).await?;
            let (head, _) = connection
                .exchange(&subject.request(Scenario::Chat))
                .await?;
            if head.status != 200 {
                return Err(io::Error::other(format!(
                    "the first answer is {}",
                    head.status
                )));
            }
            millis.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        let most = millis.iter().copied().fold(0.0, f64::max);
        let middle = median(millis);
        table.row([kind.name(), &number(middle), &number(most)]);
        if kind == Kind::Hub {
            budgets.add(
                "start to first 200",
                " ms",
                middle,
                (50.0, 20.0),
                Repeats::No,
            );
        }
    }
    println!("{table}");
    Ok(())
}

/// The size of the program, without its symbols, as it is released.
pub(crate) fn size(programs: &Programs, budgets: &mut Budgets) -> io::Result<()> {
    let stripped = tempfile::NamedTempFile::new()?;
    let status = Command::new("strip")
        .arg("-o")
        .arg(stripped.path())
        .arg(&programs.hub)
        .status()?;
    if !status.success() {
        return Err(io::Error::other("strip failed"));
    }
    let size = fs::metadata(stripped.path())?.len() as f64 / MIB;
    println!("## Size\n\n{} MiB\n", number(size));
    budgets.add(
        "size of the program",
        " MiB",
        size,
        (8.0, 5.0),
        Repeats::Yes,
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_and_calls_are_read() {
        let profile = "version: 1\n\nfn=(1) main\n16 400\ncfn=(2) malloc\ncalls=3 0 \n16 90\ncfn=(3) free\ncalls=9 0\n\
                       16 90\nfn=(4) realloc\ncfn=(2)\ncalls=2 0\n16 60\nfn=(6) other\ncfn=(5) realloc'2\ncalls=1 0\n\
                       1 1\n\ntotals: 1234\n";
        let counts = Counts {
            instructions: 1234,
            allocations: 4,
        };
        assert_eq!(parse(profile), counts);
        assert_eq!(parse(""), Counts::default());
    }
}
