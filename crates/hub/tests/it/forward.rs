//! `/proxy/forward/{id}`: what a client can make of it, and what it cannot.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proactions_testkit::{RawClient, Reply, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Hub, PATIENCE, Req, TOKEN, TOKEN_AUTH, cookie_of};

/// A configuration with one proxy, whose options are these.
fn config(url: &str, options: &str) -> String {
    format!("proxies:\n  - {{id: up, url: '{url}', options: {{{options}}}}}\n{TOKEN_AUTH}")
}

#[tokio::test]
async fn a_request_goes_out_clean_and_its_answer_comes_back_clean() {
    let upstream = Upstream::start(
        Reply::bytes(200, "text/plain", "hello")
            .with_header("server", "leaky/1.0")
            .with_header("x-powered-by", "leaky")
            .with_header("set-cookie", "upstream=1")
            .with_header("x-frame-options", "ALLOWALL")
            .with_header("access-control-allow-origin", "*")
            .with_header("x-own", "kept"),
    );
    let options = "headers: {X-Api-Key: upstream-key}, xfwd: true";
    let mut hub = Hub::start(&config(&upstream.url("/api"), options)).await;
    let request = Req::new("PATCH", "/proxy/forward/up/items%2F7;v=1?full=1")
        .bearer()
        .header("cookie", "proactions_session=abc; other=1")
        .header(
            "connection",
            "close, X-Forwarded-For, x-api-key, authorization, X-Drop",
        )
        .header("x-drop", "1")
        .header("x-api-key", "from the client")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-host", "evil.test")
        .header("x-hub-user", "admin")
        .header("x-original-url", "/admin")
        .header("upgrade", "h2c")
        .body("text/plain", "body");
    let answer = hub.send(&request).await;
    assert_eq!((answer.status, answer.body_text().as_str()), (200, "hello"));
    for name in ["server", "x-powered-by", "access-control-allow-origin"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header("x-own"), Some("kept"));
    assert_eq!(
        answer.header_all("x-frame-options").collect::<Vec<_>>(),
        ["SAMEORIGIN"]
    );
    assert!(
        !answer
            .header_all("set-cookie")
            .any(|set| set.contains("upstream"))
    );
    assert!(cookie_of(&answer).starts_with("proactions_session="));

    let received = upstream.last_request();
    assert_eq!(received.method, "PATCH");
    assert_eq!(received.target, "/api/items%2F7;v=1?full=1");
    assert_eq!(received.body, "body");
    let told = |name| received.header(name);
    assert_eq!(told("host").unwrap(), upstream.addr().to_string());
    assert_eq!(told("x-api-key"), Some("upstream-key"));
    assert_eq!(told("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(told("x-forwarded-proto"), Some("http"));
    assert_eq!(told("x-forwarded-host"), Some("hub.test"));
    assert_eq!(told("x-request-id"), answer.header("x-request-id"));
    for name in [
        "authorization",
        "cookie",
        "connection",
        "upgrade",
        "x-drop",
        "x-hub-user",
        "x-original-url",
    ] {
        assert_eq!(told(name), None, "{name}");
    }

    let line = hub.process.wait_for_line("\"module\":\"proxy\"").await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["proxy"], "up");
    assert_eq!(line["upstreamStatus"], 200);
    assert_eq!(line["bytesReceived"], 4);
    assert_eq!(line["bytesSent"], 5);
    assert_eq!(line["outcome"], "complete");
    assert_eq!(line["requestId"], answer.header("x-request-id").unwrap());
    assert_eq!(line["username"], "token-1");
    assert!(line["duration"].is_u64());
    hub.stop().await;
    let output = hub.output();
    assert!(!output.contains("upstream-key") && !output.contains(TOKEN));
}

#[tokio::test]
async fn nobody_passes_without_credentials() {
    let upstream = Upstream::start(Reply::new(200));
    let hub = Hub::start(&config(&upstream.url("/"), "ws: true")).await;
    for path in [
        "/proxy/forward/up",
        "/proxy/forward/up/",
        "/proxy/forward/up/x",
        "/proxy/forward/no",
    ] {
        assert_eq!(hub.send(&Req::get(path)).await.status, 401, "{path}");
        assert_eq!(hub.send(&websocket(path)).await.status, 401, "{path}");
    }
    for (path, status) in [
        ("/proxy/forward/no", 404),
        ("/proxy/forward/UP/x", 404),
        ("/proxy/forward", 404),
    ] {
        assert_eq!(
            hub.send(&Req::get(path).bearer()).await.status,
            status,
            "{path}"
        );
    }
    for method in ["CONNECT", "TRACE"] {
        let request = Req::new(method, "/proxy/forward/up").bearer();
        assert!(
            matches!(hub.send(&request).await.status, 400 | 405),
            "{method}"
        );
    }
    assert_eq!(upstream.request_count(), 0);
}

/// Every route that leads to an upstream; that of uploads is tried in `youtube.rs`, as it needs an account.
const ROUTES: [(&str, &str); 12] = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/audio/speech"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/audio/translations"),
    ("GET", "/v1/models"),
    ("GET", "/proxy/forward/up"),
    ("POST", "/proxy/forward/up/x"),
    ("GET", "/proxy/forward/host"),
];

