//! What is measured: the hub, and its peers on the same work. Each is a process of its own.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::client::Connection;
use crate::upstream::Scenario;

/// How long a process may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(120);

const ORIGIN: &str = "https://editor.example.com";
const TOKENS: [&str; 2] = [
    "bench-token-a-0123456789abcdef",
    "bench-token-b-0123456789abcdef",
];

/// The fields that the hub sets on each answer, for peers that have to be told.
const TWELVE_FIELDS: [(&str, &str); 12] = [
    (
        "Content-Security-Policy",
        "default-src 'self';base-uri 'self';object-src 'none';script-src 'self'",
    ),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Origin-Agent-Cluster", "?1"),
    ("Referrer-Policy", "no-referrer"),
    (
        "Strict-Transport-Security",
        "max-age=31536000; includeSubDomains",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-DNS-Prefetch-Control", "off"),
    ("X-Download-Options", "noopen"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("X-Permitted-Cross-Domain-Policies", "none"),
    ("X-XSS-Protection", "0"),
];

/// Which program is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// hyper in front and behind, no policy: what the others are compared with.
    Bare,
    Haproxy,
    Hub,
    Nginx,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare-hyper",
            Self::Haproxy => "haproxy (no sessions)",
            Self::Hub => "hub",
            Self::Nginx => "nginx (no sessions)",
        }
    }

    /// The hub, what it is compared with, and the peers that this machine has.
    pub(crate) fn present() -> Vec<Self> {
        let mut kinds = vec![Self::Hub, Self::Bare];
        let there = |program: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path)
                .chain([PathBuf::from("/usr/sbin")])
                .any(|folder| folder.join(program).is_file())
        };
        kinds.extend(there("nginx").then_some(Self::Nginx));
        kinds.extend(there("haproxy").then_some(Self::Haproxy));
        kinds
    }
}

/// How a hub is started that is not measured as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Special {
    /// Lines below `hub:`.
    pub(crate) hub: String,
    /// A program with its arguments that runs the hub.
    pub(crate) under: Vec<String>,
}

/// A running process that answers on `addr`. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) addr: SocketAddr,
    child: Child,
    cookie: Option<String>,
    folder: TempDir,
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) hub: PathBuf,
    pub(crate) upstream: SocketAddr,
}

impl Subject {
    /// Starts one, waits until it answers, and opens a session where there are any.
    pub(crate) async fn start(kind: Kind, programs: &Programs) -> io::Result<Self> {
        let mut subject = Self::launch(kind, programs, &Special::default())?;
        subject.ready().await?;
        subject.enter().await?;
        Ok(subject)
    }

    /// Starts one and does not wait.
    pub(crate) fn launch(kind: Kind, programs: &Programs, special: &Special) -> io::Result<Self> {
        let folder = TempDir::new()?;
        let addr = free_addr()?;
        let mut command = command(kind, programs, addr, folder.path(), special)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join("stdout"))?)
            .stderr(File::create(folder.path().join("stderr"))?)
            .spawn()?;
        Ok(Self {
            kind,
            addr,
            child,
            cookie: None,
            folder,
        })
    }

    /// Waits until the port is open.
    pub(crate) async fn ready(&mut self) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failed(&format!("ended with {status}")));
            }
            if tokio::net::TcpStream::connect(self.addr).await.is_ok() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(self.failed("did not open its port"));
            }
            sleep(Duration::from_micros(250)).await;
        }
    }

    /// Sends the first chat, which opens the session.
    pub(crate) async fn enter(&mut self) -> io::Result<()> {
        let mut connection = Connection::open(self.addr).await?;
        let (head, _) = connection.exchange(&self.request(Scenario::Chat)).await?;
        if head.status != 200 {
            return Err(self.failed(&format!("answered with {}", head.status)));
        }
        self.cookie = head.cookie;
        if self.kind == Kind::Hub && self.cookie.is_none() {
            return Err(self.failed("opened no session"));
        }
        Ok(())
    }

    /// Takes over a session that was opened by other means.
    pub(crate) fn entered(&mut self, cookie: Option<String>) {
        self.cookie = cookie;
    }

    fn failed(&self, what: &str) -> io::Error {
        let read = |name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let output = read("stderr") + &read("stdout");
        io::Error::other(format!("{} {what}\n{output}", self.kind.name()))
    }

    /// The request that gets this answer here.
    pub(crate) fn request(&self, scenario: Scenario) -> Vec<u8> {
        request(Some(self.kind), scenario, self.cookie.as_deref())
    }

    /// Its processes, as they can be seen from outside.
    pub(crate) fn processes(&self) -> Processes {
        Processes(self.child.id())
    }

    /// See [`Processes::cpu`].
    pub(crate) fn cpu(&self) -> io::Result<f64> {
        self.processes().cpu()
    }

    /// See [`Processes::memory`].
    pub(crate) fn memory(&self) -> Memory {
        self.processes().memory()
    }

    /// Asks it to stop and waits for its end.
    pub(crate) async fn stop(&mut self) -> io::Result<ExitStatus> {
        Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()?;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                return Err(self.failed("did not stop"));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A process and its children.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processes(u32);

impl Processes {
    /// This process.
    pub(crate) fn own() -> Self {
        Self(std::process::id())
    }

    /// Microseconds that its threads have run so far, those of its children included.
    pub(crate) fn cpu(self) -> io::Result<f64> {
        self.all().into_iter().map(cpu_of).sum()
    }

    /// Resident memory now and at its highest, in KiB.
    pub(crate) fn memory(self) -> Memory {
        let mut memory = Memory::default();
        for process in self.all() {
            let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            let field = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name))?;
                line.split_whitespace().nth(1)?.parse::<f64>().ok()
            };
            memory.now += field("VmRSS:").unwrap_or_default();
            memory.peak += field("VmHWM:").unwrap_or_default();
        }
        memory
    }

    fn all(self) -> Vec<u32> {
        let parent = self.0;
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|id| id.parse().ok());
        std::iter::once(parent).chain(children).collect()
    }
}

