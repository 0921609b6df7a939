use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::files::closed_address;

/// How long a server may take to start before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// A `redis-server` of the test's own, in a folder of its own, without persistence. It is killed when this is
/// dropped.
///
/// The environment variable `REDIS_SERVER` names another program to run, such as `valkey-server`.
///
/// The test talks to it through a Unix socket ([`Self::command`]), so that what happens to its ports does not
/// matter. The methods that wait do so by asking, and panic after 20 seconds.
///
/// ```no_run
/// # async fn example() {
/// use proactions_testkit::RedisServer;
///
/// let mut server = RedisServer::builder().password("hunter2").start().await;
/// assert_eq!(server.command(&["PING"]), "+PONG");
/// let url = server.url();
/// server.kill();
/// server.restart().await;
/// # }
/// ```
pub struct RedisServer {
    child: Child,
    builder: RedisServerBuilder,
    folder: TempDir,
    port: u16,
    certificates: Option<TestCertificates>,
}

/// How a [`RedisServer`] is to be.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is started until `start` is awaited"]
pub struct RedisServerBuilder {
    tls: bool,
    client_certificates: bool,
    password: Option<String>,
    arguments: Vec<String>,
    sentinel: Option<String>,
}

impl RedisServerBuilder {
    /// Listens with TLS instead of plain TCP, with certificates made for the occasion.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Listens with TLS and lets in only who shows a certificate of the same authority.
    pub fn client_certificates(mut self) -> Self {
        self.tls = true;
        self.client_certificates = true;
        self
    }

    /// Asks the user `default` for a password.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Adds a user, in the words of `ACL SETUSER`: `hub on >secret ~sess:* +@all`.
    pub fn user(self, rule: &str) -> Self {
        self.option("user", rule)
    }

    /// Uses no more memory than this (`1mb`), and evicts nothing.
    pub fn max_memory(self, size: &str) -> Self {
        self.option("maxmemory", size)
            .option("maxmemory-policy", "noeviction")
    }

    /// Belongs to a cluster. Which slots it holds is the test's to say.
    pub fn cluster(self) -> Self {
        self.option("cluster-enabled", "yes")
            .option("cluster-config-file", "nodes.conf")
            .option("cluster-node-timeout", "1000")
    }

    /// Is a sentinel with this configuration: `sentinel monitor main 127.0.0.1 6379 1`.
    pub fn sentinel(mut self, configuration: &str) -> Self {
        self.sentinel = Some(configuration.to_owned());
        self
    }

    /// Any other option. Its value is split at spaces.
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.arguments.push(format!("--{name}"));
        self.arguments.extend(value.split(' ').map(str::to_owned));
        self
    }

    /// Starts it, and waits until it answers.
    pub async fn start(self) -> RedisServer {
        let certificates = self.tls.then(TestCertificates::new);
        // Somebody else may take the port between its choice and its use.
        for _ in 0..10 {
            let folder = TempDir::new().expect("a temporary folder");
            if let Some(certificates) = &certificates {
                certificates.write_to(folder.path());
            }
            let port = closed_address().port();
            let mut server = RedisServer {
                child: self.spawn(folder.path(), port),
                builder: self.clone(),
                folder,
                port,
                certificates: certificates.clone(),
            };
            if server.until_up().await {
                return server;
            }
        }
        panic!("redis-server does not start; is that version older than 6?");
    }

    fn spawn(&self, folder: &Path, port: u16) -> Child {
        let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let mut command = Command::new(program);
        if let Some(configuration) = &self.sentinel {
            let file = folder.join("sentinel.conf");
            std::fs::write(&file, format!("{configuration}\n")).expect("a file");
            command.arg(file).arg("--sentinel");
        } else {
            command.args(["--save", "", "--appendonly", "no"]);
        }
        let port = port.to_string();
        if self.tls {
            let clients = if self.client_certificates {
                "yes"
            } else {
                "no"
            };
            command.args(["--port", "0", "--tls-port", &port]);
            command.args([
                "--tls-cert-file",
                "server.pem",
                "--tls-key-file",
                "server.key",
            ]);
            command.args([
                "--tls-ca-cert-file",
                "ca.pem",
                "--tls-auth-clients",
                clients,
            ]);
        } else {
            command.args(["--port", &port]);
        }
        if let Some(password) = &self.password {
            command.args(["--requirepass", password]);
        }
        command
            .args(&self.arguments)
            .args(["--bind", "127.0.0.1", "--unixsocket", "control.sock"])
            .args(["--daemonize", "no", "--dir", "."])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "cannot start redis-server ({error}); `apt-get install redis-server` brings it"
                )
            })
    }
}

