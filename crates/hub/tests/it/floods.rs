//! Clients that are slow, silent or hostile, thousands at once: they are gone at their deadline, everybody else is
//! served meanwhile, and what they took is given back.

use std::time::Duration;

use proactions_testkit::{Ending, Gate, RawClient, Reply, Upstream, raise_open_files_limit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::harness::{ECHO_TARGET, Hub, PATIENCE, Req};

const LISTENER: &str = "  listener:
    maxConnections: 5000
    maxConnectionsPerAddress: 5000
    tlsHandshakeTimeout: 1000
    firstByteTimeout: 1000
    headerTimeout: 1000
    idleTimeout: 1500
    writeTimeout: 1000
    bodyFrameTimeout: 1000
    bodyTimeout: 2000
";

/// Clients of one kind that come at once.
const EACH: usize = 2_000;
/// Requests that are served while they are there.
const GOOD: usize = 1_000;
/// When a connection counts as forgotten. The deadlines above are far shorter; a busy machine may be slow.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// What may be left of a flood, in MiB: the allocator keeps some of what was given back.
const LEFT: u64 = 48;

/// Resident memory of the hub, in MiB.
fn memory(hub: &Hub) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", hub.process.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

/// Waits until the hub has given back what the flood took: the allocator does so by and by.
async fn memory_is_back(hub: &Hub, before: u64) {
    let began = Instant::now();
    loop {
        let now = memory(hub);
        if now < before + LEFT {
            return;
        }
        assert!(
            began.elapsed() < FORGOTTEN,
            "{before} MiB before, {now} MiB still"
        );
        good_requests(hub, 10).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Sends good requests, each on a connection of its own.
async fn good_requests(hub: &Hub, count: usize) {
    for _ in 0..count {
        assert_eq!(hub.send(&Req::get("/health")).await.status, 200);
    }
}

/// Connects so many clients that say `hello` and then `drip` now and again, serves good requests meanwhile, and waits
/// until the hub has closed every one.
async fn slow_clients(hub: &Hub, kind: &str, hello: &[u8], drip: Option<&'static [u8]>) {
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..EACH {
        let (hello, addr) = (hello.to_vec(), hub.addr);
        clients.spawn(async move {
            let mut client = RawClient::connect(addr).await.unwrap();
            let began = Instant::now();
            let mut open = client.send(&hello).await.is_ok();
            while let Some(drip) = drip.filter(|_| open && began.elapsed() < FORGOTTEN) {
                tokio::time::sleep(Duration::from_millis(300)).await;
                open = client.send(drip).await.is_ok();
            }
            client.read_to_end(FORGOTTEN).await.ending
        });
    }
    good_requests(hub, GOOD).await;
    for ending in clients.join_all().await {
        assert_ne!(ending, Ending::Deadline, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_slow_clients_of_each_kind_are_cut() {
    raise_open_files_limit();
    let hub = Hub::start(&format!("hub:\n{LISTENER}{ECHO_TARGET}")).await;
    good_requests(&hub, 50).await;
    let before = memory(&hub);
    let slow_header = b"GET /health HTTP/1.1\r\nhost: h\r\nx: ";
    let slow_body =
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
                      content-length: 900\r\n\r\n{";
    slow_clients(&hub, "silent", b"", None).await;
    slow_clients(&hub, "half a preface", &PREFACE[..16], None).await;
    slow_clients(&hub, "preface only", PREFACE, None).await;
    slow_clients(&hub, "slow header", slow_header, Some(b"y")).await;
    slow_clients(&hub, "slow body", slow_body, Some(b" ")).await;
    good_requests(&hub, 50).await;
    memory_is_back(&hub, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_half_handshakes_are_cut() {
    raise_open_files_limit();
    let pki = crate::tls::Pki::new();
    pki.install("hub", &pki.server("hub"));
    let hub = Hub::start(&crate::tls::yaml(&pki, "hub", LISTENER)).await;
    let before = memory(&hub);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..EACH {
        let addr = hub.addr;
        clients.spawn(async move {
            let mut client = RawClient::connect(addr).await.unwrap();
            let _ = client
                .send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
                .await;
            client.read_to_end(FORGOTTEN).await.ending
        });
    }
    // The port still answers, here one that speaks plainly.
    for _ in 0..GOOD {
        assert_eq!(hub.send(&Req::get("/health")).await.status, 400);
    }
    for ending in clients.join_all().await {
        assert_ne!(ending, Ending::Deadline);
    }
    memory_is_back(&hub, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_answers_that_nobody_reads_are_cut() {
    const ANSWER: usize = 8 * 1024 * 1024;
    raise_open_files_limit();
    let upstream = Upstream::start(Reply::huge(ANSWER as u64));
    let hub = Hub::start(&format!(
        "hub:\n{LISTENER}targets:\n  - {{id: up, provider: custom, apiKey: k, endpoint: '{}'}}\n",
        upstream.url("/{path}")
    ))
    .await;
    good_requests(&hub, 50).await;
    let before = memory(&hub);
    let request = Req::chat(false).to_bytes();
    let mut clients = Vec::new();
    for _ in 0..EACH {
        let mut client = RawClient::connect_narrow(hub.addr).await.unwrap();
        client.send(&request).await.unwrap();
        clients.push(client);
    }
    good_requests(&hub, GOOD).await;
    upstream.until_requests(EACH).await;
    upstream
        .until("the upstream calls are given up", |upstream| {
            upstream.open_connections() == 0
        })
        .await;
    let mut readers = tokio::task::JoinSet::new();
    for mut client in clients {
        readers.spawn(async move { client.read_to_end(FORGOTTEN).await });
    }
    for seen in readers.join_all().await {
        assert_ne!(seen.ending, Ending::Deadline);
        assert!(seen.bytes.len() < ANSWER, "an unread answer was sent whole");
    }
    memory_is_back(&hub, before).await;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [len[1], len[2], len[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// The header block of `GET /health`, or of a chat that is posted.
fn block(path: &str) -> Vec<u8> {
    let mut block = vec![if path == "/health" { 0x82 } else { 0x83 }, 0x86, 0x04];
    block.push(u8::try_from(path.len()).unwrap());
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(&[0x01, 0x01, b'h']);
    block
}

fn script(name: &str) -> Vec<u8> {
    let mut bytes = [PREFACE, &frame(4, 0, 0, &[])].concat();
    let streams = (0..4000_u32).map(|index| index * 2 + 1);
    match name {
        "rapid reset" => {
            for stream in streams {
                bytes.extend(frame(1, 0x5, stream, &block("/health")));
                bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
            }
        }
        "resets that the server makes" => {
            for stream in streams {
                bytes.extend(frame(1, 0x4, stream, &block("/v1/chat/completions")));
                // A window update of nothing is an error of the stream.
                bytes.extend(frame(8, 0, stream, &[0; 4]));
            }
        }
        "continuations" => {
            bytes.extend(frame(1, 0, 1, &block("/health")));
            for _ in 0..20_000 {
                bytes.extend(frame(9, 0, 1, b"\x00\x01a\x01b"));
            }
        }
        "empty continuations" => {
            bytes.extend(frame(1, 0, 1, &block("/health")));
            for _ in 0..50_000 {
                bytes.extend(frame(9, 0, 1, b""));
            }
        }
        "pings" => {
            for _ in 0..50_000 {
                bytes.extend(frame(6, 0, 0, &[0; 8]));
            }
        }
        "settings" => {
            for _ in 0..50_000 {
                bytes.extend(frame(4, 0, 0, b"\x00\x04\x00\x00\xff\xff"));
            }
        }
        "empty data" => {
            bytes.extend(frame(1, 0x4, 1, &block("/v1/chat/completions")));
            for _ in 0..50_000 {
                bytes.extend(frame(0, 0, 1, b""));
            }
        }
        "header bomb" => {
            // One long value, put into the table, then named over and over.
            let mut first = block("/health");
            first.extend_from_slice(b"\x40\x01a\x7f\x81\x1e");
            first.extend(std::iter::repeat_n(b'v', 127 + 0x81 - 0x80 + (0x1e << 7)));
            bytes.extend(frame(1, 0x5, 1, &first));
            for stream in streams.skip(1) {
                let mut again = block("/health");
                again.extend(std::iter::repeat_n(0xbe, 4000));
                bytes.extend(frame(1, 0x5, stream, &again));
            }
        }
        "zero window" => {
            // The client takes nothing of any answer.
            bytes.extend(frame(4, 0, 0, b"\x00\x04\x00\x00\x00\x00"));
            for stream in (0..100_u32).map(|index| index * 2 + 1) {
                bytes.extend(frame(1, 0x5, stream, &block("/health")));
            }
        }
        _ => panic!("{name}"),
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_hurt_nobody_else() {
    let hub = Hub::start(&format!("hub:\n{LISTENER}{ECHO_TARGET}")).await;
    good_requests(&hub, 50).await;
    let before = memory(&hub);
    for name in [
        "rapid reset",
        "resets that the server makes",
        "continuations",
        "empty continuations",
        "pings",
        "settings",
        "empty data",
        "header bomb",
        "zero window",
    ] {
        let bytes = script(name);
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let (bytes, addr) = (bytes.clone(), hub.addr);
            clients.spawn(async move {
                let mut client = RawClient::connect(addr).await.unwrap();
                // The hub may close in the middle of it.
                let sent = tokio::time::timeout(FORGOTTEN, client.send(&bytes)).await;
                let _ = sent;
                client.read_to_end(FORGOTTEN).await.ending
            });
        }
        good_requests(&hub, 30).await;
        for ending in clients.join_all().await {
            assert_ne!(ending, Ending::Deadline, "{name}");
        }
        let now = memory(&hub);
        assert!(
            now < before + 96,
            "{name}: {before} MiB before, {now} MiB now"
        );
    }
    good_requests(&hub, 30).await;
}

#[tokio::test]
async fn who_takes_nothing_of_its_answers_is_cut_however_lively_it_seems() {
    let hub = Hub::start(&format!("hub:\n{LISTENER}{ECHO_TARGET}")).await;
    let mut client = TcpStream::connect(hub.addr).await.unwrap();
    client.write_all(&script("zero window")).await.unwrap();
    let lively = async {
        let mut head = [0; 9];
        while client.read_exact(&mut head).await.is_ok() {
            let [a, b, c, kind, flags, ..] = head;
            let len = u32::from_be_bytes([0, a, b, c]);
            let mut payload = vec![0; usize::try_from(len).unwrap()];
            if client.read_exact(&mut payload).await.is_err() {
                break;
            }
            let answer = match (kind, flags & 1) {
                (4, 0) => frame(4, 1, 0, &[]),
                (6, 0) => frame(6, 1, 0, &payload),
                _ => continue,
            };
            if client.write_all(&answer).await.is_err() {
                break;
            }
        }
    };
    let closed = tokio::time::timeout(FORGOTTEN, lively).await;
    assert!(closed.is_ok(), "the connection is open still");
}

/// Requests behind each other, whose answers have heads and no bodies, from somebody who reads none of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_nobody_reads_do_not_pile_up() {
    const BODY: &str = "transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let hub = Hub::start(&format!(
        "hub:\n{LISTENER}  security:\n    cors: {{origin: 'https://app.example'}}\n{ECHO_TARGET}"
    ))
    .await;
    good_requests(&hub, 50).await;
    let before = memory(&hub);
    let preflight = format!(
        "OPTIONS /v1/models HTTP/1.1\r\nhost: h\r\norigin: https://app.example\r\n\
         access-control-request-method: GET\r\n{BODY}"
    );
    for request in [
        format!("HEAD /health HTTP/1.1\r\nhost: h\r\n{BODY}"),
        preflight,
    ] {
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let (many, addr) = (request.repeat(100_000), hub.addr);
            clients.spawn(async move {
                let mut client = RawClient::connect_narrow(addr).await.unwrap();
                tokio::time::timeout(FORGOTTEN, client.send(&many)).await
            });
        }
        for sent in clients.join_all().await {
            // The hub has closed before it took all.
            assert!(sent.expect("an end").is_err());
        }
        assert!(
            memory(&hub) < before + LEFT,
            "{request:?}: {} MiB",
            memory(&hub)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_streams_survive_sigterm() {
    let gate = Gate::closed();
    let upstream = Upstream::start(Reply::chat_stream(3).gated(&gate));
    let mut hub = Hub::start(&format!(
        "hub:\n  shutdownTimeout: 20000\ntargets:\n  - {{id: up, provider: custom, apiKey: k, endpoint: '{}'}}\n",
        upstream.url("/{path}")
    ))
    .await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = hub.connect().await;
        client.send(Req::chat(true).to_bytes()).await.unwrap();
        clients.push(client);
    }
    upstream.until_requests(200).await;
    hub.process.terminate();
    hub.process.wait_for_line("draining").await;
    gate.open();
    for mut client in clients {
        let answer = client.next_response(PATIENCE).await.unwrap();
        assert!(answer.body_text().ends_with("data: [DONE]\n\n"));
    }
    assert_eq!(hub.process.exit_code().await, 0);
}
