//! Malformed and ambiguous requests, byte by byte: none reaches the upstream as something else than what was sent,
//! and none without credentials.

use std::time::Duration;

use proactions_testkit::{RawClient, Reply, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{ECHO_TARGET, Hub, PATIENCE, Req, TOKEN, TOKEN_AUTH};
use crate::reload::{connect, connector};
use crate::tls::{Pki, yaml};

/// What a case expects of the first answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// This status, in the hub's error shape and with its headers.
    Refused(u16),
    /// Any refusal: another status from 400 on, or the end of the connection.
    NotServed,
    /// It is well-formed, and served.
    Served,
}

use Expect::{NotServed, Refused, Served};

const BODY: &str = r#"{"model":"m","messages":[]}"#;

/// A request without its credentials, which the test adds, and what is expected. `@` stands for the good lines of a
/// chat request: host, credentials and content type.
fn cases() -> Vec<(String, Expect)> {
    let mut cases = Vec::new();
    let mut add = |request: &str, expect| cases.push((request.to_owned(), expect));
    let chat = "POST /v1/chat/completions HTTP/1.1\r\n@";

    // What is good stays good.
    add(&format!("{chat}Content-Length: 27\r\n\r\n{BODY}"), Served);
    add(
        &format!("{chat}Transfer-Encoding: chunked\r\n\r\n1b\r\n{BODY}\r\n0\r\n\r\n"),
        Served,
    );
    add(
        &format!("{chat}Transfer-Encoding: Chunked\r\n\r\n1B;a=b\r\n{BODY}\r\n0\r\nX: y\r\n\r\n"),
        Served,
    );
    add(
        &format!("\r\n{chat}Content-Length: 27\r\n\r\n{BODY}"),
        Served,
    );
    add(
        &format!("{chat}content-length:\t27\t\r\n\r\n{BODY}"),
        Served,
    );
    add(
        &format!(
            "POST http://hub.test/v1/chat/completions HTTP/1.1\r\n@Content-Length: 27\r\n\r\n{BODY}"
        ),
        Served,
    );
    add(
        &format!("POST /v1/chat/completions?a=b HTTP/1.1\r\n@Content-Length: 27\r\n\r\n{BODY}"),
        Served,
    );

    // Two lengths, or a length and a coding.
    for headers in [
        "Content-Length: 27\r\nContent-Length: 27",
        "Content-Length: 27\r\nContent-Length: 5",
        "Content-Length: 27, 27",
        "Content-Length: 27,",
        "Content-Length: +27",
        "Content-Length: -27",
        "Content-Length: 0x1b",
        "Content-Length: 27.0",
        "Content-Length: 2 7",
        "Content-Length: \"27\"",
        "Content-Length:",
        "Content-Length: 27\x0b",
        "Content-Length: 18446744073709551616",
        "Content-Length: 18446744073709551615",
        "Content-Length: 99999999999999999999999999",
        "Content-Length: 27\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 27",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "content-length: 27\r\ntransfer-encoding: identity",
        "Content-Length: 27\r\nTransfer-Encoding:",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding: chun\0ked",
        "Transfer-Encoding:\u{a0}chunked",
        "Transfer-Encoding: cow",
    ] {
        add(&format!("{chat}{headers}\r\n\r\n{BODY}"), Refused(400));
    }
    // Names that are nearly the ones that matter.
    for headers in [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding\x0b: chunked",
        "Transfer\rEncoding: chunked",
        "\"Transfer-Encoding\": chunked",
        "Transfer-Encoding\0: chunked",
        "Transfer Encoding: chunked",
        "Content-Length : 27",
        "Content-Length\0: 27",
        "Content-Length\u{a0}: 27",
        "(Content-Length): 27",
        ": 27",
        "Content-Length",
        "X: y\r\n Content-Length: 27",
        "X: y\r\n\tfolded",
        "X: y\r\n \r\nContent-Length: 27",
        "X: a\0b",
        "X: a\rb",
        "X: a\x7fb",
        "X: \x1b[2J",
        "X: a\x08b",
    ] {
        add(&format!("{chat}{headers}\r\n\r\n{BODY}"), Refused(400));
    }
    add(
        &format!("{chat}Transfer_Encoding: chunked\r\n\r\n{BODY}"),
        NotServed,
    );
    add(
        &format!("{chat}Content_Length: 27\r\n\r\n{BODY}"),
        NotServed,
    );

    // Line ends.
    for request in [
        format!("POST /v1/chat/completions HTTP/1.1\n@Content-Length: 27\r\n\r\n{BODY}"),
        format!("{chat}Content-Length: 27\n\r\n{BODY}"),
        format!("{chat}Content-Length: 27\r\n\n{BODY}"),
        format!("{chat}Content-Length: 27\n\n{BODY}"),
        format!("{chat}X: y\nTransfer-Encoding: chunked\r\n\r\n{BODY}"),
        format!("\n{chat}Content-Length: 27\r\n\r\n{BODY}"),
        format!("{chat}X: y\r\rContent-Length: 27\r\n\r\n{BODY}"),
        format!("{chat}X: y\r\n\rContent-Length: 27\r\n\r\n{BODY}"),
    ] {
        add(&request, Refused(400));
    }

    // Request lines.
    for line in [
        "GET /v1/models",
        "GET  /v1/models HTTP/1.1",
        "GET /v1/models  HTTP/1.1",
        "GET\t/v1/models\tHTTP/1.1",
        " GET /v1/models HTTP/1.1",
        "GET /v1/models HTTP/1.1 ",
        "GET /v1/models HTTP/1.1 x",
        "GET /v1/ models HTTP/1.1",
        "GET /v1/models HTTP/1.2",
        "GET /v1/models HTTP/2.0",
        "GET /v1/models HTTP/0.9",
        "GET /v1/models HTTP/11",
        "GET /v1/models HTTP/1.10",
        "GET /v1/models http/1.1",
        "GET /v1/models HTTP/1,1",
        "GET /v1/models\0 HTTP/1.1",
        "GET /v1/models#f HTTP/1.1",
        "GET /v1/models#/health HTTP/1.1",
        "GET /health#/v1/models HTTP/1.1",
        "GET #/health HTTP/1.1",
        "GET /v1/models\x0b HTTP/1.1",
        "GET /v1/mod\u{e9}ls HTTP/1.1",
        "GET v1/models HTTP/1.1",
        "GET ?x HTTP/1.1",
        "GET * HTTP/1.1",
        "GET http://hub.test@evil.test/v1/models HTTP/1.1",
        "GET http:///v1/models HTTP/1.1",
        "GET http://hub.test:99999/v1/models HTTP/1.1",
        "GET ftp://hub.test/v1/models HTTP/1.1",
        "GET file:///etc/passwd HTTP/1.1",
        "GET //@evil\\ HTTP/1.1",
        "GET / HTTP/1.1 HTTP/1.1",
        "G=T / HTTP/1.1",
        "GE\0T / HTTP/1.1",
        "{}: / HTTP/1.1",
        "GET http://a b/ HTTP/1.1",
    ] {
        let expect = if line.contains("//@evil") {
            NotServed
        } else {
            Refused(400)
        };
        add(&format!("{line}\r\n@\r\n"), expect);
    }

    // Hosts.
    for hosts in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a/b\r\n",
        "Host: a@b\r\n",
        "Host: a b\r\n",
        "Host: a#b\r\n",
        "Host: a\\b\r\n",
        "Host: a,b\u{e9}\r\n",
    ] {
        let request =
            format!("GET /v1/models HTTP/1.1\r\n{hosts}Authorization: Bearer {TOKEN}\r\n\r\n");
        add(&request, Refused(400));
    }

    // HTTP/1.0 has no transfer coding.
    add(
        &format!(
            "POST /v1/chat/completions HTTP/1.0\r\n@Transfer-Encoding: chunked\r\n\r\n1b\r\n{BODY}\r\n0\r\n\r\n"
        ),
        Refused(400),
    );

    // Bodies.
    for chunks in [
        "\r\n{}\r\n0\r\n\r\n",
        ";a\r\n{}\r\n0\r\n\r\n",
        "2 \r\n{}\r\n0\r\n\r\n",
        " 2\r\n{}\r\n0\r\n\r\n",
        "2\t\r\n{}\r\n0\r\n\r\n",
        "+2\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "2_\r\n{}\r\n0\r\n\r\n",
        "g\r\n{}\r\n0\r\n\r\n",
        "2\n{}\r\n0\r\n\r\n",
        "2\r\n{}\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "2\r\n{}}\r\n0\r\n\r\n",
        "2\r\n{}\r\n0\r\n\n",
        "2\r\n{}\r\n0\n\n",
        "2;a\nb\r\n{}\r\n0\r\n\r\n",
        "2;a\0\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}\r\n0\r\n folded: x\r\n\r\n",
        "2\r\n{}\r\n0\r\nX: y\n\r\n",
        "2\r\r\n{}\r\n0\r\n\r\n",
        "2\rX{}\r\n0\r\n\r\n",
        "10000000000000002\r\n{}\r\n0\r\n\r\n",
        "ffffffffffffffff1\r\n{}\r\n0\r\n\r\n",
        "00000000000000000002\r\n{}\r\n0\r\n\r\n",
    ] {
        add(
            &format!("{chat}Transfer-Encoding: chunked\r\n\r\n{chunks}"),
            NotServed,
        );
    }

    // Methods and upgrades.
    add("CONNECT hub.test:443 HTTP/1.1\r\n@\r\n", NotServed);
    add("CONNECT / HTTP/1.1\r\n@\r\n", NotServed);
    add("TRACE /v1/models HTTP/1.1\r\n@\r\n", NotServed);
    add("OPTIONS * HTTP/1.1\r\n@\r\n", NotServed);
    add(
        "GET /nothing HTTP/1.1\r\n@Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        NotServed,
    );
    add("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", NotServed);
    add("PRI * HTTP/1.1\r\n@\r\n", NotServed);
    cases
}