/// Processor time of a process so far, in microseconds.
fn cpu_of(process: u32) -> io::Result<f64> {
    let mut nanoseconds = 0.0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may have ended since.
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        let ran = text
            .split(' ')
            .next()
            .and_then(|ran| ran.parse::<f64>().ok());
        nanoseconds += ran.unwrap_or_default();
    }
    Ok(nanoseconds / 1000.0)
}

/// Memory in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) now: f64,
    pub(crate) peak: f64,
}

impl Drop for Subject {
    fn drop(&mut self) {
        // nginx hands a signal of its own on to its workers, which a kill would leave behind.
        if self.kind == Kind::Nginx {
            let _ = Command::new("kill")
                .args(["-TERM", &self.child.id().to_string()])
                .status();
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// The request of 430 bytes of body, as it is sent to this kind; to none for the upstream itself.
pub(crate) fn request(kind: Option<Kind>, scenario: Scenario, cookie: Option<&str>) -> Vec<u8> {
    const BODY: usize = 430;
    let name = scenario.name();
    let segment = if kind == Some(Kind::Hub) { "v1" } else { name };
    let before = "{\"model\":\"m-large\",\"temperature\":0.2,\"max_tokens\":400,\"messages\":[\
        {\"role\":\"system\",\"content\":\"You shorten texts for a newspaper.\"},{\"role\":\"user\",\"content\":\"";
    let after = "\"}]}";
    let text = "Shorten this. ".repeat(BODY / 14 + 1);
    let text = text
        .get(..BODY - before.len() - after.len())
        .unwrap_or_default();
    let mut head = format!(
        "POST /{segment}/chat/completions HTTP/1.1\r\nhost: hub.example.com\r\naccept: application/json\r\n\
         user-agent: bench\r\norigin: {ORIGIN}\r\nauthorization: Bearer {}\r\nx-target: {name}\r\n\
         content-type: application/json\r\ncontent-length: {BODY}\r\n",
        TOKENS[1],
    );
    if let Some(cookie) = cookie {
        let _ = write!(head, "cookie: {cookie}\r\n");
    }
    [head.as_str(), "\r\n", before, text, after]
        .concat()
        .into_bytes()
}

fn free_addr() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn command(
    kind: Kind,
    programs: &Programs,
    addr: SocketAddr,
    folder: &Path,
    special: &Special,
) -> io::Result<Command> {
    let upstream = programs.upstream;
    let config = folder.join("config");
    let mut command = match kind {
        Kind::Bare => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--bare", &addr.to_string(), &upstream.to_string()]);
            command
        }
        Kind::Haproxy => {
            fs::write(&config, haproxy(addr, upstream))?;
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(&config);
            command
        }
        Kind::Hub => {
            fs::write(&config, hub(addr, upstream, folder, &special.hub))?;
            let mut under = special.under.iter();
            let mut command = match under.next() {
                Some(program) => Command::new(program),
                None => Command::new(&programs.hub),
            };
            command.args(under);
            if !special.under.is_empty() {
                command.arg(&programs.hub);
            }
            command.arg("serve").arg("--config").arg(&config);
            command
        }
        Kind::Nginx => {
            fs::write(&config, nginx(addr, upstream, folder))?;
            let mut command = Command::new("nginx");
            command.arg("-p").arg(folder).arg("-c").arg(&config);
            command
        }
    };
    let path = std::env::var("PATH").unwrap_or_default();
    command.env_clear().env("PATH", format!("{path}:/usr/sbin"));
    Ok(command)
}

fn hub(addr: SocketAddr, upstream: SocketAddr, folder: &Path, special: &str) -> String {
    let folder = folder.display();
    let mut text = format!(
        "hub:
  host: {}
  port: {}
{special}
  security:
    helmet: true
    cors: {{origin: '{ORIGIN}', credentials: true}}
    rateLimit: {{windowMs: 60000, max: 1000000000, standardHeaders: draft-6, legacyHeaders: false}}
    limits: {{json: 10mb}}
auth:
  enabled: true
  type: token
  tokens: ['{}', '{}']
  session:
    store: memory
    cookie: {{secret: bench-secret-bench-secret-bench-secret}}
logging:
  logDirectory: '{folder}'
  types:
    access: {{console: false, file: true}}
    aiLink: {{enabled: false}}
targets:
",
        addr.ip(),
        addr.port(),
        TOKENS[0],
        TOKENS[1],
    );
    for scenario in Scenario::ALL {
        let name = scenario.name();
        let _ = writeln!(
            text,
            "  - {{id: {name}, provider: custom, apiKey: k, endpoint: 'http://{upstream}/{name}/{{path}}'}}"
        );
    }
    text
}

fn nginx(addr: SocketAddr, upstream: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    let mut text = format!(
        "daemon off;
worker_processes 2;
worker_rlimit_nofile 16384;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  log_format json escape=json '{{\"timestamp\":\"$time_iso8601\",\"ip\":\"$remote_addr\",\"method\":\"$request_method\",'
    '\"url\":\"$request_uri\",\"status\":$status,\"bytes\":$body_bytes_sent,\"duration\":$request_time,'
    '\"userAgent\":\"$http_user_agent\"}}';
  access_log {folder}/access.log json buffer=64k flush=1s;
  keepalive_requests 1000000000;
  client_max_body_size 10m;
  limit_req_zone $binary_remote_addr zone=clients:10m rate=1000000r/s;
  map $http_authorization $known {{ default 0; 'Bearer {}' 1; 'Bearer {}' 1; }}
  map $http_origin $allowed {{ default ''; '{ORIGIN}' $http_origin; }}
  upstream provider {{ server {upstream}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen {addr};
    limit_req zone=clients burst=1000000 nodelay;
    if ($known = 0) {{ return 401; }}
    add_header Access-Control-Allow-Origin $allowed always;
    add_header Access-Control-Allow-Credentials true always;
    add_header Vary Origin always;
",
        TOKENS[0], TOKENS[1],
    );
    for (name, value) in TWELVE_FIELDS {
        let _ = writeln!(text, "    add_header {name} \"{value}\" always;");
    }
    text.push_str(
        "    proxy_http_version 1.1;
    proxy_set_header Connection '';
    location / { proxy_buffering off; proxy_pass http://provider; }
    location /chat/ { proxy_pass http://provider; }
    location /large { proxy_pass http://provider; }
  }
}
",
    );
    text
}

fn haproxy(addr: SocketAddr, upstream: SocketAddr) -> String {
    let mut text = format!(
        "global
  nbthread 2
  maxconn 6000
  log stdout format raw local0
defaults
  mode http
  log global
  log-format '{{\"timestamp\":\"%trg\",\"ip\":\"%ci\",\"method\":\"%HM\",\"url\":\"%HP\",\"status\":%ST,\"bytes\":%B,\"duration\":%Tr}}'
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend clients
  bind {addr}
  acl known req.hdr(authorization) -m str 'Bearer {}' 'Bearer {}'
  http-request deny deny_status 401 unless known
  stick-table type ip size 100k expire 60s store http_req_rate(60s)
  http-request track-sc0 src
  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 1000000000 }}
  http-response set-header Access-Control-Allow-Origin {ORIGIN}
  http-response set-header Access-Control-Allow-Credentials true
  http-response set-header Vary Origin
",
        TOKENS[0], TOKENS[1],
    );
    for (name, value) in TWELVE_FIELDS {
        let _ = writeln!(text, "  http-response set-header {name} \"{value}\"");
    }
    let _ = write!(
        text,
        "  default_backend provider\nbackend provider\n  server one {upstream} pool-max-conn 1024\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_size_that_is_promised() {
        for kind in [None, Some(Kind::Hub)] {
            let request = request(kind, Scenario::Chat, Some("a=b"));
            let head = request.windows(4).position(|four| four == b"\r\n\r\n");
            assert_eq!(request.len() - head.unwrap() - 4, 430);
        }
    }
}
