use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE,
    REFERRER_POLICY, SET_COOKIE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, request};
use percent_encoding::percent_decode_str;
use proactions_edge::{
    ClientInfo, Clock, ExposeSecret as _, JsonRejection, Rejection, RejectionKind, RenderRejection,
    RequestId, SystemClock,
};
use proactions_forward::{Body, HttpClient};
use serde_json::json;
use tokio::sync::Semaphore;
use tower_service::Service;

use crate::endpoint::Endpoint;
use crate::event::{Entry, Refusal};
use crate::google;
use crate::metadata::Metadata;
use crate::multipart::{Multipart, Part};
use crate::state::{PendingStates, STATE_LIFETIME, StateFault};
use crate::tokens::{Locks, Revocation, TokenStore};
use crate::upload::{Caller, Session, Video};
use crate::{YoutubeAccount, YoutubeAccounts};

const TARGET: HeaderName = HeaderName::from_static("x-target");

const SECURE_COOKIE: &str = "__Host-proactions_oauth";
const PLAIN_COOKIE: &str = "proactions_oauth";

const NOT_REVOKED: &str = "The tokens are deleted here, but Google did not revoke them; remove the access at \
                           https://myaccount.google.com/permissions";

const NOT_READ: &str = "The token file was damaged and is deleted; nothing was revoked at Google, remove the access at \
                        https://myaccount.google.com/permissions";

/// How long a field of a form may be, in bytes.
const MAX_FIELD: usize = 64 * 1024;

/// How large a thumbnail may be, in bytes: what YouTube takes.
const MAX_THUMBNAIL: usize = 2 * 1024 * 1024;

/// How long a parameter of the callback may be, in bytes.
const MAX_PARAMETER: usize = 2048;

/// Serves `/youtube/*`: consent at Google, and uploads. See the crate's documentation.
#[derive(Clone)]
pub struct YouTube<R = JsonRejection> {
    shared: Arc<Shared>,
    pause: Duration,
    renderer: R,
}

struct Shared {
    accounts: YoutubeAccounts,
    client: HttpClient,
    clock: Arc<dyn Clock>,
    states: Arc<PendingStates>,
    tokens: TokenStore,
    places: Arc<Semaphore>,
}

impl YouTube {
    /// How many uploads run at a time unless [`YouTube::with_settings`] says otherwise.
    pub const MAX_UPLOADS: usize = 8;

    /// A service for these accounts, which calls Google through `client`.
    ///
    /// # Errors
    /// When the operating system has no random bytes to give.
    pub fn new(accounts: YoutubeAccounts, client: HttpClient) -> Result<Self, getrandom::Error> {
        Self::with_settings(accounts, client, SystemClock::new(), Self::MAX_UPLOADS)
    }

    /// The same with a clock, and with a number of uploads that run at a time; each holds 8 MiB of its video in
    /// memory, and one too many is answered 503.
    ///
    /// # Errors
    /// When the operating system has no random bytes to give.
    pub fn with_settings(
        accounts: YoutubeAccounts,
        client: HttpClient,
        clock: impl Clock,
        max_uploads: usize,
    ) -> Result<Self, getrandom::Error> {
        let clock: Arc<dyn Clock> = Arc::new(clock);
        let tokens = TokenStore::new(
            accounts.clone(),
            client.clone(),
            Arc::clone(&clock),
            Locks::default(),
        );
        Ok(Self {
            shared: Arc::new(Shared {
                accounts,
                client,
                clock,
                states: Arc::new(PendingStates::new()?),
                tokens,
                places: Arc::new(Semaphore::new(max_uploads.min(Semaphore::MAX_PERMITS))),
            }),
            pause: Duration::from_secs(1),
            renderer: JsonRejection,
        })
    }
}

impl<R> YouTube<R> {
    /// Renders refusals in another way than [`JsonRejection`].
    #[must_use]
    pub fn rendering<R2>(self, renderer: R2) -> YouTube<R2> {
        YouTube {
            shared: self.shared,
            pause: self.pause,
            renderer,
        }
    }

    /// Sets the pause before a failed call of the upload is tried again, which doubles with each further failure in
    /// a row; one second unless set.
    #[must_use]
    pub const fn retry_pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// The same service with other accounts or another client, for a configuration that is read again: consents
    /// and uploads under way go on and count as before.
    #[must_use]
    pub fn with_accounts(self, accounts: YoutubeAccounts, client: HttpClient) -> Self {
        let before = &*self.shared;
        let clock = Arc::clone(&before.clock);
        let locks = before.tokens.locks();
        let tokens = TokenStore::new(accounts.clone(), client.clone(), Arc::clone(&clock), locks);
        let shared = Shared {
            accounts,
            client,
            clock,
            states: Arc::clone(&before.states),
            tokens,
            places: Arc::clone(&before.places),
        };
        Self {
            shared: Arc::new(shared),
            ..self
        }
    }

