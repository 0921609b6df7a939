//! Token files.

use std::collections::HashMap;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use proactions_edge::{Clock, ExposeSecret as _, SecretString};
use proactions_forward::HttpClient;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::google::{self, GoogleError, Grant};
use crate::{YoutubeAccount, YoutubeAccounts};

/// A token that ends sooner than this is renewed before it is used.
const RENEWED_AHEAD: Duration = Duration::from_secs(60);

/// How long a token file may be, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// The tokens of all accounts. The files are the truth; nothing of them is kept in memory.
pub(crate) struct TokenStore {
    accounts: YoutubeAccounts,
    client: HttpClient,
    clock: Arc<dyn Clock>,
    locks: Locks,
}

/// One for each account: whoever holds it reads and writes the file and asks for new tokens.
#[derive(Clone, Default)]
pub(crate) struct Locks(Arc<std::sync::Mutex<HashMap<String, Arc<Mutex<()>>>>>);

impl Locks {
    async fn lock(&self, id: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(id.to_owned()).or_default())
        };
        lock.lock_owned().await
    }
}

/// An access token.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) token: SecretString,
    pub(crate) renew_at: SystemTime,
}

/// Why there is no token.
#[derive(Debug)]
pub(crate) enum TokenError {
    File(io::Error),
    Google(GoogleError),
    /// Nobody has given consent, or it was withdrawn.
    NotConnected,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(f, "the token file: {error}"),
            Self::Google(error) => error.fmt(f),
            Self::NotConnected => f.write_str("the account is not connected"),
        }
    }
}

impl From<io::Error> for TokenError {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

/// How a logout went.
#[derive(Debug)]
pub(crate) enum Revocation {
    /// There was nothing to revoke.
    Nothing,
    Done,
    /// The file is gone, Google still knows the token.
    Failed(GoogleError),
    /// The file is gone, and what was in it was of no use.
    Unknown(io::Error),
}

impl TokenStore {
    pub(crate) fn new(
        accounts: YoutubeAccounts,
        client: HttpClient,
        clock: Arc<dyn Clock>,
        locks: Locks,
    ) -> Self {
        // It may be there from earlier; until something is written nobody else looks at it.
        close_folder(accounts.token_folder());
        Self {
            accounts,
            client,
            clock,
            locks,
        }
    }

    /// Whether an upload could be tried.
    pub(crate) async fn is_connected(&self, account: &YoutubeAccount) -> Result<bool, TokenError> {
        let file = self.lock(account).await?;
        let now = self.clock.now();
        Ok(file.load().await?.is_some_and(|tokens| {
            tokens.refresh_token().is_some() || tokens.access(now, Duration::ZERO).is_some()
        }))
    }

    /// A token that is good for a minute at least. Requests for the same account wait for one renewal.
    pub(crate) async fn access(&self, account: &YoutubeAccount) -> Result<Access, TokenError> {
        self.access_unless(account, None).await
    }

    /// The same after Google has refused `stale`.
    pub(crate) async fn access_after(
        &self,
        account: &YoutubeAccount,
        stale: &Access,
    ) -> Result<Access, TokenError> {
        self.access_unless(account, Some(stale)).await
    }

    async fn access_unless(
        &self,
        account: &YoutubeAccount,
        stale: Option<&Access>,
    ) -> Result<Access, TokenError> {
        let file = self.lock(account).await?;
        let mut tokens = file.load().await?.ok_or(TokenError::NotConnected)?;
        let is_stale = |access: &Access| {
            stale.is_some_and(|stale| stale.token.expose_secret() == access.token.expose_secret())
        };
        let now = self.clock.now();
        if let Some(access) = tokens.access(now, RENEWED_AHEAD)
            && !is_stale(&access)
        {
            return Ok(access);
        }
        let Some(refresh_token) = tokens.refresh_token() else {
            return Err(TokenError::NotConnected);
        };
        let urls = self.accounts.urls();
        let renewed = google::refresh(&self.client, urls, account, refresh_token).await;
        match renewed {
            Ok(grant) => {
                tokens.renew(&grant, self.clock.now());
                tracing::debug!(target: "youtube", action = "refresh", target = account.id, outcome = "ok", "YouTube token renewed");
                let access = tokens.access(self.clock.now(), Duration::ZERO);
                file.save(tokens).await?;
                access.ok_or(TokenError::Google(GoogleError::Nonsense(
                    "Google's token ended before it came",
                )))
            }
            Err(error) if error.is_code("invalid_grant") => {
                tracing::warn!(
                    target: "youtube",
                    action = "refresh",
                    target = account.id,
                    outcome = "invalid_grant",
                    "Google does not accept the refresh token any more; the account has to be connected again"
                );
                file.remove().await?;
                Err(TokenError::NotConnected)
            }
            Err(error) => {
                // There is still most of a minute left.
                let left = tokens.access(now, Duration::from_secs(5));
                left.filter(|access| !is_stale(access))
                    .ok_or(TokenError::Google(error))
            }
        }
    }

