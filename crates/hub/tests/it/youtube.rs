//! Consent at Google and uploads to YouTube, through the whole hub.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use proactions_testkit::{Google, GoogleFault, RawClient, Reply, Upstream};

use crate::forward::{CLAIMS, ODD_BYTES, TAILS, with_host};
use crate::harness::{ECHO_TARGET, Hub, PATIENCE, Req, TOKEN, TOKEN_AUTH, cookie_of};

const REDIRECT: &str = "https://hub.test/youtube/auth/google/callback";
const CLIENT_SECRET: &str = "youtube-client-secret-canary";
const VIDEO: u64 = 2 << 30;

struct Fixture {
    google: Google,
    hub: Hub,
    _folder: tempfile::TempDir,
    tokens: std::path::PathBuf,
}

async fn start() -> Fixture {
    let google = Google::start("client", CLIENT_SECRET, REDIRECT);
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    let yaml = format!(
        "hub:\n  security: {{limits: {{other: 3gb}}}}\nyoutube:\n  token_storage_path: {}\n  endpoints: {}\n  accounts:\n    - id: main\n      \
         client_id: client\n      client_secret: {CLIENT_SECRET}\n      redirect_uri: {REDIRECT}\n\
         {TOKEN_AUTH}{ECHO_TARGET}",
        tokens.display(),
        google.endpoints(),
    );
    let hub = Hub::start(&yaml).await;
    Fixture {
        google,
        hub,
        _folder: folder,
        tokens,
    }
}

impl Fixture {
    async fn connect(&self) {
        let begun = self
            .hub
            .send(&Req::get("/youtube/auth/google").bearer())
            .await;
        assert_eq!(begun.status, 200, "{}", begun.body_text());
        let cookie = begun
            .header_all("set-cookie")
            .find(|cookie| cookie.starts_with("proactions_oauth="))
            .unwrap();
        assert!(
            cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"),
            "{cookie}"
        );
        // The session's own cookie is Strict: the browser would not send it with the callback.
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let url = begun.json()["authUrl"].as_str().unwrap().to_owned();
        let back = self.google.consent(&url);
        let path = back.strip_prefix("https://hub.test").unwrap();
        let answer = self
            .hub
            .send(
                &Req::get(path)
                    .header("cookie", &cookie)
                    .header("accept", "text/html"),
            )
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        assert!(answer.body_text().contains("<h1>Connected</h1>"));
        assert_eq!(
            self.hub
                .send(&Req::get(path).header("cookie", &cookie))
                .await
                .status,
            400
        );
    }

    fn memory(&self) -> u64 {
        memory(self.hub.process.id(), "VmRSS:")
    }
}

