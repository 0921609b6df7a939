//! A stand-in for Google: OAuth with PKCE, and resumable uploads to YouTube.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use crate::edapi::pairs;

/// Google as far as an upload needs it: consent, `/token`, `/revoke`, `/upload/youtube/v3/videos`, the upload's own
/// URL and `/upload/youtube/v3/thumbnails/set`. It runs on a thread of its own.
///
/// It is strict. A code is good once, for the client and the redirect that it was issued to, and only with the
/// verifier of its challenge. A part of a video has to begin where the last one ended, to be a multiple of 256 KiB
/// unless it is the last, and to come with a valid access token. Of a video it keeps the length and a digest.
pub struct Google {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Something that a [`Google`] does wrong, once, at the next request that it fits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GoogleFault {
    /// Half of a part of a video arrives, then the connection breaks.
    BreakUpload,
    /// A part of a video arrives and is answered with this status.
    FailUpload(u16),
    /// A part of a video does not arrive and is answered with this status.
    LoseUpload(u16),
    /// Half of a part of a video is taken over, which is told properly.
    TakeHalf,
    /// A new upload is to go on at this URL.
    Location(String),
    /// A new upload is answered with this status.
    FailBegin(u16),
    /// The next request for a token is answered with this status and error.
    FailToken(u16, &'static str),
    /// The next revocation is answered with this status.
    FailRevoke(u16),
    /// The next thumbnail is answered with this status.
    FailThumbnail(u16),
    /// A grant comes without a refresh token.
    NoRefreshToken,
}

/// What a [`Google`] has been asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GoogleCalls {
    /// Codes that came to be exchanged.
    pub exchanges: usize,
    /// Refresh tokens that came to be exchanged.
    pub refreshes: usize,
    /// Tokens that came to be revoked.
    pub revocations: usize,
    /// Uploads that were begun.
    pub begun: usize,
    /// Parts of videos.
    pub parts: usize,
    /// Questions how far an upload got.
    pub questions: usize,
    /// Uploads that were cancelled.
    pub cancelled: usize,
    /// Thumbnails.
    pub thumbnails: usize,
    /// Everything else.
    pub others: usize,
}

impl GoogleCalls {
    /// All of them.
    #[must_use]
    pub const fn all(&self) -> usize {
        self.exchanges
            + self.refreshes
            + self.revocations
            + self.begun
            + self.parts
            + self.questions
            + self.cancelled
            + self.thumbnails
            + self.others
    }
}

/// A video that arrived as a whole.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GoogleVideo {
    /// Its id.
    pub id: String,
    /// What was said about it.
    pub resource: Value,
    /// The query of the request that began it.
    pub query: String,
    /// Its type.
    pub content_type: String,
    /// How many bytes it has.
    pub length: u64,
    /// SHA-256 of its first 32 MiB, in hexadecimal digits.
    pub sha256: String,
    /// Whether all of its bytes are zero.
    pub is_zero: bool,
    /// Its picture.
    pub thumbnail: Option<Bytes>,
}

#[derive(Default)]
struct State {
    clients: HashMap<String, (String, String)>,
    codes: HashMap<String, Code>,
    refresh_tokens: HashMap<String, String>,
    access_tokens: Vec<String>,
    uploads: HashMap<String, Upload>,
    videos: Vec<GoogleVideo>,
    faults: VecDeque<GoogleFault>,
    calls: GoogleCalls,
    /// What was wrong with requests.
    complaints: Vec<String>,
    token_lifetime: u64,
    token_delay: Duration,
    issued: usize,
}

struct Code {
    client: String,
    redirect: String,
    challenge: String,
    scope: String,
}

struct Upload {
    resource: Value,
    query: String,
    content_type: String,
    length: u64,
    digest: Sha256,
    is_zero: bool,
    video: Option<String>,
}

impl Upload {
    fn take(&mut self, data: &[u8]) {
        const DIGESTED: u64 = 32 << 20;
        static ZEROS: [u8; 65_536] = [0; 65_536];
        if self.length < DIGESTED {
            let room = usize::try_from(DIGESTED - self.length).unwrap_or(usize::MAX);
            self.digest.update(&data[..data.len().min(room)]);
        }
        self.length += data.len() as u64;
        // Compared as a whole, which is fast without optimization too.
        let mut pieces = data.chunks(ZEROS.len());
        self.is_zero &= pieces.all(|piece| *piece == ZEROS[..piece.len()]);
    }
}

