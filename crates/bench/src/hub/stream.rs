//! Streams: how soon their events arrive, what they cost, what one costs that is held open.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::client::{Connection, Pool, median, nanos, percentile};
use crate::report::{Budgets, Repeats, Table, number};
use crate::subject::{Kind, Programs, Special, Subject, request};
use crate::upstream::{EVENTS, Scenario, event, now};

const ROUNDS: usize = 5;
/// Streams of one round for a latency.
const LATENCIES: usize = 200;
/// Streams that are held open.
const HELD: usize = 2_000;
const LIMIT: Duration = Duration::from_secs(30);

/// How soon an event arrives, and what events cost.
pub(crate) async fn stream(programs: &Programs, budgets: &mut Budgets) -> io::Result<()> {
    println!("## Streams\n");
    let kinds = Kind::present();
    let direct = |scenario| (programs.upstream, request(None, scenario, None));
    let mut subjects = Vec::new();
    for kind in &kinds {
        subjects.push(Figures::new(Subject::start(*kind, programs).await?).await?);
    }
    let mut added_to = Vec::new();
    let mut direct_passed = Vec::new();
    for round in 0..ROUNDS {
        eprintln!("streams, round {} …", round + 1);
        let (addr, bytes) = direct(Scenario::First);
        let base = first_bytes(addr, &bytes).await?;
        added_to.push(base);
        let (addr, bytes) = direct(Scenario::Stamped);
        direct_passed.extend(passed_on(addr, &bytes).await?);
        for figures in &mut subjects {
            figures.measure(base).await?;
        }
    }
    let mut table = Table::new(&[
        "program",
        "TTFB added, p50 µs",
        "passed on, p50 / p99 µs",
        "CPU-µs/paced event",
        "×bare",
        "CPU-µs/burst of 50",
        "×bare",
    ]);
    direct_passed.sort_unstable();
    let micros = |nanoseconds: u64| number(nanoseconds as f64 / 1000.0);
    let passed = |sorted: &[u64]| {
        format!(
            "{} / {}",
            micros(percentile(sorted, 50)),
            micros(percentile(sorted, 99))
        )
    };
    table.row([
        "the upstream itself",
        &format!("0 (of {})", number(median(added_to))),
        &passed(&direct_passed),
        "–",
        "–",
        "–",
        "–",
    ]);
    let bare = subjects
        .iter()
        .find(|figures| figures.subject.kind == Kind::Bare)
        .map(|bare| (bare.added.clone(), bare.paced.clone(), bare.burst.clone()))
        .unwrap_or_default();
    let ratio = |own: &[f64], bare: &[f64]| {
        median(own.iter().zip(bare).map(|(own, bare)| own / bare).collect())
    };
    for figures in &mut subjects {
        figures.passed.sort_unstable();
        let added = median(figures.added.clone());
        let paced = ratio(&figures.paced, &bare.1);
        let burst = median(figures.burst.clone());
        table.row([
            figures.subject.kind.name(),
            &number(added),
            &passed(&figures.passed),
            &number(median(figures.paced.clone())),
            &number(paced),
            &number(burst),
            &number(ratio(&figures.burst, &bare.2)),
        ]);
        if figures.subject.kind == Kind::Hub {
            let p99 = percentile(&figures.passed, 99) as f64 / 1000.0;
            budgets.add(
                "SSE: TTFB added, p50",
                " µs",
                added,
                (130.0, 95.0),
                Repeats::No,
            );
            budgets.add(
                "SSE: event passed on, p99",
                " µs",
                p99,
                (1000.0, 500.0),
                Repeats::No,
            );
            budgets.add(
                "SSE: CPU per paced event",
                "× bare",
                paced,
                (1.20, 1.05),
                Repeats::No,
            );
            budgets.add(
                "SSE: CPU per burst of 50",
                "× bare",
                ratio(&figures.burst, &bare.2),
                (1.0, 0.5),
                Repeats::No,
            );
        }
    }
    println!("{table}");
    Ok(())
}

/// What the rounds found out about one program.
struct Figures {
    subject: Subject,
    paced_pool: Pool,
    burst_pool: Pool,
    added: Vec<f64>,
    passed: Vec<u64>,
    paced: Vec<f64>,
    burst: Vec<f64>,
}

impl Figures {
    async fn new(subject: Subject) -> io::Result<Self> {
        let pool = |scenario, count| {
            let request = subject.request(scenario);
            let addr = subject.addr;
            async move { Pool::open(addr, count, &request).await }
        };
        let mut paced_pool = pool(Scenario::Paced, 32).await?;
        let mut burst_pool = pool(Scenario::Burst, 8).await?;
        paced_pool.run(32).await?;
        burst_pool.run(100).await?;
        Ok(Self {
            paced_pool,
            burst_pool,
            subject,
            added: Vec::new(),
            passed: Vec::new(),
            paced: Vec::new(),
            burst: Vec::new(),
        })
    }