impl RedisServer {
    /// A server that is to be described.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// A plain server without a password.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its URL, as user `default` with the password if there is one.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.builder.password {
            Some(password) => self.url_as("", password),
            None => format!("{}://localhost:{}", self.scheme(), self.port),
        }
    }

    /// Its URL with this user and password.
    #[must_use]
    pub fn url_as(&self, user: &str, password: &str) -> String {
        let scheme = self.scheme();
        format!("{scheme}://{user}:{password}@localhost:{}", self.port)
    }

    /// The certificates of a server with TLS. Panics for one without.
    #[must_use]
    pub fn certificates(&self) -> &TestCertificates {
        self.certificates.as_ref().expect("a server with TLS")
    }

    /// The path of a file in its folder: `ca.pem`, `client.pem` or `client.key` of a server with TLS.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command and returns the answer as one text: strings as they are, lists joined with line breaks,
    /// `+OK`, `:1` and errors with their sign, nothing as an empty text.
    #[must_use]
    pub fn command(&self, parts: &[&str]) -> String {
        self.try_command(parts)
            .unwrap_or_else(|error| panic!("redis-server: {error}"))
    }

    /// Ends it at once (SIGKILL). It can be restarted.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port, empty, and waits until it answers.
    pub async fn restart(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(self.file("control.sock"));
        self.child = self.builder.spawn(self.folder.path(), self.port);
        assert!(self.until_up().await, "redis-server does not start again");
    }

    /// Stops it in its tracks (SIGSTOP): connections are taken by the kernel, and nothing answers.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn scheme(&self) -> &'static str {
        if self.builder.tls { "rediss" } else { "redis" }
    }

    fn signal(&self, name: &str) {
        // The shell's own kill: there need not be a program of that name.
        let status = Command::new("sh")
            .args([
                "-c",
                "kill -s \"$0\" \"$1\"",
                name,
                &self.child.id().to_string(),
            ])
            .status()
            .expect("a shell");
        assert!(status.success(), "cannot send {name}");
    }

    /// Waits until it answers; `false` if it ended before.
    async fn until_up(&mut self) -> bool {
        let up = async {
            loop {
                if self
                    .try_command(&["PING"])
                    .is_ok_and(|answer| answer == "+PONG")
                {
                    return true;
                }
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return false;
                }
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, up)
            .await
            .expect("redis-server does not answer")
    }

    fn try_command(&self, parts: &[&str]) -> std::io::Result<String> {
        let stream = UnixStream::connect(self.file("control.sock"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut stream = BufReader::new(stream);
        if let Some(password) = &self.builder.password {
            send(&mut stream, &["AUTH", password])?;
        }
        send(&mut stream, parts)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisServer")
            .field("addr", &self.addr())
            .finish_non_exhaustive()
    }
}

fn send(stream: &mut BufReader<UnixStream>, parts: &[&str]) -> std::io::Result<String> {
    let mut request = format!("*{}\r\n", parts.len());
    for part in parts {
        request.push_str(&format!("${}\r\n{part}\r\n", part.len()));
    }
    stream.get_mut().write_all(request.as_bytes())?;
    read(stream)
}

fn read(stream: &mut BufReader<UnixStream>) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end();
    let length = || line.get(1..)?.parse::<usize>().ok();
    match line.as_bytes().first() {
        Some(b'$') => {
            let Some(length) = length() else {
                return Ok(String::new());
            };
            let mut text = vec![0; length + 2];
            stream.read_exact(&mut text)?;
            text.truncate(length);
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        Some(b'*') => {
            let items: std::io::Result<Vec<_>> =
                (0..length().unwrap_or(0)).map(|_| read(stream)).collect();
            Ok(items?.join("\n"))
        }
        _ => Ok(line.to_owned()),
    }
}

/// An authority of the test's own, and what it has signed: a server's certificate for `localhost` and
/// `127.0.0.1`, and a client's. All as PEM.
#[derive(Clone)]
#[non_exhaustive]
pub struct TestCertificates {
    /// The authority's certificate.
    pub ca: String,
    /// The server's certificate.
    pub server: String,
    /// The server's key.
    pub server_key: String,
    /// The client's certificate.
    pub client: String,
    /// The client's key.
    pub client_key: String,
}

impl TestCertificates {
    /// Fresh ones, that nobody else trusts.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().expect("a key");
        let ca = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let (server, server_key) = leaf(&issuer, &names, ExtendedKeyUsagePurpose::ServerAuth);
        let names = ["client".to_owned()];
        let (client, client_key) = leaf(&issuer, &names, ExtendedKeyUsagePurpose::ClientAuth);
        Self {
            ca,
            server,
            server_key,
            client,
            client_key,
        }
    }

    /// Writes them into a folder as `ca.pem`, `server.pem`, `server.key`, `client.pem` and `client.key`.
    pub fn write_to(&self, folder: &Path) {
        for (name, text) in [
            ("ca.pem", &self.ca),
            ("server.pem", &self.server),
            ("server.key", &self.server_key),
            ("client.pem", &self.client),
            ("client.key", &self.client_key),
        ] {
            std::fs::write(folder.join(name), text).expect("a file");
        }
    }
}

impl Default for TestCertificates {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TestCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestCertificates(..)")
    }
}

fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    names: &[String],
    usage: ExtendedKeyUsagePurpose,
) -> (String, String) {
    let mut params = CertificateParams::new(names).expect("good names");
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages.push(usage);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_can_be_killed_and_started_again() {
        let mut server = RedisServer::builder().password("p").start().await;
        assert_eq!(server.command(&["SET", "a", "b"]), "+OK");
        assert_eq!(server.command(&["MGET", "a", "a"]), "b\nb");
        let port = server.addr();
        assert!(std::net::TcpStream::connect(port).is_ok());
        server.kill();
        assert!(std::net::TcpStream::connect(port).is_err());
        server.restart().await;
        assert_eq!(server.addr(), port);
        assert_eq!(server.command(&["GET", "a"]), "");
    }

    #[tokio::test]
    async fn a_frozen_server_goes_on_later() {
        let server = RedisServer::builder().tls().start().await;
        server.freeze();
        assert!(std::net::TcpStream::connect(server.addr()).is_ok());
        server.thaw();
        assert_eq!(server.command(&["PING"]), "+PONG");
    }
}