    async fn answer(
        &self,
        endpoint: Endpoint,
        request: Request<Body>,
        entry: &mut Entry,
    ) -> Result<Response<Body>, Refusal> {
        let (head, body) = request.into_parts();
        let shared = &*self.shared;
        if endpoint == Endpoint::Callback {
            return shared.callback(&head, entry).await;
        }
        let account = shared.account(&head.headers)?;
        entry.target = Some(account.id.as_str().into());
        match endpoint {
            Endpoint::Authorize => shared.authorize(account, &head, entry),
            Endpoint::Logout => shared.logout(account, entry).await,
            Endpoint::Upload => {
                let caller = Caller::new(
                    &shared.client,
                    shared.accounts.urls(),
                    &shared.tokens,
                    account,
                    &*shared.clock,
                    self.pause,
                );
                shared.upload(caller, &head, body, entry).await
            }
            Endpoint::Callback | Endpoint::Status => {
                let connected = shared.tokens.is_connected(account).await?;
                entry.done(if connected {
                    "connected"
                } else {
                    "not_connected"
                });
                Ok(json_answer(
                    &json!({"authenticated": connected, "target": account.id}),
                ))
            }
        }
    }
}

impl Shared {
    /// The account that `x-target` names, or the only one.
    fn account(&self, headers: &HeaderMap) -> Result<&YoutubeAccount, Refusal> {
        let mut names = headers.get_all(TARGET).iter();
        let name = names.next().filter(|name| !name.is_empty());
        if names.next().is_some() {
            return Err(Refusal::bad("Header x-target is given more than once"));
        }
        match (name, self.accounts.accounts()) {
            (None, [account]) => Ok(account),
            (None, _) => Err(Refusal::bad("Header x-target is required")),
            (Some(name), _) => name
                .to_str()
                .ok()
                .and_then(|name| self.accounts.get(name))
                .ok_or_else(|| {
                    Rejection::new(RejectionKind::NotFound)
                        .with_message("Account not found")
                        .into()
                }),
        }
    }

    /// The first half: a URL for the browser, and a cookie that ties the second half to it.
    fn authorize(
        &self,
        account: &YoutubeAccount,
        head: &request::Parts,
        entry: &mut Entry,
    ) -> Result<Response<Body>, Refusal> {
        // A browser takes neither the prefix nor a secure cookie over plain HTTP.
        let secure = head
            .extensions
            .get::<ClientInfo>()
            .is_none_or(|client| client.scheme.is_https());
        let username = entry.username.clone();
        let begun = self
            .states
            .begin(&account.id, secure, username, self.clock.now())?;
        let url = google::authorize_url(self.accounts.urls(), account, &begun)
            .map_err(google::GoogleError::from)?;
        let mut answer = json_answer(&json!({"authUrl": url}));
        let age = STATE_LIFETIME.as_secs();
        set_cookie(&mut answer, secure, begun.cookie.expose_secret(), age)?;
        entry.done("begun");
        Ok(answer)
    }