    /// One round; `base` is how long the upstream itself takes to a first byte, in µs.
    async fn measure(&mut self, base: f64) -> io::Result<()> {
        let subject = &self.subject;
        let first = first_bytes(subject.addr, &subject.request(Scenario::First)).await?;
        self.added.push(first - base);
        self.passed
            .extend(passed_on(subject.addr, &subject.request(Scenario::Stamped)).await?);
        let paced = cost(subject, &mut self.paced_pool, 64).await?;
        self.paced.push(paced / EVENTS as f64);
        self.burst
            .push(cost(&self.subject, &mut self.burst_pool, 500).await?);
        Ok(())
    }
}

/// Microseconds of processor time a stream.
async fn cost(subject: &Subject, pool: &mut Pool, streams: u64) -> io::Result<f64> {
    let before = subject.cpu()?;
    let run = pool.run(streams).await?;
    let spent = subject.cpu()? - before;
    let whole = run.latencies.len() * EVENTS * event().len();
    if run.failed > 0 || run.bytes != whole {
        let name = subject.kind.name();
        return Err(io::Error::other(format!(
            "{name}: {} streams failed, {} of {whole} bytes came",
            run.failed, run.bytes
        )));
    }
    Ok(spent / run.latencies.len() as f64)
}

/// The median time from a request to the first byte of the stream that answers it, in µs.
async fn first_bytes(addr: SocketAddr, request: &[u8]) -> io::Result<f64> {
    let mut connection = Connection::open(addr).await?;
    let mut times = Vec::with_capacity(LATENCIES);
    for _ in 0..LATENCIES {
        let began = Instant::now();
        connection.send(request).await?;
        let head = connection.head().await?;
        connection.chunk().await?;
        times.push(nanos(began.elapsed()));
        connection.body(head.length).await?;
    }
    times.sort_unstable();
    Ok(percentile(&times, 50) as f64 / 1000.0)
}

/// The times from the upstream's write of an event to its arrival here, in nanoseconds.
async fn passed_on(addr: SocketAddr, request: &[u8]) -> io::Result<Vec<u64>> {
    let mut connection = Connection::open(addr).await?;
    let mut times = Vec::with_capacity(LATENCIES);
    for _ in 0..LATENCIES {
        connection.send(request).await?;
        let head = connection.head().await?;
        let event = connection.chunk().await?;
        let arrived = now();
        let written = event
            .and_then(|event| std::str::from_utf8(event).ok())
            .and_then(|event| {
                event
                    .split("\"at\":")
                    .nth(1)?
                    .split('}')
                    .next()?
                    .parse::<u64>()
                    .ok()
            })
            .ok_or_else(|| io::Error::other("an event without its time"))?;
        times.push(arrived.saturating_sub(written));
        connection.body(head.length).await?;
    }
    Ok(times)
}

/// Memory of a stream that is open and silent.
pub(crate) async fn held(programs: &Programs, budgets: &mut Budgets) -> io::Result<()> {
    println!("## {HELD} held streams\n");
    let mut table = Table::new(&[
        "program",
        "RSS before, MiB",
        "RSS with all open, MiB",
        "KiB each",
    ]);
    for kind in Kind::present() {
        eprintln!("held streams through {} …", kind.name());
        let Ok((before, with)) = hold(kind, programs).await else {
            if kind == Kind::Hub {
                return Err(io::Error::other("the hub did not hold the streams"));
            }
            table.row([kind.name(), "–", "–", "–"]);
            continue;
        };
        let each = (with - before) / HELD as f64;
        table.row([
            kind.name(),
            &number(before / 1024.0),
            &number(with / 1024.0),
            &number(each),
        ]);
        if kind == Kind::Hub {
            budgets.add("held stream", " KiB", each, (60.0, 30.0), Repeats::Yes);
        }
    }
    println!("{table}");
    Ok(())
}

/// Resident memory in KiB before and while all streams are open.
async fn hold(kind: Kind, programs: &Programs) -> io::Result<(f64, f64)> {
    let special = Special {
        hub: "  listener: {maxConnectionsPerAddress: 10000}".to_owned(),
        ..Special::default()
    };
    let mut subject = Subject::launch(kind, programs, &special)?;
    subject.ready().await?;
    subject.enter().await?;
    let chat = subject.request(Scenario::Chat);
    Pool::open(subject.addr, 8, &chat).await?.run(500).await?;
    let before = subject.memory().now;
    let request = subject.request(Scenario::Held);
    let mut open = Vec::with_capacity(HELD);
    let opening = async {
        for _ in 0..HELD {
            let mut connection = Connection::open(subject.addr).await?;
            connection.send(&request).await?;
            if connection.head().await?.status != 200 {
                return Err(io::Error::other("a stream was refused"));
            }
            connection.chunk().await?;
            open.push(connection);
        }
        Ok(())
    };
    timeout(LIMIT, opening)
        .await
        .map_err(|_| io::Error::other("the streams did not open in time"))??;
    sleep(Duration::from_millis(500)).await;
    Ok((before, subject.memory().now))
}
