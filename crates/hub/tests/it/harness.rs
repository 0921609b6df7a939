//! A hub in a process of its own, and requests to it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use proactions_testkit::{HubProcess, RawClient, RawResponse, TempConfig};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_proactions-hub");
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// What is promised within a second or two has to come before this. Without the promise it would take longer or never
/// come; a busy machine may take its time. Deadlines to the millisecond are tested with a paused clock.
pub(crate) const SOON: Duration = Duration::from_secs(12);
/// The access token of [`TOKEN_AUTH`].
pub(crate) const TOKEN: &str = "test-token-0123456789abcdef";

/// Token authentication with [`TOKEN`], to put at the end of a configuration.
pub(crate) const TOKEN_AUTH: &str = "
auth:
  enabled: true
  type: token
  tokens: [test-token-0123456789abcdef]
  session:
    store: memory
    cookie:
      secret: cookie-secret-cookie-secret-cookie-secret
";

/// A target that answers by itself.
pub(crate) const ECHO_TARGET: &str = "
targets:
  - {id: echo, provider: echo}
";

/// A running hub. It is killed when this is dropped.
pub(crate) struct Hub {
    pub(crate) process: HubProcess,
    pub(crate) addr: SocketAddr,
    pub(crate) config: TempConfig,
}

impl Hub {
    pub(crate) async fn start(yaml: &str) -> Self {
        Self::start_with(yaml, []).await
    }

    /// Starts a hub on a port that the system picks, with these variables in its environment.
    pub(crate) async fn start_with<const N: usize>(
        yaml: &str,
        env: [(&'static str, &str); N],
    ) -> Self {
        let config = TempConfig::new(yaml);
        let mut env: Vec<_> = env.map(|(name, value)| (name, value.to_owned())).into();
        env.push(("PROACTIONS_HUB_PORT", "0".to_owned()));
        let args = ["serve", "--config", config.path().to_str().unwrap()].map(str::to_owned);
        let mut process = HubProcess::start(BINARY, args, env);
        let mut addr = process.address("listening on").await;
        if addr.ip().is_unspecified() {
            addr.set_ip([127, 0, 0, 1].into());
        }
        Self {
            process,
            addr,
            config,
        }
    }

    pub(crate) async fn connect(&self) -> RawClient {
        RawClient::connect(self.addr).await.unwrap()
    }

    /// Sends one request on a connection of its own.
    pub(crate) async fn send(&self, request: &Req) -> RawResponse {
        self.raw(request.to_bytes()).await
    }

    /// Sends these bytes on a connection of their own and reads one answer.
    pub(crate) async fn raw(&self, bytes: impl AsRef<[u8]>) -> RawResponse {
        let mut client = self.connect().await;
        client.send(bytes).await.unwrap();
        client.next_response(PATIENCE).await.unwrap()
    }

    /// Everything that the hub has written to its outputs so far.
    pub(crate) fn output(&self) -> String {
        let mut lines = self.process.stdout();
        lines.extend(self.process.stderr());
        lines.join("\n")
    }

    /// Stops the hub, so that its logs are complete, and returns its exit code.
    pub(crate) async fn stop(&mut self) -> i32 {
        self.process.terminate();
        self.process.exit_code().await
    }
}

/// A request to be sent as HTTP/1.1.
#[derive(Clone, Debug)]
pub(crate) struct Req {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Req {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn post(target: &str) -> Self {
        Self::new("POST", target)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With the credentials of [`TOKEN_AUTH`].
    pub(crate) fn bearer(self) -> Self {
        self.header("authorization", &format!("Bearer {TOKEN}"))
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.header("content-type", content_type)
            .header("content-length", &length)
    }

    pub(crate) fn json(self, body: &serde_json::Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// A chat with `model`, streamed or not.
    pub(crate) fn chat(stream: bool) -> Self {
        Self::post("/v1/chat/completions").json(&serde_json::json!({
            "model": "m", "stream": stream, "messages": [{"role": "user", "content": "hello"}],
        }))
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            head.push_str("host: hub.test\r\n");
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

/// The cookie that an answer sets, as a client sends it back.
pub(crate) fn cookie_of(response: &RawResponse) -> String {
    let set = response.header("set-cookie").expect("a cookie");
    set.split(';').next().unwrap().to_owned()
}
