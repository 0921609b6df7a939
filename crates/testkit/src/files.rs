use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// `127.0.0.1:0`: the system picks the port when it is bound.
pub const ANY_PORT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// An address of this machine at which nobody listens: connecting to it is refused.
#[must_use]
pub fn closed_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind(ANY_PORT).expect("a free port");
    listener.local_addr().expect("a bound address")
}

/// A folder of its own with a `config.yaml`, both readable by their owner only. It is removed when this is dropped.
#[derive(Debug)]
pub struct TempConfig {
    folder: TempDir,
}

impl TempConfig {
    /// A folder whose `config.yaml` says `yaml`.
    #[must_use]
    pub fn new(yaml: &str) -> Self {
        let config = Self {
            folder: TempDir::new().expect("a temporary folder"),
        };
        config.write("config.yaml", yaml);
        config
    }

    /// The path of `config.yaml`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes (or overwrites) a file beside `config.yaml` with mode 600, and returns its path.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.folder.path().join(name);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .expect("a file in the temporary folder");
        file.write_all(contents.as_ref())
            .expect("room in the temporary folder");
        path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_are_private_and_go_with_the_folder() {
        let config = TempConfig::new("hub: {}\n");
        let path = config.path();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "hub: {}\n");
        config.write("config.yaml", "a: 1");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a: 1");
        assert_eq!(config.write(".env", "A=1").parent(), Some(config.folder()));
        drop(config);
        assert!(!path.exists());
    }

    #[test]
    fn a_closed_address_refuses() {
        let error = std::net::TcpStream::connect(closed_address()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