    /// Takes over what a consent has granted.
    pub(crate) async fn connect(
        &self,
        account: &YoutubeAccount,
        grant: &Grant,
    ) -> Result<(), TokenError> {
        let file = self.lock(account).await?;
        // A file that cannot be read has nothing that is worth keeping.
        let mut tokens = file.load().await.ok().flatten().unwrap_or_default();
        // The old one may belong to somebody else's channel.
        tokens.0.remove("refresh_token");
        tokens.0.remove("scope");
        tokens.renew(grant, self.clock.now());
        file.save(tokens).await
    }

    /// Revokes the tokens at Google and deletes the file, whether or not Google answers. A file that cannot be
    /// read stays: whoever makes it readable can have its tokens revoked still.
    pub(crate) async fn disconnect(
        &self,
        account: &YoutubeAccount,
    ) -> Result<Revocation, TokenError> {
        let file = self.lock(account).await?;
        let revoked = match file.load().await {
            Ok(None) => Revocation::Nothing,
            Ok(Some(tokens)) => match tokens.to_revoke() {
                Ok(None) => Revocation::Nothing,
                Ok(Some(token)) => {
                    match google::revoke(&self.client, self.accounts.urls(), token).await {
                        Ok(()) => Revocation::Done,
                        Err(error) => Revocation::Failed(error),
                    }
                }
                Err(error) => Revocation::Unknown(error),
            },
            Err(TokenError::File(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Revocation::Unknown(error)
            }
            Err(error) => return Err(error),
        };
        file.remove().await?;
        Ok(revoked)
    }

    pub(crate) fn locks(&self) -> Locks {
        self.locks.clone()
    }

    async fn lock(&self, account: &YoutubeAccount) -> Result<TokenFile, TokenError> {
        // Only accounts of the configuration have a path, so the locks are as many at most.
        let path = self.accounts.token_file(&account.id);
        let path = path.ok_or(TokenError::NotConnected)?;
        Ok(TokenFile::new(path, self.locks.lock(&account.id).await))
    }
}

impl fmt::Debug for TokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStore").finish_non_exhaustive()
    }
}

/// What a token file says. Members that this program does not know stay as they are.
#[derive(Default)]
struct Tokens(Map<String, Value>);

impl Tokens {
    fn text(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)?
            .as_str()
            .filter(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()))
    }

    fn refresh_token(&self) -> Option<&str> {
        self.text("refresh_token")
    }

    /// The token whose end is the end of all; none in a file that names none.
    fn to_revoke(&self) -> io::Result<Option<&str>> {
        let names = ["refresh_token", "access_token"];
        if let Some(token) = names.into_iter().find_map(|name| self.text(name)) {
            return Ok(Some(token));
        }
        if names.into_iter().any(|name| self.0.contains_key(name)) {
            return Err(corrupt("what it holds is not a token"));
        }
        Ok(None)
    }

    /// The access token, if it is good for longer than `ahead`.
    fn access(&self, now: SystemTime, ahead: Duration) -> Option<Access> {
        let millis = self.0.get("expiry_date")?.as_u64()?;
        let ends = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))?;
        (ends > now + ahead).then_some(())?;
        Some(Access {
            token: self.text("access_token")?.into(),
            renew_at: ends.checked_sub(RENEWED_AHEAD)?,
        })
    }

    fn renew(&mut self, grant: &Grant, now: SystemTime) {
        let ends = (now + grant.expires_in)
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let ends = u64::try_from(ends.as_millis()).unwrap_or(u64::MAX);
        let mut set = |name: &str, value: Value| self.0.insert(name.to_owned(), value);
        set("access_token", grant.access_token.expose_secret().into());
        if let Some(token) = &grant.refresh_token {
            set("refresh_token", token.expose_secret().into());
        }
        if let Some(scope) = &grant.scope {
            set("scope", scope.as_str().into());
        }
        set("token_type", "Bearer".into());
        set("expiry_date", ends.into());
    }
}

