//! Thousands of clients that are slow or silent, and what everybody else notices of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use proactions_testkit::TestCertificates;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::client::{Connection, nanos, percentile};
use crate::report::{Budgets, Repeats, Table, number};
use crate::subject::{Kind, Processes, Programs, Special, Subject};
use crate::upstream::Scenario;

/// Slow clients of each kind.
const SLOW: usize = 2_000;
/// Good requests beside them.
const GOOD: u64 = 1_000;
/// Times that each kind comes, to a hub of its own. All requests of all rounds count as one: the tenth slowest of a
/// thousand is one event of a shared machine.
const ROUNDS: usize = 3;
const GOOD_CLIENTS: usize = 4;
/// Between two good requests of a client: they go on until the last slow client is gone, the cutting of them included.
const PAUSE: Duration = Duration::from_millis(32);
/// Good requests on one connection, so that new connections are among what is measured.
const ON_ONE: usize = 25;
/// The deadline of every phase in this hub.
const DEADLINE: Duration = Duration::from_secs(6);
/// Deadlines are looked at four times in their length; opening takes a while, too.
const CLOSED_BY: Duration = Duration::from_secs(8);
/// Between two bytes of a client that is slow.
const DRIP: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    Silent,
    HalfHandshake,
    Header,
    Body,
    Read,
    PrefaceOnly,
}

impl Slow {
    const ALL: [Self; 6] = [
        Self::Silent,
        Self::HalfHandshake,
        Self::Header,
        Self::Body,
        Self::Read,
        Self::PrefaceOnly,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::HalfHandshake => "half a TLS handshake",
            Self::Header => "slow header",
            Self::Body => "slow body",
            Self::Read => "slow read",
            Self::PrefaceOnly => "preface only",
        }
    }

    /// What such a client says at first, and then again and again.
    fn says(self, subject: &Subject) -> (Vec<u8>, Option<u8>) {
        match self {
            Self::Silent => (Vec::new(), None),
            Self::HalfHandshake => (
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
                None,
            ),
            Self::Header => (
                b"GET /health HTTP/1.1\r\nhost: h\r\nx-slow: ".to_vec(),
                Some(b'x'),
            ),
            Self::Body => {
                let mut request = subject.request(Scenario::Chat);
                request.truncate(request.len() - 400);
                (request, Some(b' '))
            }
            Self::Read => (subject.request(Scenario::Huge), None),
            Self::PrefaceOnly => (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), None),
        }
    }
}

/// Floods the hub with each kind in turn.
pub(crate) async fn flood(programs: &Programs, budgets: &mut Budgets) -> io::Result<()> {
    println!("## {SLOW} slow clients of each kind beside {GOOD} good requests\n");
    let mut table = Table::new(&[
        "kind",
        "unloaded p50 / p99 ms",
        "flooded p50 / p99 ms",
        "p99 ratio (of each round)",
        "good ones failed",
        "slow ones open at first",
        "all closed after, s",
        "RSS before / peak / after, MiB",
    ]);
    for kind in Slow::ALL {
        let name = kind.name();
        let mut rounds = Vec::new();
        for round in 1..=ROUNDS {
            eprintln!("{name}, {round} of {ROUNDS} …");
            rounds.push(one(kind, programs).await?);
        }
        let of_all = |of: fn(&Flooded) -> &[u64]| {
            let mut all: Vec<u64> = rounds.iter().flat_map(of).copied().collect();
            all.sort_unstable();
            all
        };
        let (unloaded, flooded) = (
            of_all(|round| &round.unloaded),
            of_all(|round| &round.flooded),
        );
        let millis = |run: &[u64], percent| percentile(run, percent) as f64 / 1e6;
        let both =
            |run: &[u64]| format!("{} / {}", number(millis(run, 50)), number(millis(run, 99)));
        let ratio = millis(&flooded, 99) / millis(&unloaded, 99);
        let each: Vec<String> = rounds
            .iter()
            .map(|round| number(millis(&round.flooded, 99) / millis(&round.unloaded, 99)))
            .collect();
        let of_memory = |at: fn(&Flooded) -> f64| rounds.iter().map(at).fold(0.0, f64::max);
        let closed = rounds
            .iter()
            .map(|round| round.closed.map_or(f64::NAN, |after| after.as_secs_f64()))
            // Not a number, once there, stays.
            .fold(0.0, |latest, closed| {
                if closed > latest || closed.is_nan() {
                    closed
                } else {
                    latest
                }
            });
        table.row([
            name,
            &both(&unloaded),
            &both(&flooded),
            &format!("{} ({})", number(ratio), each.join(", ")),
            &rounds
                .iter()
                .map(|round| round.failed)
                .sum::<u64>()
                .to_string(),
            &rounds
                .iter()
                .map(|round| round.open)
                .min()
                .unwrap_or_default()
                .to_string(),
            &number(closed),
            &format!(
                "{} / {} / {}",
                number(of_memory(|round| round.memory[0] / 1024.0)),
                number(of_memory(|round| round.memory[1] / 1024.0)),
                number(of_memory(|round| round.memory[2] / 1024.0)),
            ),
        ]);
        budgets.add(
            format!("{name}: good p99 over unloaded"),
            "×",
            ratio,
            (2.0, 1.5),
            Repeats::No,
        );
        let limit = CLOSED_BY.as_secs_f64();
        // Not a number is never within a budget.
        budgets.add(
            format!("{name}: all closed"),
            " s",
            closed,
            (limit, limit),
            Repeats::No,
        );
    }
    println!("{table}");
    Ok(())
}