type Answer = Response<Full<Bytes>>;

impl Google {
    /// A Google that knows one OAuth client with this one redirect.
    #[must_use]
    pub fn start(client_id: &str, client_secret: &str, redirect_uri: &str) -> Self {
        let state = State {
            clients: HashMap::from([(
                client_id.to_owned(),
                (client_secret.to_owned(), redirect_uri.to_owned()),
            )]),
            token_lifetime: 3600,
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind(crate::ANY_PORT).expect("a free port");
        listener
            .set_nonblocking(true)
            .expect("a non-blocking socket");
        let addr = listener.local_addr().expect("a bound address");
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("google".to_owned())
            .spawn(move || run(listener, addr, &shared, stopped))
            .expect("a thread");
        Self {
            addr,
            state,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// `http://127.0.0.1:PORT` followed by `path`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// What `youtube.endpoints` should say, as YAML in one line.
    #[must_use]
    pub fn endpoints(&self) -> String {
        format!(
            "{{authorize: '{}', token: '{}', revoke: '{}', api: '{}'}}",
            self.url("/o/oauth2/v2/auth"),
            self.url("/token"),
            self.url("/revoke"),
            self.url("")
        )
    }

    /// Does what a user does who is sent to `auth_url` and says yes; returns the URL that the browser is sent back
    /// to. Panics if Google would show an error instead.
    #[must_use]
    pub fn consent(&self, auth_url: &str) -> String {
        let query = self.question(auth_url);
        let mut state = self.lock();
        let client = &query["client_id"];
        let (_, redirect) = state.clients.get(client).expect("a client that is known");
        let redirect = redirect.clone();
        state.issued += 1;
        let code = format!("4/code+{}", state.issued);
        state.codes.insert(
            code.clone(),
            Code {
                client: client.clone(),
                redirect: redirect.clone(),
                challenge: query["code_challenge"].clone(),
                scope: query["scope"].clone(),
            },
        );
        let code = code.replace('/', "%2F").replace('+', "%2B");
        format!("{redirect}?state={}&code={code}&scope=x", query["state"])
    }

    /// The same for a user who says no.
    #[must_use]
    pub fn decline(&self, auth_url: &str) -> String {
        let query = self.question(auth_url);
        let redirect = &query["redirect_uri"];
        format!("{redirect}?error=access_denied&state={}", query["state"])
    }

    fn question(&self, auth_url: &str) -> HashMap<String, String> {
        let (url, query) = auth_url.split_once('?').expect("a query");
        assert_eq!(url, self.url("/o/oauth2/v2/auth"));
        let query = pairs(query);
        let state = self.lock();
        let (_, redirect) = state
            .clients
            .get(&query["client_id"])
            .expect("a client that is known");
        assert_eq!(&query["redirect_uri"], redirect, "redirect_uri_mismatch");
        assert_eq!(query["response_type"], "code");
        assert_eq!(query["code_challenge_method"], "S256");
        assert_eq!(query["code_challenge"].len(), 43);
        assert_eq!(query["access_type"], "offline");
        query
    }

    /// Does this wrong, once, after what was asked for before.
    pub fn fail(&self, fault: GoogleFault) {
        self.lock().faults.push_back(fault);
    }

    /// From now on access tokens are good for so long.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.lock().token_lifetime = lifetime.as_secs();
    }

    /// From now on a request for a token takes so long.
    pub fn set_token_delay(&self, delay: Duration) {
        self.lock().token_delay = delay;
    }

    /// From now on no access token that was issued is good.
    pub fn forget_access_tokens(&self) {
        self.lock().access_tokens.clear();
    }

    /// From now on no refresh token that was issued is good.
    pub fn forget_refresh_tokens(&self) {
        self.lock().refresh_tokens.clear();
    }

    /// What it has been asked for.
    #[must_use]
    pub fn calls(&self) -> GoogleCalls {
        self.lock().calls.clone()
    }

    /// The videos that have arrived, in that order.
    #[must_use]
    pub fn videos(&self) -> Vec<GoogleVideo> {
        self.lock().videos.clone()
    }

    /// What was wrong with requests.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.lock().complaints.clone()
    }

    /// Every token that was issued, for a search through logs.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let state = self.lock();
        let mut all = state.access_tokens.clone();
        all.extend(state.refresh_tokens.keys().cloned());
        all.extend(state.uploads.keys().cloned());
        all
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl fmt::Debug for Google {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Google")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Drop for Google {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    listener: TcpListener,
    addr: SocketAddr,
    state: &Arc<Mutex<State>>,
    mut stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a run time");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        loop {
            let stream = tokio::select! {
                _ = &mut stopped => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(_) => continue,
                },
            };
            let state = Arc::clone(state);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let state = Arc::clone(&state);
                    async move { answer(&state, addr, request).await }
                });
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
}