/// What a client may append to a path to lead elsewhere; `EVIL` stands for another host and its port.
pub(crate) const TAILS: [&str; 36] = [
    "",
    "@EVIL",
    "@EVIL/",
    ":80@EVIL/",
    "#@EVIL",
    "?@EVIL",
    "?url=http://EVIL/",
    "/@EVIL/x",
    "/#/EVIL",
    "/?host=EVIL",
    "//EVIL/x",
    "///EVIL",
    "/\\EVIL",
    "/\\\\EVIL/",
    "/http://EVIL/x",
    "/..",
    "/..//EVIL/",
    "/../EVIL",
    "/../../EVIL",
    "/%2e%2e/EVIL",
    "/.%2e/EVIL",
    "/%2e%2e%2fEVIL",
    "/%252e%252e/EVIL",
    "/..;/EVIL",
    "/%2f%2fEVIL",
    "/%5c%5cEVIL",
    "/%40EVIL",
    "/%23EVIL",
    "/%3fEVIL",
    "/%0d%0aHost:%20EVIL",
    "/%00EVIL",
    "/x%0aEVIL",
    ".EVIL",
    "%2eEVIL",
    "%2f..%2fEVIL",
    ";EVIL",
];

/// Header fields by which a client may try the same.
pub(crate) const CLAIMS: [(&str, &str); 28] = [
    ("host", "EVIL"),
    ("host", "user@EVIL"),
    ("host", "good.test@EVIL"),
    ("host", "EVIL/path?x#y"),
    ("x-forwarded-host", "EVIL"),
    ("x-forwarded-server", "EVIL"),
    ("x-host", "EVIL"),
    ("forwarded", "host=EVIL"),
    ("x-original-url", "http://EVIL/"),
    ("x-rewrite-url", "http://EVIL/"),
    ("x-forwarded-uri", "http://EVIL/"),
    ("x-forwarded-prefix", "//EVIL"),
    ("destination", "http://EVIL/"),
    ("x-target", "EVIL"),
    ("x-target", "one@EVIL"),
    ("x-target", "one#EVIL"),
    ("x-target", "one?EVIL"),
    ("x-target", "../EVIL"),
    ("x-target", "one/../EVIL"),
    ("x-target", "http://EVIL"),
    ("x-target", "one\tEVIL"),
    ("x-target", "\u{ff}\u{fe}"),
    ("x-target", "one, EVIL"),
    ("x-target", "%6fne"),
    ("x-target", ""),
    ("x-portkey-custom-host", "http://EVIL/v1"),
    ("x-portkey-provider", "EVIL"),
    ("api-base", "http://EVIL"),
];

/// Bytes in `x-target` that are no text at all, some of which a header may not hold.
pub(crate) const ODD_BYTES: [&[u8]; 8] = [
    b"one\x80",
    b"\xff\xfe\xfd",
    b"\xc0\xae\xc0\xae/EVIL",
    b"one\x00@EVIL",
    b"one\rhost: EVIL",
    b"one\r\n host: EVIL",
    b"\x7fEVIL",
    b"one\x0bEVIL",
];

/// `EVIL` in these bytes becomes another host.
pub(crate) fn with_host(bytes: &[u8], at: &str) -> Vec<u8> {
    match bytes.windows(4).position(|part| part == b"EVIL") {
        Some(found) => [&bytes[..found], at.as_bytes(), &bytes[found + 4..]].concat(),
        None => bytes.to_vec(),
    }
}