/// The token file of one account, while nobody else reads or writes it.
struct TokenFile(Arc<Locked>);

struct Locked {
    path: PathBuf,
    _guard: OwnedMutexGuard<()>,
}

impl TokenFile {
    fn new(path: PathBuf, guard: OwnedMutexGuard<()>) -> Self {
        Self(Arc::new(Locked {
            path,
            _guard: guard,
        }))
    }

    async fn load(&self) -> Result<Option<Tokens>, TokenError> {
        self.work(read).await
    }

    async fn save(&self, tokens: Tokens) -> Result<(), TokenError> {
        self.work(move |path| {
            let mut text = serde_json::to_vec_pretty(&Value::Object(tokens.0))?;
            text.push(b'\n');
            write_whole(path, &text)
        })
        .await
    }

    async fn remove(&self) -> Result<(), TokenError> {
        self.work(remove).await
    }

    /// Works on the file where that cannot hold requests up. The work goes on when the caller is dropped, and the lock
    /// lasts until it is done: else it could undo what somebody else has written meanwhile.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, TokenError> {
        let locked = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || work(&locked.path)).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(TokenError::File(io::Error::other(
                "the file work ended early",
            ))),
        }
    }
}

fn read(path: &Path) -> io::Result<Option<Tokens>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    close_to_others(&file)?;
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(corrupt("it is too long"));
    }
    // The parser's message could show a part of the file.
    match serde_json::from_slice(&text) {
        Ok(Value::Object(members)) => Ok(Some(Tokens(members))),
        _ => Err(corrupt("it does not hold a JSON object")),
    }
}

/// What is wrong is in the file and not in the way to it.
fn corrupt(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Writes a file so that at no moment anybody but its owner can read it, and that whoever reads it finds the
/// old or the new content as a whole: a file of its own that is created for its owner alone, then renamed.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    // `file` alone has the parent ``.
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    create_folder(folder)?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let random = u64::from_ne_bytes(random);
    let temporary = folder.join(format!(".{}.{random:016x}.tmp", name.to_string_lossy()));
    let written = create_private(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    });
    if let Err(error) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    // Not every file system can sync a folder.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn create_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    // One that was there already has kept its mode.
    close_folder(folder);
    Ok(())
}

/// Takes the rights that others have to the folder away, if it is this program's own, and says that they had them.
#[cfg(unix)]
fn close_folder(folder: &Path) {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    // Without it there is nothing to close; whoever writes into it finds out what is wrong.
    let Ok((folder, metadata)) =
        File::open(folder).and_then(|folder| folder.metadata().map(|metadata| (folder, metadata)))
    else {
        return;
    };
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 == 0 || !metadata.is_dir() {
        return;
    }
    // A sticky one, such as /tmp, is there for everybody.
    let own = metadata.uid() == rustix::process::geteuid().as_raw() && mode & 0o1000 == 0;
    let closed = own
        && folder
            .set_permissions(std::fs::Permissions::from_mode(0o700))
            .is_ok();
    tracing::warn!(
        target: "security",
        event = "token_folder_open",
        mode = %format_args!("{mode:03o}"),
        closed,
        "Others than the owner have rights to the directory of the YouTube token files"
    );
}

#[cfg(not(unix))]
fn close_folder(_: &Path) {}

#[cfg(not(unix))]
fn create_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(folder)
}

/// Creates a file that is its owner's alone from its first moment. One that is there already is an error.
fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

/// Takes the rights that others have to a token file away, and says that they had them.
#[cfg(unix)]
fn close_to_others(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let closed = file.set_permissions(std::fs::Permissions::from_mode(0o600));
        tracing::warn!(
            target: "security",
            event = "token_file_open",
            mode = %format_args!("{mode:03o}"),
            closed = closed.is_ok(),
            "Others than the owner could read a YouTube token file"
        );
    }
    Ok(())
}

#[cfg(not(unix))]
fn close_to_others(_: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