/// Breaks the connection.
#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection breaks off")
    }
}

impl std::error::Error for Broken {}

async fn answer(
    state: &Mutex<State>,
    addr: SocketAddr,
    request: Request<Incoming>,
) -> Result<Answer, Broken> {
    let path = request.uri().path().to_owned();
    Ok(match (request.method(), path.as_str()) {
        (&Method::POST, "/token") => token(state, request).await?,
        (&Method::POST, "/revoke") => revoke(state, request).await?,
        (&Method::POST, "/upload/youtube/v3/videos") => begin(state, addr, request).await?,
        (&Method::POST, "/upload/youtube/v3/thumbnails/set") => thumbnail(state, request).await?,
        (method, path) => match (path.strip_prefix("/upload/session/"), method) {
            (Some(id), &Method::PUT) => part(state, id, request).await?,
            (Some(id), &Method::DELETE) => {
                let mut state = lock(state);
                state.calls.cancelled += 1;
                let known = state.uploads.remove(id).is_some();
                plain(if known { 499 } else { 404 })
            }
            _ => {
                lock(state).calls.others += 1;
                plain(404)
            }
        },
    })
}

async fn token(state: &Mutex<State>, request: Request<Incoming>) -> Result<Answer, Broken> {
    let fields = form(request).await?;
    let delay = lock(state).token_delay;
    tokio::time::sleep(delay).await;
    let mut state = lock(state);
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let is_code = field("grant_type") == "authorization_code";
    if is_code {
        state.calls.exchanges += 1;
    } else {
        state.calls.refreshes += 1;
    }
    let failed = state.fault(|fault| match fault {
        GoogleFault::FailToken(status, error) => Some((*status, *error)),
        _ => None,
    });
    if let Some((status, error)) = failed {
        return Ok(json_answer(status, &json!({"error": error})));
    }
    let client = field("client_id");
    let secret = state.clients.get(client).map(|(secret, _)| secret.as_str());
    if secret != Some(field("client_secret")) {
        return Ok(state.complain(401, "invalid_client"));
    }
    let scope = if is_code {
        // Whatever comes of it, a code is good once.
        let Some(code) = state.codes.remove(field("code")) else {
            return Ok(state.complain(400, "invalid_grant"));
        };
        let verifier = field("code_verifier");
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        if code.client != client
            || code.redirect != field("redirect_uri")
            || !(43..=128).contains(&verifier.len())
            || code.challenge != challenge
        {
            return Ok(state.complain(400, "invalid_grant"));
        }
        code.scope
    } else {
        match state.refresh_tokens.get(field("refresh_token")) {
            Some(scope) => scope.clone(),
            None => return Ok(state.complain(400, "invalid_grant")),
        }
    };
    state.issued += 1;
    let access = format!("ya29.access-token-{:06}", state.issued);
    state.access_tokens.push(access.clone());
    let mut answer = json!({
        "access_token": access,
        "expires_in": state.token_lifetime,
        "scope": scope,
        "token_type": "Bearer",
    });
    let without = state.fault(|fault| (*fault == GoogleFault::NoRefreshToken).then_some(()));
    if is_code && without.is_none() {
        let refresh = format!("1//refresh-token-{:06}", state.issued);
        state.refresh_tokens.insert(refresh.clone(), scope);
        answer["refresh_token"] = refresh.into();
    }
    Ok(json_answer(200, &answer))
}