/// Whatever a client sends, and on whichever route, the upstream's host stays the configured one.
#[tokio::test]
async fn no_client_chooses_the_upstream() {
    let good = Upstream::start(Reply::bytes(200, "application/json", "{}"));
    let evil = Upstream::start(Reply::new(200));
    let yaml = format!(
        "targets:
  - {{id: one, provider: custom, apiKey: k, endpoint: '{}'}}
  - {{id: two, provider: openai, apiKey: k, endpoint: '{}'}}
proxies:
  - {{id: up, url: '{}', options: {{ws: true, followRedirects: true, xfwd: true}}}}
  - {{id: host, url: '{}', options: {{changeOrigin: false}}}}
{TOKEN_AUTH}",
        good.url("/v1/{path}"),
        good.url("/v1"),
        good.url("/base"),
        good.url("/base"),
    );
    let hub = Hub::start(&yaml).await;
    let at = evil.addr().to_string();
    let chat = r#"{"model":"m","messages":[],"api_base":"http://EVIL","base_url":"http://EVIL"}"#;
    let body = |route: &str, request: Req| match route {
        "/v1/audio/transcriptions" | "/v1/audio/translations" => {
            let form = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nhttp://EVIL/\r\n--b--\r\n";
            request.body("multipart/form-data; boundary=b", form.replace("EVIL", &at))
        }
        _ => request.body("application/json", chat.replace("EVIL", &at)),
    };
    let mut answered = std::collections::HashMap::new();
    for (method, route) in ROUTES {
        for tail in TAILS {
            let path = format!("{route}{}", tail.replace("EVIL", &at));
            for target in [
                format!("http://{at}{path}"),
                format!("https://user:pass@{at}{path}"),
                format!("//{at}{path}"),
                path.clone(),
            ] {
                let other = if method == "GET" { "POST" } else { "GET" };
                for method in [method, other] {
                    let request = Req::new(method, &target).bearer().header("x-target", "one");
                    let bytes = close(&body(route, request));
                    let transcript = RawClient::exchange(hub.addr, bytes, PATIENCE)
                        .await
                        .unwrap();
                    for answer in transcript.responses() {
                        *answered.entry((route, answer.status)).or_insert(0) += 1;
                    }
                }
            }
        }
        for (name, value) in CLAIMS {
            let value = value.replace("EVIL", &at);
            let request = Req::new(method, route).bearer().header(name, &value);
            let bytes = close(&body(route, request));
            RawClient::exchange(hub.addr, bytes, PATIENCE)
                .await
                .unwrap();
        }
        for bytes in ODD_BYTES {
            let request = Req::new(method, route).bearer().header("x-target", "ODD");
            let request = close(&body(route, request));
            let place = request.windows(3).position(|part| part == b"ODD").unwrap();
            let odd = with_host(bytes, &at);
            let bytes = [&request[..place], &odd, &request[place + 3..]].concat();
            RawClient::exchange(hub.addr, bytes, PATIENCE)
                .await
                .unwrap();
        }
        // Two hosts, and a host beside an absolute form.
        for target in [route.to_owned(), format!("http://{at}{route}")] {
            let request = Req::new(method, &target)
                .bearer()
                .header("host", "hub.test")
                .header("host", &at);
            RawClient::exchange(hub.addr, close(&request), PATIENCE)
                .await
                .unwrap();
        }
    }
    // Each route was really served, and really refused something.
    for (_, route) in ROUTES {
        let count = |statuses: &[u16]| -> usize {
            let of = |status: &u16| answered.get(&(route, *status)).copied().unwrap_or(0);
            statuses.iter().map(of).sum()
        };
        assert!(
            count(&[200]) > 0 && count(&[400, 404]) > 0,
            "{route}: {answered:?}"
        );
    }
    assert_eq!(evil.connections().len(), 0);
    let own = good.addr().to_string();
    assert!(good.request_count() > 50, "{}", good.request_count());
    for received in good.requests() {
        // Where `changeOrigin` is off, the client's host is what the operator asked for.
        assert!(
            received.header("host") == Some(&own) || received.target.starts_with("/base"),
            "{received:?}"
        );
        assert!(
            !received.path().split('/').any(|segment| segment == ".."),
            "{received:?}"
        );
        assert!(received.target.starts_with("/base") || received.target.starts_with("/v1/"));
    }
    assert_eq!(hub.send(&Req::get("/health")).await.status, 200);
}

fn close(request: &Req) -> Vec<u8> {
    request.clone().header("connection", "close").to_bytes()
}