    /// The second half: Google has sent the browser here.
    async fn callback(
        &self,
        head: &request::Parts,
        entry: &mut Entry,
    ) -> Result<Response<Body>, Refusal> {
        let query = head.uri.query().unwrap_or_default();
        let state = parameter(query, "state")?.ok_or_else(|| doubted(head, None))?;
        let cookie = |secure| cookie(&head.headers, secure);
        let context = self
            .states
            .take(&state, cookie, self.clock.now())
            .map_err(|fault| doubted(head, Some(fault)))?;
        entry.username.clone_from(&context.username);
        entry.target = Some(Arc::clone(&context.account));
        if parameter(query, "error")?.is_some() {
            return Err(Refusal::bad("Google did not grant access"));
        }
        let code = parameter(query, "code")?
            .filter(|code| !code.is_empty() && code.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or_else(|| Refusal::bad("The code of the authorization is missing"))?;
        let account = self
            .accounts
            .get(&context.account)
            .ok_or_else(|| Refusal::bad("Account not found"))?;
        let urls = self.accounts.urls();
        let grant = google::exchange(&self.client, urls, account, &code, &context.verifier).await?;
        self.tokens.connect(account, &grant).await?;
        entry.done("connected");
        let mut answer = if wants_page(&head.headers) {
            page(
                StatusCode::OK,
                "Connected",
                "The YouTube account is connected. You can close this window.",
            )
        } else {
            json_answer(&json!({"authenticated": true, "target": account.id}))
        };
        set_cookie(&mut answer, context.secure, "", 0)?;
        Ok(answer)
    }

    async fn logout(
        &self,
        account: &YoutubeAccount,
        entry: &mut Entry,
    ) -> Result<Response<Body>, Refusal> {
        let (outcome, message) = match self.tokens.disconnect(account).await? {
            Revocation::Done => ("revoked", None),
            Revocation::Nothing => ("nothing_to_revoke", None),
            Revocation::Failed(error) => {
                tracing::warn!(
                    target: "youtube",
                    action = "logout",
                    target = account.id,
                    error = %error,
                    "Google did not revoke a token whose file is deleted"
                );
                ("not_revoked", Some(NOT_REVOKED))
            }
            Revocation::Unknown(error) => {
                tracing::warn!(
                    target: "youtube",
                    action = "logout",
                    target = account.id,
                    error = %error,
                    "A damaged token file is deleted; its tokens could not be revoked at Google"
                );
                ("not_revoked", Some(NOT_READ))
            }
        };
        entry.done(outcome);
        let revoked = outcome == "revoked";
        let id = &account.id;
        Ok(json_answer(&match message {
            None => json!({"authenticated": false, "target": id, "revoked": revoked}),
            Some(message) => {
                json!({"authenticated": false, "target": id, "revoked": revoked, "message": message})
            }
        }))
    }

    async fn upload(
        &self,
        mut caller: Caller<'_>,
        head: &request::Parts,
        body: Body,
        entry: &mut Entry,
    ) -> Result<Response<Body>, Refusal> {
        let Ok(_place) = self.places.try_acquire() else {
            let busy = Rejection::new(RejectionKind::Unavailable)
                .with_message("Too many uploads are running")
                .with_retry_after(Duration::from_secs(30));
            return Err(busy.into());
        };
        if head.headers.contains_key(CONTENT_ENCODING) {
            return Err(Refusal::bad("Content-Encoding is not supported"));
        }
        let content_type = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let mut form = Multipart::new(content_type, body)?;
        let mut session = None;
        let sent = send_form(&mut form, &mut caller, &mut session, entry).await;
        let (video, thumbnail) = match sent {
            Ok(sent) => sent,
            Err(refusal) => {
                if let Some(session) = &mut session {
                    session.cancel(&mut caller).await;
                }
                return Err(refusal);
            }
        };
        let (outcome, picture) = match thumbnail {
            None => ("uploaded", "none"),
            Some(Thumbnail { media_type, bytes }) => {
                match caller.set_thumbnail(&video.id, &media_type, &bytes).await {
                    Ok(()) => ("uploaded", "set"),
                    // The video is there; that stays the answer.
                    Err(refusal) => {
                        tracing::warn!(
                            target: "youtube",
                            action = "thumbnail",
                            target = caller.account.id,
                            error = %refusal,
                            "The thumbnail of a video was not set"
                        );
                        ("uploaded_without_thumbnail", "failed")
                    }
                }
            }
        };
        entry.done(outcome);
        Ok(json_answer(&json!({
            "id": video.id,
            "target": caller.account.id,
            "thumbnail": picture,
            "video": video.resource,
        })))
    }
}

/// A callback that nobody here asked for.
fn doubted(head: &request::Parts, fault: Option<StateFault>) -> Refusal {
    tracing::warn!(
        target: "security",
        event = "oauth_state_refused",
        ip = head.extensions.get::<ClientInfo>().map(|client| tracing::field::display(client.ip)),
        requestId = head.extensions.get::<RequestId>().map(RequestId::as_str),
        reason = fault.map_or("there is no state", StateFault::as_str),
        "An OAuth callback was refused"
    );
    Refusal::bad("The authorization is unknown, has been used or has expired; please begin again")
}

struct Thumbnail {
    media_type: HeaderValue,
    bytes: Bytes,
}

/// Reads the form and sends the video. The last part of the video goes out when all of the form is there and
/// good, so that no half of one and none with a bad form becomes public.
async fn send_form(
    form: &mut Multipart,
    caller: &mut Caller<'_>,
    session: &mut Option<Session>,
    entry: &mut Entry,
) -> Result<(Video, Option<Thumbnail>), Refusal> {
    let mut metadata = Some(Metadata::default());
    let mut thumbnail = None;
    while let Some(part) = form.next_part().await? {
        match part.name.as_str() {
            "video" => {
                let Some(metadata) = metadata.take() else {
                    return Err(Refusal::bad("The form has more than one video"));
                };
                let media_type =
                    media_type(&part, is_video, "The video must be of a type video/*")?;
                let (resource, query) = metadata.finish()?;
                let session = session.insert(caller.begin(&resource, &query, &media_type).await?);
                while let Some(data) = form.next_data().await? {
                    session.push(caller, data).await?;
                    entry.bytes = Some(session.length());
                }
                if session.length() == 0 {
                    return Err(Refusal::bad("The video is empty"));
                }
            }
            "thumbnail" => {
                let media_type =
                    media_type(&part, is_picture, "The thumbnail must be a JPEG or PNG")?;
                let too_large = "The thumbnail is larger than 2 MiB";
                let bytes = form.collect_data(MAX_THUMBNAIL, too_large).await?.freeze();
                if bytes.is_empty() || thumbnail.is_some() {
                    return Err(Refusal::bad("The form must have one thumbnail or none"));
                }
                thumbnail = Some(Thumbnail { media_type, bytes });
            }
            name => {
                let Some(metadata) = &mut metadata else {
                    return Err(Refusal::bad(
                        "Fields must stand before the video in the form",
                    ));
                };
                let text = form.collect_data(MAX_FIELD, "A field is too long").await?;
                let text = std::str::from_utf8(&text)
                    .map_err(|_| Refusal::bad("A field is not UTF-8 text"))?;
                metadata.add(name, text)?;
            }
        }
    }
    let session = session
        .as_mut()
        .ok_or_else(|| Refusal::bad("The form has no video"))?;
    let video = session.finish(caller).await?;
    Ok((video, thumbnail))
}

fn media_type(
    part: &Part,
    is_good: fn(&str) -> bool,
    message: &'static str,
) -> Result<HeaderValue, Refusal> {
    let media_type = match part.media_type.as_deref() {
        None => "application/octet-stream",
        Some(media_type) => media_type,
    };
    HeaderValue::from_str(media_type)
        .ok()
        .filter(|_| is_good(media_type))
        .ok_or_else(|| Refusal::bad(message))
}

fn is_video(media_type: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b);
    media_type == "application/octet-stream"
        || media_type
            .strip_prefix("video/")
            .is_some_and(|subtype| (1..=64).contains(&subtype.len()) && subtype.bytes().all(token))
}