/// What one kind of flood did.
struct Flooded {
    unloaded: Vec<u64>,
    flooded: Vec<u64>,
    failed: u64,
    /// Slow clients open when the good requests began.
    open: usize,
    /// After the last one was there, and with readers their buffers full; none if some were open still at the end.
    closed: Option<Duration>,
    /// In KiB: before, at most, after.
    memory: [f64; 3],
}

async fn one(kind: Slow, programs: &Programs) -> io::Result<Flooded> {
    let millis = DEADLINE.as_millis();
    let mut hub = format!(
        "  listener: {{maxConnections: 20000, maxConnectionsPerAddress: 20000, tlsHandshakeTimeout: {millis}, \
         firstByteTimeout: {millis}, headerTimeout: {millis}, bodyFrameTimeout: {millis}, bodyTimeout: {millis}, \
         idleTimeout: {millis}, writeTimeout: {millis}}}\n"
    );
    let folder = tempfile::TempDir::new()?;
    let tls = kind == Slow::HalfHandshake;
    let connector = if tls {
        let (lines, connector) = secured(folder.path())?;
        hub.push_str(&lines);
        Some(connector)
    } else {
        None
    };
    let special = Special {
        hub,
        ..Special::default()
    };
    let mut subject = Subject::launch(Kind::Hub, programs, &special)?;
    subject.ready().await?;
    let reach = Reach {
        addr: subject.addr,
        tls: connector,
    };
    let mut first = reach.connect().await?;
    let (head, _) = first.exchange(&subject.request(Scenario::Chat)).await?;
    drop(first);
    subject.entered(head.cookie);

    let request: Arc<[u8]> = subject.request(Scenario::Chat).into();
    let (warm, _) = good(&reach, &request).await?;
    drop(warm);
    let (unloaded, _) = good(&reach, &request).await?;
    let processes = subject.processes();
    let before = processes.memory().now;

    let flood = Flood::open(kind, &subject).await?;
    if kind == Slow::Read {
        until_quiet(&subject).await?;
    }
    let all_there = Instant::now();
    let begun_with = flood.open_now();
    let watched = async {
        let (mut peak, mut closed) = (0.0, None);
        let end = all_there + CLOSED_BY + Duration::from_secs(4);
        while closed.is_none() && Instant::now() < end {
            peak = processes.memory().now.max(peak);
            if flood.open_now() == 0 {
                closed = Some(all_there.elapsed());
            }
            sleep(Duration::from_millis(100)).await;
        }
        (peak, closed)
    };
    let (ran, (peak, closed)) = tokio::join!(good(&reach, &request), watched);
    let (flooded, failed) = ran?;
    flood.end();
    sleep(Duration::from_millis(500)).await;
    let after = processes.memory().now;
    Ok(Flooded {
        unloaded,
        flooded,
        failed,
        open: begun_with,
        closed,
        memory: [before, peak, after],
    })
}

/// Waits until the answers have filled the buffers: until then it is 2,000 busy transfers that are measured, and the
/// upstream's work on this machine, not 2,000 readers that are slow.
async fn until_quiet(subject: &Subject) -> io::Result<()> {
    let both = || Ok::<_, io::Error>(subject.cpu()? + Processes::own().cpu()?);
    let mut seen = both()?;
    let end = Instant::now() + DEADLINE / 2;
    while Instant::now() < end {
        sleep(Duration::from_millis(200)).await;
        let now = both()?;
        // A tenth of one core, in microseconds.
        if now - seen < 20_000.0 {
            break;
        }
        seen = now;
    }
    Ok(())
}

/// How a good client gets to the hub.
#[derive(Clone)]
struct Reach {
    addr: SocketAddr,
    tls: Option<TlsConnector>,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

impl Reach {
    async fn connect(&self) -> io::Result<Connection<Box<dyn Io>>> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        Ok(Connection::over(match &self.tls {
            None => Box::new(stream),
            Some(connector) => {
                let name = ServerName::from(self.addr.ip());
                Box::new(connector.connect(name, stream).await?)
            }
        }))
    }
}