async fn revoke(state: &Mutex<State>, request: Request<Incoming>) -> Result<Answer, Broken> {
    let fields = form(request).await?;
    let mut state = lock(state);
    state.calls.revocations += 1;
    let failed = state.fault(|fault| match fault {
        GoogleFault::FailRevoke(status) => Some(*status),
        _ => None,
    });
    if let Some(status) = failed {
        return Ok(plain(status));
    }
    let token = fields.get("token").map_or("", String::as_str);
    if state.refresh_tokens.remove(token).is_none() {
        return Ok(json_answer(400, &json!({"error": "invalid_token"})));
    }
    state.access_tokens.clear();
    Ok(json_answer(200, &json!({})))
}

async fn begin(
    state: &Mutex<State>,
    addr: SocketAddr,
    request: Request<Incoming>,
) -> Result<Answer, Broken> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
    let mut state = lock(state);
    state.calls.begun += 1;
    let failed = state.fault(|fault| match fault {
        GoogleFault::FailBegin(status) => Some(*status),
        _ => None,
    });
    if let Some(status) = failed {
        let error = json!({"error": {"errors": [{"reason": "forTest"}]}});
        return Ok(json_answer(status, &error));
    }
    if !state.lets_in(&head.headers) {
        return Ok(plain(401));
    }
    let query = head.uri.query().unwrap_or_default().to_owned();
    if pairs(&query).get("uploadType").map(String::as_str) != Some("resumable") {
        return Ok(state.complain(400, "uploadType"));
    }
    let Ok(resource) = serde_json::from_slice::<Value>(&body) else {
        return Ok(state.complain(400, "parseError"));
    };
    state.issued += 1;
    let id = format!("upload-session-{:06}", state.issued);
    let location = state.fault(|fault| match fault {
        GoogleFault::Location(url) => Some(url.clone()),
        _ => None,
    });
    let location =
        location.unwrap_or_else(|| format!("http://{addr}/upload/session/{id}?upload_id={id}"));
    let content_type = text(&head.headers, "x-upload-content-type").to_owned();
    state.uploads.insert(
        id,
        Upload {
            resource,
            query,
            content_type,
            length: 0,
            digest: Sha256::new(),
            is_zero: true,
            video: None,
        },
    );
    let mut answer = plain(200);
    let location = location.parse().expect("a URL");
    answer
        .headers_mut()
        .insert(http::header::LOCATION, location);
    Ok(answer)
}

/// What a `Content-Range` says: the first and the last byte (`None` for a question) and the total, if known.
type ContentRange = (Option<(u64, u64)>, Option<u64>);

fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let (range, total) = text(headers, "content-range")
        .strip_prefix("bytes ")?
        .split_once('/')?;
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let range = match range {
        "*" => None,
        range => {
            let (first, last) = range.split_once('-')?;
            Some((first.parse().ok()?, last.parse().ok()?))
        }
    };
    Some((range, total))
}

async fn part(
    state: &Mutex<State>,
    id: &str,
    request: Request<Incoming>,
) -> Result<Answer, Broken> {
    let (head, mut body) = request.into_parts();
    let Some((range, total)) = content_range(&head.headers) else {
        return Ok(lock(state).complain(400, "Content-Range"));
    };
    let plan = {
        let mut state = lock(state);
        if !state.lets_in(&head.headers) {
            return Ok(plain(401));
        }
        let Some(upload) = state.uploads.get(id) else {
            return Ok(plain(404));
        };
        let (length, done) = (upload.length, upload.video.is_some());
        let Some((first, last)) = range else {
            state.calls.questions += 1;
            return Ok(if done {
                state.resource(id)
            } else {
                progress(length)
            });
        };
        state.calls.parts += 1;
        let declared = text(&head.headers, "content-length").parse().ok();
        if first != length || declared != Some(last + 1 - first) {
            return Ok(state.complain(400, "a part does not follow the last one"));
        }
        if total.is_none() && (last + 1 - first) % (256 * 1024) != 0 {
            return Ok(state.complain(400, "a part is no multiple of 256 KiB"));
        }
        if total.is_some_and(|total| total != last + 1) {
            return Ok(state.complain(400, "the last part does not end the video"));
        }
        let fault = state.fault(|fault| {
            matches!(
                fault,
                GoogleFault::BreakUpload
                    | GoogleFault::FailUpload(_)
                    | GoogleFault::LoseUpload(_)
                    | GoogleFault::TakeHalf
            )
            .then(|| fault.clone())
        });
        (fault, last + 1 - first)
    };
    let (fault, mut left) = plan;
    match fault {
        Some(GoogleFault::LoseUpload(_)) => left = 0,
        Some(GoogleFault::BreakUpload | GoogleFault::TakeHalf) => {
            // What is taken over ends at a multiple of 256 KiB, as Google's does.
            left = (left / 2) / (256 * 1024) * (256 * 1024);
        }
        _ => {}
    }
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Broken)?.into_data() else {
            continue;
        };
        let taken = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        left -= taken as u64;
        {
            let mut state = lock(state);
            let Some(upload) = state.uploads.get_mut(id) else {
                return Ok(plain(404));
            };
            upload.take(&data[..taken]);
        }
        if left == 0 && fault == Some(GoogleFault::BreakUpload) {
            return Err(Broken);
        }
    }
    let mut state = lock(state);
    let Some(upload) = state.uploads.get(id) else {
        return Ok(plain(404));
    };
    let length = upload.length;
    if total == Some(length) {
        state.complete(id);
    }
    Ok(match fault {
        Some(GoogleFault::FailUpload(status) | GoogleFault::LoseUpload(status)) => plain(status),
        _ if total == Some(length) => state.resource(id),
        _ => progress(length),
    })
}