/// In KiB.
fn memory(process: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn form(video: &str) -> String {
    format!(
        "--b\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nA title\r\n\
         --b\r\nContent-Disposition: form-data; name=\"video\"; filename=\"a.mp4\"\r\n\
         Content-Type: video/mp4\r\n\r\n{video}\r\n--b--\r\n"
    )
}

fn upload(video: &str) -> Req {
    Req::post("/youtube/upload")
        .bearer()
        .body("multipart/form-data; boundary=b", form(video))
}

#[tokio::test]
async fn from_consent_to_logout() {
    let mut fixture = start().await;
    for (method, path) in [
        ("GET", "/youtube/auth/google"),
        ("GET", "/youtube/auth/status"),
        ("POST", "/youtube/auth/logout"),
        ("POST", "/youtube/upload"),
    ] {
        let answer = fixture.hub.send(&Req::new(method, path)).await;
        assert_eq!(answer.status, 401, "{path}");
    }
    let status = Req::get("/youtube/auth/status").bearer();
    let answer = fixture.hub.send(&status).await;
    assert_eq!(
        answer.body_text(),
        r#"{"authenticated":false,"target":"main"}"#
    );
    assert_eq!(fixture.hub.send(&upload("abc")).await.status, 403);
    assert_eq!(fixture.google.calls().all(), 0);

    fixture.connect().await;
    let file = fixture.tokens.join("youtube_token_main.json");
    assert_eq!((mode(&file), mode(&fixture.tokens)), (0o600, 0o700));
    let answer = fixture.hub.send(&status).await;
    assert_eq!(
        answer.body_text(),
        r#"{"authenticated":true,"target":"main"}"#
    );

    fixture.google.fail(GoogleFault::LoseUpload(503));
    let answer = fixture.hub.send(&upload("abc")).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    assert_eq!(fixture.google.videos()[0].length, 3);
    assert_eq!(answer.json()["id"], fixture.google.videos()[0].id);

    let secrets = fixture.google.secrets();
    let answer = fixture
        .hub
        .send(&Req::post("/youtube/auth/logout").bearer())
        .await;
    assert_eq!(answer.json()["revoked"], true);
    assert!(!file.exists());
    assert_eq!(fixture.google.complaints(), [""; 0]);

    // By cookie, another site's page cannot log the account out.
    let session = fixture.hub.send(&Req::get("/auth/session").bearer()).await;
    let forged = Req::post("/youtube/auth/logout")
        .header("cookie", &cookie_of(&session))
        .header("origin", "https://evil.test");
    assert_eq!(fixture.hub.send(&forged).await.status, 403);

    fixture.hub.stop().await;
    let output = fixture.hub.output();
    for wanted in [
        "\"action\":\"upload\"",
        "\"bytes\":3",
        "\"action\":\"callback\"",
        "oauth_state_refused",
    ] {
        assert!(output.contains(wanted), "{wanted} in {output}");
    }
    let line = output
        .lines()
        .find(|line| line.contains("\"upload\"") && line.contains("\"bytes\":3"));
    let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
    assert_eq!(
        (&line["module"], &line["target"]),
        (&"youtube".into(), &"main".into())
    );
    assert!(
        line["requestId"].is_string()
            && line["username"].is_string()
            && line["duration"].is_number()
    );
    for secret in secrets
        .iter()
        .map(String::as_str)
        .chain([CLIENT_SECRET, TOKEN])
    {
        assert!(!output.contains(secret), "{secret}");
    }
}

/// Whatever a client sends to `/youtube/upload`, and on the other routes, it is Google that is called.
#[tokio::test]
async fn no_client_chooses_where_an_upload_goes() {
    let fixture = start().await;
    fixture.connect().await;
    let evil = Upstream::start(Reply::new(200));
    let at = evil.addr().to_string();
    let close = |request: Req| request.header("connection", "close").to_bytes();
    let send = async |bytes: Vec<u8>| {
        let transcript = RawClient::exchange(fixture.hub.addr, bytes, PATIENCE).await;
        let answers = transcript.unwrap().responses();
        answers.last().map_or(0, |answer| answer.status)
    };
    let form = form("abc")
        .replace("A title", "http://EVIL/")
        .replace("a.mp4", "../@EVIL#?");
    let form = form.replace("EVIL", &at);
    let request = |method: &str, target: &str| {
        Req::new(method, target)
            .bearer()
            .body("multipart/form-data; boundary=b", form.as_str())
    };
    let mut uploaded = 0;
    for (method, route) in [("POST", "/youtube/upload"), ("GET", "/youtube/auth/status")] {
        for tail in TAILS {
            let path = format!("{route}{}", tail.replace("EVIL", &at));
            for target in [
                format!("http://{at}{path}"),
                format!("https://user:pass@{at}{path}"),
                format!("//{at}{path}"),
                path.clone(),
            ] {
                let status = send(close(request(method, &target))).await;
                uploaded += usize::from(status == 200 && method == "POST");
            }
        }
        for (name, value) in CLAIMS {
            let value = value.replace("EVIL", &at);
            let status = send(close(request(method, route).header(name, &value))).await;
            uploaded += usize::from(status == 200 && method == "POST");
        }
        for odd in ODD_BYTES {
            let bytes = close(request(method, route).header("x-target", "ODD"));
            let place = bytes.windows(3).position(|part| part == b"ODD").unwrap();
            let odd = with_host(odd, &at);
            let bytes = [&bytes[..place], &odd, &bytes[place + 3..]].concat();
            assert_ne!(send(bytes).await, 200, "{odd:?}");
        }
    }
    assert_eq!(evil.connections().len(), 0);
    assert!(uploaded > 5, "{uploaded}");
    assert_eq!(fixture.google.videos().len(), uploaded);
    assert_eq!(fixture.google.complaints(), [""; 0]);
}

#[tokio::test]
async fn two_gibibytes_pass_through_twenty_mebibytes() {
    let fixture = start().await;
    fixture.connect().await;
    // What an upload needs for good, code and connections, is there after the first one.
    assert_eq!(fixture.hub.send(&upload("abc")).await.status, 200);
    let before = fixture.memory();

    let (head, end) = form("\0")
        .split_once('\0')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let length = head.len() as u64 + VIDEO + end.len() as u64;
    let mut client = fixture.hub.connect().await;
    client
        .send(format!(
            "POST /youtube/upload HTTP/1.1\r\nhost: hub.test\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: multipart/form-data; boundary=b\r\ncontent-length: {length}\r\n\r\n{head}"
        ))
        .await
        .unwrap();
    let zeros = vec![0; 1 << 20];
    let mut most = before;
    for _ in 0..VIDEO >> 20 {
        client.send(&zeros).await.unwrap();
        most = most.max(fixture.memory());
    }
    client.send(end).await.unwrap();
    let answer = client.next_response(3 * PATIENCE).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    let video = fixture.google.videos().pop().unwrap();
    assert_eq!((video.length, video.is_zero), (VIDEO, true));
    let grown = most.max(fixture.memory()).saturating_sub(before);
    assert!(grown < 20 * 1024, "{grown} KiB");
    println!("the hub's memory grew by {grown} KiB");
}