fn is_picture(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/octet-stream" | "image/jpeg" | "image/png"
    )
}

/// A parameter of the query; twice, too long or not UTF-8 is an error.
fn parameter(query: &str, wanted: &str) -> Result<Option<String>, Refusal> {
    let mut found = None;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name != wanted {
            continue;
        }
        let value = value.replace('+', " ");
        let value = percent_decode_str(&value).decode_utf8().ok();
        let value = value.filter(|value| value.len() <= MAX_PARAMETER);
        let bad = || Refusal::bad("A parameter of the callback is malformed");
        if found.replace(value.ok_or_else(bad)?.into_owned()).is_some() {
            return Err(bad());
        }
    }
    Ok(found)
}

/// The browser's cookie. Two of the name are none: one of them may come from a neighbouring host.
fn cookie(headers: &HeaderMap, secure: bool) -> Option<&str> {
    let wanted = if secure { SECURE_COOKIE } else { PLAIN_COOKIE };
    let mut found = None;
    for line in headers.get_all(COOKIE) {
        // Byte by byte: the cookies of others on the host may hold anything.
        for pair in line.as_bytes().split(|b| *b == b';') {
            let mut parts = pair.splitn(2, |b| *b == b'=');
            if let (Some(name), Some(value)) = (parts.next(), parts.next())
                && name.trim_ascii() == wanted.as_bytes()
                && found.replace(value.trim_ascii()).is_some()
            {
                return None;
            }
        }
    }
    str::from_utf8(found?).ok()
}

fn set_cookie(
    answer: &mut Response<Body>,
    secure: bool,
    value: &str,
    age: u64,
) -> Result<(), Refusal> {
    let (name, attribute) = if secure {
        (SECURE_COOKIE, "; Secure")
    } else {
        (PLAIN_COOKIE, "")
    };
    // Lax, because the browser comes back from Google.
    let text = format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{attribute}");
    let mut value =
        HeaderValue::from_str(&text).map_err(|_| Rejection::new(RejectionKind::Internal))?;
    value.set_sensitive(true);
    answer.headers_mut().append(SET_COOKIE, value);
    Ok(())
}