async fn thumbnail(state: &Mutex<State>, request: Request<Incoming>) -> Result<Answer, Broken> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
    let mut state = lock(state);
    state.calls.thumbnails += 1;
    let failed = state.fault(|fault| match fault {
        GoogleFault::FailThumbnail(status) => Some(*status),
        _ => None,
    });
    if let Some(status) = failed {
        return Ok(plain(status));
    }
    if !state.lets_in(&head.headers) {
        return Ok(plain(401));
    }
    let query = pairs(head.uri.query().unwrap_or_default());
    let id = query.get("videoId").map_or("", String::as_str);
    match state.videos.iter_mut().find(|video| video.id == id) {
        Some(video) => {
            video.thumbnail = Some(body);
            Ok(json_answer(
                200,
                &json!({"kind": "youtube#thumbnailSetResponse"}),
            ))
        }
        None => Ok(state.complain(404, "videoNotFound")),
    }
}

impl State {
    fn fault<T>(&mut self, fits: impl Fn(&GoogleFault) -> Option<T>) -> Option<T> {
        let index = self.faults.iter().position(|fault| fits(fault).is_some())?;
        self.faults.remove(index).as_ref().and_then(fits)
    }

    fn complain(&mut self, status: u16, error: &str) -> Answer {
        self.complaints.push(error.to_owned());
        json_answer(status, &json!({"error": error}))
    }

    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let token = text(headers, "authorization").strip_prefix("Bearer ");
        token.is_some_and(|token| self.access_tokens.iter().any(|known| known == token))
    }

    fn complete(&mut self, id: &str) {
        self.issued += 1;
        let video = format!("vid_{:07}", self.issued);
        let Some(upload) = self.uploads.get_mut(id) else {
            return;
        };
        upload.video = Some(video.clone());
        let digest = std::mem::take(&mut upload.digest).finalize();
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.videos.push(GoogleVideo {
            id: video,
            resource: upload.resource.clone(),
            query: upload.query.clone(),
            content_type: upload.content_type.clone(),
            length: upload.length,
            sha256,
            is_zero: upload.is_zero,
            thumbnail: None,
        });
    }

    fn resource(&self, id: &str) -> Answer {
        let upload = self.uploads.get(id).expect("an upload that is known");
        let mut resource = upload.resource.clone();
        resource["kind"] = "youtube#video".into();
        resource["id"] = upload.video.clone().into();
        json_answer(200, &resource)
    }
}

async fn form(request: Request<Incoming>) -> Result<HashMap<String, String>, Broken> {
    let body = request.into_body().collect().await.map_err(|_| Broken)?;
    Ok(pairs(&String::from_utf8_lossy(&body.to_bytes())))
}

fn progress(length: u64) -> Answer {
    let mut answer = plain(308);
    if length > 0 {
        let range = format!("bytes=0-{}", length - 1);
        let range = range.parse().expect("a range");
        answer.headers_mut().insert(http::header::RANGE, range);
    }
    answer
}

fn plain(status: u16) -> Answer {
    Response::builder()
        .status(status)
        .body(Full::default())
        .expect("a status")
}

fn json_answer(status: u16, value: &Value) -> Answer {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Full::from(value.to_string()))
        .expect("a status")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