fn smuggled() -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: hub.test\r\nX-Smuggled: 1\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    )
}

#[tokio::test]
async fn nothing_gets_through_that_was_not_sent_and_allowed() {
    let upstream = Upstream::start(Reply::chat("hi"));
    let hub = Hub::start(&format!(
        "hub:\n  listener: {{bodyFrameTimeout: 300, headerTimeout: 300, idleTimeout: 300}}\n{TOKEN_AUTH}\ntargets:\n  \
         - {{id: up, provider: custom, apiKey: k, endpoint: '{}'}}\n",
        upstream.url("/{path}")
    ))
    .await;
    let good = format!(
        "Host: hub.test\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
    );
    let cases = cases();
    assert!(cases.len() >= 120, "{}", cases.len());
    let mut wrong = Vec::new();
    for (request, expect) in &cases {
        let before = upstream.request_count();
        // What would be smuggled follows, without credentials.
        let bytes = format!("{}{}", request.replace('@', &good), smuggled());
        let bytes = if request.contains("//@evil")
            || request.contains("a@b")
            || request.contains("test@evil")
        {
            format!("{request}{}", smuggled()).replace("\r\n@\r\n", &format!("\r\n{good}\r\n"))
        } else {
            bytes
        };
        let bytes = latin1(&bytes);
        let seen = RawClient::exchange(hub.addr, bytes, Duration::from_secs(5))
            .await
            .unwrap();
        let answers = seen.responses();
        let first = answers.first();
        let status = first.map_or(0, |answer| answer.status);
        let as_expected = match expect {
            Served => status == 200,
            NotServed => status == 0 || status >= 400,
            Refused(wanted) => {
                status == *wanted
                    && answers.len() == 1
                    && first.is_some_and(|answer| {
                        answer.json()["statusCode"] == *wanted
                            && answer.header("x-content-type-options").is_some()
                            && answer.header("connection") == Some("close")
                    })
            }
        };
        let forwarded = upstream.request_count() - before;
        let allowed = usize::from(*expect == Served);
        let ended = seen.ending != proactions_testkit::Ending::Deadline;
        if !as_expected || !ended || forwarded > allowed {
            wrong.push(format!(
                "{request:?} {expect:?}: {forwarded} forwarded, {}",
                seen.text()
            ));
        }
        if answers.iter().skip(1).any(|answer| answer.status < 400) {
            wrong.push(format!(
                "{request:?}: the second was served: {}",
                seen.text()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    for request in upstream.requests() {
        assert_eq!(request.header("x-smuggled"), None);
    }
    assert!(hub.output().contains("\"malformed_request\""));
}

/// Each character as one byte.
fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect()
}

/// The same requests in pieces are the same requests.
#[tokio::test]
async fn pipelined_and_cut_requests_are_answered_in_order() {
    let upstream = Upstream::start(Reply::chat("hi"));
    let hub = Hub::start(&format!(
        "{TOKEN_AUTH}\ntargets:\n  - {{id: up, provider: custom, apiKey: k, endpoint: '{}'}}\n",
        upstream.url("/{path}")
    ))
    .await;
    let good =
        format!("Host: h\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
    let bytes = [
        "GET /health HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        format!("POST /v1/chat/completions HTTP/1.1\r\n{good}Content-Length: 27\r\n\r\n{BODY}"),
        format!("POST /v1/chat/completions HTTP/1.1\r\n{good}Transfer-Encoding: chunked\r\n\r\n5;x=y\r\n{}\r\n16\r\n{}\r\n0\r\nT: v\r\n\r\n", &BODY[..5], &BODY[5..]),
        "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        "GET /health#x HTTP/1.1\r\nHost: h\r\n\r\nGET /health HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
    ]
    .concat();
    for piece in [1, 2, 3, 7, 64, 100_000] {
        let before = upstream.request_count();
        let mut client = hub.connect().await;
        for part in bytes.as_bytes().chunks(piece) {
            if client.send(part).await.is_err() {
                break;
            }
        }
        let seen = client.read_to_end(Duration::from_secs(10)).await;
        let statuses: Vec<_> = seen
            .responses()
            .iter()
            .map(|answer| answer.status)
            .collect();
        assert_eq!(
            statuses,
            [200, 200, 200, 401, 400],
            "{piece}: {}",
            seen.text()
        );
        assert_eq!(upstream.request_count() - before, 2);
    }
}

#[tokio::test]
async fn a_bad_chunk_behind_its_head_is_answered_and_told() {
    let mut hub = Hub::start(&format!("hub: {{}}\n{TOKEN_AUTH}")).await;
    let good = format!("Host: h\r\nAuthorization: Bearer {TOKEN}\r\n");
    let bytes = format!(
        "GET /health HTTP/1.1\r\nHost: h\r\n\r\n\
         POST /v1/chat/completions HTTP/1.1\r\n{good}Content-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}X\r\n"
    );
    let seen = RawClient::exchange(hub.addr, bytes, PATIENCE)
        .await
        .unwrap();
    let answers = seen.responses();
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 400], "{}", seen.text());
    assert_eq!(answers[1].json()["statusCode"], 400);
    let line = hub.process.wait_for_line("malformed_request").await;
    assert!(line.contains("\"reason\":\"chunk\""), "{line}");
}

#[tokio::test]
async fn who_agreed_on_http2_cannot_speak_http1() {
    let pki = Pki::new();
    pki.install("hub", &pki.server("hub"));
    let mut hub = Hub::start(&yaml(&pki, "hub", "")).await;
    let request =
        b"GET /health#x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
    for (alpn, said) in [("h2", ""), ("http/1.1", "HTTP/1.1 400")] {
        let mut stream = connect(&connector(&pki, alpn), hub.addr).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(PATIENCE, read).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with(said) && answer.is_empty() == said.is_empty(),
            "{alpn}: {answer}"
        );
    }
    let line = hub.process.wait_for_line("\"reason\":\"preface\"").await;
    assert!(line.contains("malformed_request"), "{line}");
}

#[tokio::test]
async fn a_page_has_no_say_where_nobody_is_asked_for_credentials() {
    let hub = Hub::start(ECHO_TARGET).await;
    let from = |host: &str, headers: &[(&str, &str)]| {
        let mut request = Req::chat(false).header("host", host);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request
    };
    for (host, headers, status) in [
        ("localhost", &[][..], 200),
        ("hub.internal", &[], 200),
        ("localhost", &[("origin", "http://evil.example")], 403),
        // The page's own name was made to lead here.
        ("evil.example", &[("origin", "http://evil.example")], 403),
        ("localhost", &[("sec-fetch-site", "cross-site")], 403),
    ] {
        let answer = hub.send(&from(host, headers)).await;
        assert_eq!(answer.status, status, "{host} {headers:?}");
    }
    // Whom CORS lets in may act.
    let cors = "hub: {security: {cors: {origin: 'http://localhost:5173'}}}";
    let hub = Hub::start(&format!("{cors}\n{ECHO_TARGET}")).await;
    let page = [
        ("origin", "http://localhost:5173"),
        ("sec-fetch-site", "same-site"),
    ];
    assert_eq!(hub.send(&from("localhost", &page)).await.status, 200);
    let other = [
        ("origin", "http://localhost:5174"),
        ("sec-fetch-site", "same-site"),
    ];
    assert_eq!(hub.send(&from("localhost", &other)).await.status, 403);
}

#[tokio::test]
async fn heads_that_are_too_large_are_told_which_part_is() {
    let hub = Hub::start("hub: {}\n").await;
    let long = "a".repeat(200_000);
    for (request, status) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"), 414),
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n"),
            431,
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\n{}: x\r\n\r\n",
                &long[..66_000]
            ),
            431,
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
                "X: y\r\n".repeat(500)
            ),
            431,
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
                "X: y\r\n".repeat(150)
            ),
            431,
        ),
    ] {
        let answer = hub.raw(request).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.json()["statusCode"], status);
        assert!(answer.header("x-content-type-options").is_some());
    }
}