#[tokio::test]
async fn redirects_are_followed_within_their_origin_only() {
    let inside = Upstream::start(Reply::bytes(200, "text/plain", "inside"));
    let location = inside.url("/secret");
    let upstream = Upstream::serve(move |received| match received.path() {
        "/a" => Reply::redirect(302, "/b"),
        "/out" => Reply::redirect(302, &location),
        _ => Reply::bytes(200, "text/plain", "done"),
    });
    let options = "followRedirects: true, headers: {Authorization: Bearer upstream-secret}";
    let mut hub = Hub::start(&config(&upstream.url("/"), options)).await;
    let answer = hub.send(&Req::get("/proxy/forward/up/a").bearer()).await;
    assert_eq!((answer.status, answer.body_text().as_str()), (200, "done"));
    let last = upstream.last_request();
    assert_eq!(last.header("authorization"), Some("Bearer upstream-secret"));

    let answer = hub.send(&Req::get("/proxy/forward/up/out").bearer()).await;
    assert_eq!(answer.status, 502);
    assert_eq!(inside.connections().len(), 0);
    let event = hub.process.wait_for_line("egress_refused").await;
    assert!(event.contains("\"module\":\"security\""), "{event}");
    assert!(
        event.contains(answer.header("x-request-id").unwrap()),
        "{event}"
    );
}

#[tokio::test]
async fn the_egress_rules_hold_for_targets_too() {
    let upstream = Upstream::start(Reply::chat("hi"));
    let yaml = |rules: &str| {
        format!(
            "hub: {{egress: {{{rules}}}}}\ntargets:\n  - {{id: t, provider: custom, apiKey: k, endpoint: '{}'}}\n{}",
            upstream.url("/v1/{path}"),
            config(&upstream.url("/"), ""),
        )
    };
    for rules in ["denyPrivate: true", "allowHosts: [api.example.com]"] {
        let mut hub = Hub::start(&yaml(rules)).await;
        assert_eq!(
            hub.send(&Req::chat(false).bearer()).await.status,
            502,
            "{rules}"
        );
        let answer = hub.send(&Req::get("/proxy/forward/up/x").bearer()).await;
        assert_eq!(answer.status, 502, "{rules}");
        assert!(!answer.body_text().contains("127.0.0.1"));
        hub.process.wait_for_lines("egress_refused", 2).await;
    }
    assert_eq!(upstream.connections().len(), 0);
    let hub = Hub::start(&yaml("allowHosts: [127.0.0.1]")).await;
    assert_eq!(hub.send(&Req::chat(false).bearer()).await.status, 200);
}

#[tokio::test]
async fn large_bodies_pass_in_constant_memory() {
    const SIZE: usize = 64 * 1024 * 1024;
    let upstream = Upstream::builder()
        .answer_before_body()
        .recording_at_most(0)
        .start(Reply::echo_body());
    let hub = Hub::start(&config(&upstream.url("/"), "")).await;
    // Warm: the first request allocates what stays.
    hub.send(
        &Req::post("/proxy/forward/up")
            .bearer()
            .body("application/octet-stream", "x"),
    )
    .await;
    let before = resident(&hub);
    let head = format!(
        "POST /proxy/forward/up HTTP/1.1\r\nhost: hub.test\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/octet-stream\r\ncontent-length: {SIZE}\r\nconnection: close\r\n\r\n"
    );
    let mut stream = TcpStream::connect(hub.addr).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let part = vec![b'z'; 64 * 1024];
    let send = async {
        for _ in 0..SIZE / part.len() {
            write.write_all(&part).await.unwrap();
        }
    };
    let receive = async {
        let (mut all, mut most) = (0, 0);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let len = read.read(&mut buffer).await.unwrap();
            if len == 0 {
                return (all, most);
            }
            all += buffer[..len].iter().filter(|b| **b == b'z').count();
            most = most.max(resident(&hub));
        }
    };
    let ((), (all, most)) = tokio::join!(send, receive);
    // The head holds a letter z or two.
    assert!((SIZE..SIZE + 64).contains(&all), "{all}");
    assert!(
        most.saturating_sub(before) < 20 * 1024,
        "{before} kB became {most} kB"
    );
}

/// The memory of the hub, in kB.
fn resident(hub: &Hub) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", hub.process.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn websocket(path: &str) -> Req {
    Req::get(path)
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "chat, superchat")
        .header("sec-websocket-extensions", "permessage-deflate")
}