fn json_answer(value: &serde_json::Value) -> Response<Body> {
    let content_type = HeaderValue::from_static("application/json; charset=utf-8");
    answer(StatusCode::OK, content_type, value.to_string())
}

fn answer(status: StatusCode, content_type: HeaderValue, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The URL holds a code; it stays here.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Whether a browser shows the answer.
fn wants_page(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|accept| {
        accept
            .as_bytes()
            .windows(9)
            .any(|part| part == b"text/html")
    })
}

/// A page without anything that a strict policy would stop. Both texts are this program's own.
fn page(status: StatusCode, title: &'static str, text: &'static str) -> Response<Body> {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\
         <body><h1>{title}</h1><p>{text}</p></body></html>\n"
    );
    let mut response = answer(
        status,
        HeaderValue::from_static("text/html; charset=utf-8"),
        html,
    );
    response.headers_mut().insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    response
}

impl<R> YouTube<R>
where
    R: RenderRejection<Body>,
{
    fn refuse(
        &self,
        rejection: Rejection,
        page_wanted: bool,
        id: Option<&RequestId>,
    ) -> Response<Body> {
        if !page_wanted {
            return rejection.into_response(&self.renderer, id);
        }
        let render = |rejection: &Rejection, _: Option<&RequestId>| {
            page(
                rejection.status(),
                "Not connected",
                "The YouTube account was not connected. Please begin again.",
            )
        };
        rejection.into_response(&render, id)
    }
}

impl<R> Service<Request<Body>> for YouTube<R>
where
    R: RenderRejection<Body> + Clone + Send + Sync + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = YouTubeFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> YouTubeFuture {
        let this = self.clone();
        YouTubeFuture(Box::pin(async move {
            let id = request.extensions().get::<RequestId>().cloned();
            let Some(endpoint) = Endpoint::at(request.uri().path()) else {
                let refused = Rejection::new(RejectionKind::NotFound);
                return refused.into_response(&this.renderer, id.as_ref());
            };
            let method = endpoint.method();
            if request.method() != method {
                let allow = match endpoint {
                    Endpoint::Logout | Endpoint::Upload => "POST",
                    Endpoint::Authorize | Endpoint::Callback | Endpoint::Status => "GET",
                };
                let refused = Rejection::new(RejectionKind::MethodNotAllowed)
                    .with_header(ALLOW, HeaderValue::from_static(allow));
                return refused.into_response(&this.renderer, id.as_ref());
            }
            let page_wanted = endpoint == Endpoint::Callback && wants_page(request.headers());
            let mut entry = Entry::new(endpoint, request.extensions());
            match this.answer(endpoint, request, &mut entry).await {
                Ok(response) => response,
                Err(refusal) => {
                    entry.refused(&refusal);
                    this.refuse(refusal.rejection, page_wanted, entry.request_id())
                }
            }
        }))
    }
}

impl<R> fmt::Debug for YouTube<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("YouTube")
            .field("accounts", &self.shared.accounts)
            .finish_non_exhaustive()
    }
}

/// The future of a [`YouTube`]. Dropping it ends the calls of Google; an upload that was not complete never
/// becomes a video.
#[must_use = "futures do nothing unless polled"]
pub struct YouTubeFuture(Pin<Box<dyn Future<Output = Response<Body>> + Send>>);

impl Future for YouTubeFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for YouTubeFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YouTubeFuture")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_those_of_others() {
        for (lines, found) in [
            (&[&b"a=1; proactions_oauth=v; b=2"[..]][..], Some("v")),
            (&[b"a=\xe9; proactions_oauth=v"], Some("v")),
            (&[b"\xff=1;=;;proactions_oauth = v=w "], Some("v=w")),
            (&[b"a=\xe9", b"proactions_oauth=v"], Some("v")),
            (&[b"proactions_oauth=\xe9"], None),
            (&[b"proactions_oauth=v; proactions_oauth=v"], None),
            (&[b"proactions_oauth=v", b"proactions_oauth=w"], None),
            (&[b"proactions_oauth"], None),
            (&[b"Proactions_oauth=v"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
            }
            assert_eq!(cookie(&headers, false), found, "{lines:?}");
        }
    }
}