/// The sorted times of good requests, that of connecting included, and how many failed.
async fn good(reach: &Reach, request: &Arc<[u8]>) -> io::Result<(Vec<u64>, u64)> {
    let left = Arc::new(AtomicU64::new(GOOD));
    let mut clients = JoinSet::new();
    for _ in 0..GOOD_CLIENTS {
        let (left, reach, request) = (Arc::clone(&left), reach.clone(), Arc::clone(request));
        clients.spawn(async move {
            let (mut times, mut failed) = (Vec::new(), 0);
            let mut connection = None;
            while left
                .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
                .is_ok()
            {
                let began = Instant::now();
                let exchange = async {
                    let mut open = match connection.take() {
                        Some(open) => open,
                        None => reach.connect().await?,
                    };
                    let (head, _) = open.exchange(&request).await?;
                    Ok::<_, io::Error>((open, head.status))
                };
                match timeout(DEADLINE, exchange).await {
                    Ok(Ok((open, 200))) => {
                        times.push(nanos(began.elapsed()));
                        connection = (times.len() % ON_ONE != 0).then_some(open);
                    }
                    _ => failed += 1,
                }
                sleep(PAUSE).await;
            }
            (times, failed)
        });
    }
    let mut all = Vec::new();
    let mut failures = 0;
    for (times, failed) in clients.join_all().await {
        all.extend(times);
        failures += failed;
    }
    all.sort_unstable();
    Ok((all, failures))
}

/// Slow clients, on a thread of their own that gives way to every other: they stand for other machines, whose work is
/// not done on the cores of the hub.
struct Flood {
    open: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Flood {
    /// Waits until all have connected and said their first words.
    async fn open(kind: Slow, subject: &Subject) -> io::Result<Self> {
        let open = Arc::new(AtomicUsize::new(0));
        let said = Arc::new(AtomicUsize::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let (first, drip) = kind.says(subject);
        let addr = subject.addr;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = (Arc::clone(&open), Arc::clone(&said), Arc::clone(&over));
        let thread = std::thread::Builder::new()
            .name("slow clients".to_owned())
            .spawn(move || {
                let (open, said, over) = shared;
                // On Linux this is the thread's, not the process's. Without it the figures are worse, no more.
                let _ = rustix::process::nice(19);
                runtime.block_on(async {
                    let mut clients = JoinSet::new();
                    for index in 0..SLOW {
                        let client = SlowClient {
                            addr,
                            first: first.clone(),
                            drip,
                            reads: kind != Slow::Read,
                            said: Arc::clone(&said),
                            over: Arc::clone(&over),
                        };
                        open.fetch_add(1, Relaxed);
                        let open = Arc::clone(&open);
                        clients.spawn(async move {
                            let _ = client.run().await;
                            open.fetch_sub(1, Relaxed);
                        });
                        // No faster than connections are accepted: those beyond the queue would have to wait for a
                        // second.
                        if index % 100 == 99 {
                            sleep(Duration::from_millis(10)).await;
                        }
                    }
                    while clients.join_next().await.is_some() {}
                });
            })?;
        let end = Instant::now() + DEADLINE;
        while said.load(Relaxed) < SLOW {
            if Instant::now() > end {
                return Err(io::Error::other(
                    "the slow clients could not connect in time",
                ));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(Self { open, over, thread })
    }

    fn open_now(&self) -> usize {
        self.open.load(Relaxed)
    }

    fn end(self) {
        self.over.store(true, Relaxed);
        let _ = self.thread.join();
    }
}

struct SlowClient {
    addr: SocketAddr,
    first: Vec<u8>,
    drip: Option<u8>,
    reads: bool,
    said: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl SlowClient {
    /// Until the hub closes the connection, or the flood is over.
    async fn run(self) -> io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        if !self.reads {
            // What is not read has to stay with the hub.
            socket.set_recv_buffer_size(4096)?;
        }
        let connected = async {
            let mut stream = socket.connect(self.addr).await?;
            stream.write_all(&self.first).await?;
            Ok::<_, io::Error>(stream)
        }
        .await;
        self.said.fetch_add(1, Relaxed);
        let mut stream = connected?;
        let mut ignored = [0; 512];
        while !self.over.load(Relaxed) {
            if self.reads {
                match timeout(DRIP, stream.read(&mut ignored)).await {
                    Ok(Ok(0) | Err(_)) => return Ok(()),
                    Ok(Ok(_)) => continue,
                    Err(_) => {}
                }
            } else if let Ok(ready) = timeout(DRIP, stream.ready(Interest::ERROR)).await {
                // What is not read is reset.
                ready?;
                return Ok(());
            }
            if let Some(drip) = self.drip {
                stream.write_all(&[drip]).await?;
            }
        }
        Ok(())
    }
}

/// Lines for a hub that speaks TLS, and what good clients need for it.
fn secured(folder: &std::path::Path) -> io::Result<(String, TlsConnector)> {
    use std::os::unix::fs::PermissionsExt as _;

    let certificates = TestCertificates::new();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, &certificates.server)?;
    std::fs::write(&key, &certificates.server_key)?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
    let mut roots = rustls::RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(certificates.ca.as_bytes());
    roots
        .add(authority.map_err(io::Error::other)?)
        .map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let lines = format!(
        "  tls: {{enabled: true, cert: '{}', key: '{}'}}\n",
        cert.display(),
        key.display()
    );
    Ok((lines, TlsConnector::from(Arc::new(config))))
}