/// A server that answers each request with these bytes, and sends back whatever comes after it.
struct Socket {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    open: Arc<Mutex<usize>>,
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\nServer: leaky\r\n\r\n";

impl Socket {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = Self {
            addr: listener.local_addr().unwrap(),
            heads: Arc::default(),
            open: Arc::default(),
        };
        let (heads, open) = (Arc::clone(&socket.heads), Arc::clone(&socket.open));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (heads, open) = (Arc::clone(&heads), Arc::clone(&open));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.ok()?);
                    }
                    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
                    // A client that does not wait for the answer has sent more by now.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    let mut early = [0; 64];
                    let early = stream.try_read(&mut early).unwrap_or(0);
                    assert_eq!(early, 0, "bytes before the answer");
                    *open.lock().unwrap() += 1;
                    stream.write_all(answer.as_bytes()).await.ok()?;
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                    *open.lock().unwrap() -= 1;
                    Some(())
                });
            }
        });
        socket
    }

    fn url(&self) -> String {
        format!("http://{}/ws", self.addr)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    async fn until_closed(&self) {
        let closed = async {
            while *self.open.lock().unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, closed)
            .await
            .expect("the tunnel is closed");
    }
}

async fn opened(hub: &Hub) -> RawClient {
    let mut client = hub.connect().await;
    let request = websocket("/proxy/forward/up/room?x=1").bearer();
    client.send(request.to_bytes()).await.unwrap();
    let answer = client.next_head(PATIENCE).await.unwrap();
    assert_eq!(answer.status, 101, "{answer:?}");
    client
}

#[tokio::test]
async fn a_websocket_passes_both_ways() {
    let upstream = Socket::start(SWITCH).await;
    let mut hub = Hub::start(&config(&upstream.url(), "ws: true")).await;
    let mut client = hub.connect().await;
    let request = websocket("/proxy/forward/up/room?x=1")
        .bearer()
        .header("cookie", "a=b");
    client.send(request.to_bytes()).await.unwrap();
    let answer = client.next_head(PATIENCE).await.unwrap();
    assert_eq!(answer.status, 101);
    assert!(
        answer
            .header("upgrade")
            .unwrap()
            .eq_ignore_ascii_case("websocket")
    );
    assert!(
        answer
            .header("connection")
            .unwrap()
            .eq_ignore_ascii_case("upgrade")
    );
    assert_eq!(answer.header("sec-websocket-protocol"), Some("chat"));
    assert_eq!(
        answer.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(answer.header("server"), None);
    for part in ["\u{1}first", "GET /health HTTP/1.1\r\n\r\n", "last"] {
        client.send(part).await.unwrap();
        client.read_until(part, PATIENCE).await.unwrap();
    }
    // More than any buffer on the way holds.
    let big = "w".repeat(65_536);
    for _ in 0..2 {
        client.send(&big).await.unwrap();
        client.read_until(&big, PATIENCE).await.unwrap();
    }
    drop(client);
    upstream.until_closed().await;

    let head = &upstream.heads()[0].to_ascii_lowercase();
    assert!(head.starts_with("get /ws/room?x=1 http/1.1\r\n"), "{head}");
    for line in [
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "sec-websocket-key: dghlihnhbxbszsbub25jzq==\r\n",
        "sec-websocket-protocol: chat, superchat\r\n",
        "sec-websocket-extensions: permessage-deflate\r\n",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(
        !head.contains("authorization") && !head.contains("cookie"),
        "{head}"
    );
    let line = hub.process.wait_for_line("\"module\":\"proxy\"").await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["statusCode"], 101);
    assert_eq!(line["bytesSent"], line["bytesReceived"]);
    assert!(line["bytesSent"].as_u64().unwrap() > 2 * 65_536);
}

#[tokio::test]
async fn without_ws_an_upgrade_is_an_ordinary_request() {
    let upstream = Upstream::start(Reply::bytes(200, "text/plain", "plain"));
    let hub = Hub::start(&config(&upstream.url("/"), "")).await;
    let answer = hub.send(&websocket("/proxy/forward/up").bearer()).await;
    assert_eq!((answer.status, answer.body_text().as_str()), (200, "plain"));
    assert_eq!(upstream.last_request().header("upgrade"), None);
    assert_eq!(upstream.last_request().header("connection"), None);

    // An upstream that switches although nobody asked is an upstream that failed.
    let upstream = Socket::start(SWITCH).await;
    let hub = Hub::start(&config(&upstream.url(), "")).await;
    assert_eq!(
        hub.send(&websocket("/proxy/forward/up").bearer())
            .await
            .status,
        502
    );
}

#[tokio::test]
async fn nothing_slips_past_an_upgrade_that_was_not_granted() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno",
        "HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n",
    ] {
        let upstream = Socket::start(answer).await;
        let hub = Hub::start(&config(&upstream.url(), "ws: true")).await;
        let mut client = hub.connect().await;
        // The second request is sent before the first is answered. It has no credentials.
        let hidden = Req::get("/proxy/forward/up/hidden").to_bytes();
        let mut both = websocket("/proxy/forward/up/room").bearer().to_bytes();
        both.extend_from_slice(&hidden);
        client.send(both).await.unwrap();
        let first = client.next_response(PATIENCE).await.unwrap();
        assert_ne!(first.status, 101);
        if let Ok(second) = client.next_response(Duration::from_secs(2)).await {
            assert!(matches!(second.status, 400 | 401), "{second:?}");
        }
        assert_eq!(upstream.heads().len(), 1, "{:?}", upstream.heads());
    }
}

#[tokio::test]
async fn bytes_wait_for_the_upstreams_answer() {
    // The upstream's task fails, and sends nothing, if a byte comes before it has answered.
    let upstream = Socket::start(SWITCH).await;
    let hub = Hub::start(&config(&upstream.url(), "ws: true")).await;
    let mut client = hub.connect().await;
    let mut bytes = websocket("/proxy/forward/up").bearer().to_bytes();
    bytes.extend_from_slice(b"GET /early HTTP/1.1\r\nhost: x\r\n\r\n");
    client.send(bytes).await.unwrap();
    assert_eq!(client.next_head(PATIENCE).await.unwrap().status, 101);
    client.read_until("GET /early", PATIENCE).await.unwrap();
    assert_eq!(upstream.heads().len(), 1);
}

#[tokio::test]
async fn an_upgrade_from_another_site_is_refused() {
    let upstream = Socket::start(SWITCH).await;
    let hub = Hub::start(&config(&upstream.url(), "ws: true")).await;
    let entered = hub.send(&Req::get("/auth/session").bearer()).await;
    let cookie = cookie_of(&entered);
    for (name, value, status) in [
        ("origin", "https://evil.test", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("origin", "http://hub.test", 101),
    ] {
        let request = websocket("/proxy/forward/up")
            .header("cookie", &cookie)
            .header(name, value);
        let mut client = hub.connect().await;
        client.send(request.to_bytes()).await.unwrap();
        assert_eq!(
            client.next_head(PATIENCE).await.unwrap().status,
            status,
            "{name}: {value}"
        );
    }
}

#[tokio::test]
async fn a_silent_tunnel_is_closed() {
    let upstream = Socket::start(SWITCH).await;
    let mut hub = Hub::start(&config(&upstream.url(), "ws: true, proxyTimeout: 400")).await;
    let mut client = opened(&hub).await;
    client.send("ping").await.unwrap();
    client.read_until("ping", PATIENCE).await.unwrap();
    let rest = client.read_to_end(PATIENCE).await;
    assert!(rest.bytes.is_empty());
    upstream.until_closed().await;
    let line = hub.process.wait_for_line("\"module\":\"proxy\"").await;
    assert!(line.contains("\"outcome\":\"idle\""), "{line}");
}

#[tokio::test]
async fn tunnels_count_as_connections_and_get_the_grace_period() {
    let upstream = Socket::start(SWITCH).await;
    let yaml = |grace: u32| {
        let hub = format!(
            "hub: {{shutdownTimeout: {grace}, listener: {{maxConnections: 2, maxConnectionsPerAddress: 2}}}}\n"
        );
        hub + &config(&upstream.url(), "ws: true")
    };
    let mut hub = Hub::start(&yaml(15_000)).await;
    let (first, mut second) = (opened(&hub).await, opened(&hub).await);
    // Both places are taken, although the tunnels are no requests any more.
    let mut third = hub.connect().await;
    let _ = third.send(Req::get("/health").to_bytes()).await;
    assert!(third.next_response(PATIENCE).await.is_err());
    hub.process.terminate();
    hub.process.wait_for_line("draining").await;
    second.send("still here").await.unwrap();
    second.read_until("still here", PATIENCE).await.unwrap();
    drop((first, second));
    assert_eq!(hub.process.exit_code().await, 0);

    let mut hub = Hub::start(&yaml(300)).await;
    let _open = opened(&hub).await;
    assert_eq!(hub.stop().await, 1);
    assert!(hub.output().contains("\"cut\":1"), "{}", hub.output());
}
