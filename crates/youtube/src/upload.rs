//! YouTube's resumable upload protocol, from a stream whose length is not known beforehand.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RANGE, RETRY_AFTER,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::{Frame, SizeHint};
use proactions_edge::{Clock, ExposeSecret as _};
use proactions_forward::{BaseUrl, Body, BoxError, HttpClient, Outgoing, UpstreamBody};
use serde_json::Value;

use crate::YoutubeAccount;
use crate::accounts::Urls;
use crate::event::Refusal;
use crate::google::{self, CALL_TIMEOUT, GoogleError};
use crate::tokens::{Access, TokenStore};

/// What is sent at once and kept until YouTube has it. A multiple of 256 KiB, as YouTube asks.
pub(crate) const CHUNK: usize = 8 * 1024 * 1024;

/// How a chunk is given to the connection, so that a slow line is seen to move.
const PIECE: usize = 64 * 1024;

/// How often in a row something may fail before the upload does.
const MAX_FAILURES: u32 = 5;

/// The longest pause before another attempt.
const MAX_PAUSE: Duration = Duration::from_secs(32);

/// How long YouTube may take to answer a chunk, from its last byte on.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(120);

const UPLOAD_TYPE: HeaderName = HeaderName::from_static("x-upload-content-type");

/// What every call needs.
pub(crate) struct Caller<'a> {
    pub(crate) client: &'a HttpClient,
    pub(crate) urls: &'a Urls,
    pub(crate) tokens: &'a TokenStore,
    pub(crate) account: &'a YoutubeAccount,
    pub(crate) clock: &'a dyn Clock,
    /// The pause after the first failure in a row.
    pub(crate) pause: Duration,
    access: Option<Access>,
}

impl<'a> Caller<'a> {
    pub(crate) const fn new(
        client: &'a HttpClient,
        urls: &'a Urls,
        tokens: &'a TokenStore,
        account: &'a YoutubeAccount,
        clock: &'a dyn Clock,
        pause: Duration,
    ) -> Self {
        Self {
            client,
            urls,
            tokens,
            account,
            clock,
            pause,
            access: None,
        }
    }

    /// The value of `Authorization`, renewed when it is about to end: an upload may outlast a token.
    async fn authorization(&mut self) -> Result<HeaderValue, Refusal> {
        let now = self.clock.now();
        let access = match self.access.take().filter(|access| access.renew_at > now) {
            Some(access) => access,
            None => self.tokens.access(self.account).await?,
        };
        let mut value = HeaderValue::from_str(&format!("Bearer {}", access.token.expose_secret()))
            .map_err(|_| Refusal::nonsense("the access token cannot stand in a header"))?;
        value.set_sensitive(true);
        self.access = Some(access);
        Ok(value)
    }

    /// After Google has refused the token.
    async fn renew(&mut self) -> Result<(), Refusal> {
        if let Some(stale) = self.access.take() {
            self.access = Some(self.tokens.access_after(self.account, &stale).await?);
        }
        Ok(())
    }

    async fn send(&mut self, outgoing: Outgoing) -> Result<Response<UpstreamBody>, Refusal> {
        let authorization = self.authorization().await?;
        let outgoing = outgoing.header(AUTHORIZATION, authorization);
        Ok(self
            .client
            .send(outgoing)
            .await
            .map_err(GoogleError::from)?)
    }

    /// Sends a request that may be sent again, and reads its answer.
    async fn call(
        &mut self,
        make: impl Fn() -> Result<Outgoing, GoogleError>,
    ) -> Result<(HeaderMap, Bytes), Refusal> {
        let mut failures = Failures::new(self.pause);
        let mut renewed = false;
        loop {
            let refusal = match self.send(make()?).await {
                Err(refusal) => refusal,
                Ok(answer) => {
                    let (status, headers) = (answer.status(), answer.headers().clone());
                    match google::read(answer).await {
                        Ok(body) => return Ok((headers, body)),
                        Err(_) if status == StatusCode::UNAUTHORIZED && !renewed => {
                            renewed = true;
                            self.renew().await?;
                            continue;
                        }
                        Err(error) if !is_passing(status) => return Err(error.into()),
                        Err(error) => error.into(),
                    }
                }
            };
            if !is_upstream_fault(&refusal) {
                return Err(refusal);
            }
            failures.pause(refusal, None).await?;
        }
    }

    /// Begins an upload: `POST …/videos?uploadType=resumable`.
    pub(crate) async fn begin(
        &mut self,
        resource: &str,
        query: &str,
        media_type: &HeaderValue,
    ) -> Result<Session, Refusal> {
        let api = &self.urls.api;
        let (headers, _) = self
            .call(|| {
                let tail = "/upload/youtube/v3/videos";
                Ok(Outgoing::new(Method::POST, api, tail, Some(query))?
                    .header(
                        CONTENT_TYPE,
                        HeaderValue::from_static("application/json; charset=UTF-8"),
                    )
                    .header(UPLOAD_TYPE, media_type.clone())
                    .timeout(CALL_TIMEOUT)
                    .body(resource.to_owned()))
            })
            .await?;
        let url = headers
            .get(LOCATION)
            .and_then(|location| location.to_str().ok())
            .and_then(|location| session_url(&self.urls.api, location))
            .ok_or_else(|| Refusal::nonsense("the upload's URL is missing or leads elsewhere"))?;
        Ok(Session {
            url,
            media_type: media_type.clone(),
            offset: 0,
            chunk: BytesMut::with_capacity(CHUNK),
        })
    }

    /// Sets the picture of a video: `POST …/thumbnails/set`.
    pub(crate) async fn set_thumbnail(
        &mut self,
        video: &str,
        media_type: &HeaderValue,
        picture: &Bytes,
    ) -> Result<(), Refusal> {
        let api = &self.urls.api;
        let query = format!("videoId={video}&uploadType=media");
        self.call(|| {
            let tail = "/upload/youtube/v3/thumbnails/set";
            Ok(Outgoing::new(Method::POST, api, tail, Some(&query))?
                .header(CONTENT_TYPE, media_type.clone())
                .timeout(CHUNK_TIMEOUT)
                .body(picture.clone()))
        })
        .await
        .map(|_| ())
    }
}

/// An upload under way.
pub(crate) struct Session {
    url: BaseUrl,
    media_type: HeaderValue,
    /// Where the chunk begins in the video.
    offset: u64,
    /// Filled up to [`CHUNK`], and sent when more comes or nothing does.
    chunk: BytesMut,
}

/// What YouTube says to a chunk or to the question how far it got.
enum Verdict {
    Complete(Bytes),
    /// It has this many bytes of the video.
    Has(u64),
    /// It may be better later.
    Later(Refusal, Option<Duration>),
    TokenRefused(Refusal),
}

impl Session {
    /// How long the video is so far.
    pub(crate) fn length(&self) -> u64 {
        self.offset + self.chunk.len() as u64
    }

    /// Takes more of the video. A full chunk is sent only when more follows, so that the last one, which makes it
    /// a video, is sent by [`Session::finish`] alone.
    pub(crate) async fn push(
        &mut self,
        caller: &mut Caller<'_>,
        mut data: Bytes,
    ) -> Result<(), Refusal> {
        while !data.is_empty() {
            if self.chunk.len() == CHUNK {
                self.send(caller, None).await?;
            }
            let room = CHUNK.saturating_sub(self.chunk.len());
            let part = data.split_to(room.min(data.len()));
            self.chunk.extend_from_slice(&part);
        }
        Ok(())
    }

    /// Sends the last chunk and returns YouTube's resource of the video.
    pub(crate) async fn finish(&mut self, caller: &mut Caller<'_>) -> Result<Video, Refusal> {
        let total = self.length();
        match self.send(caller, Some(total)).await? {
            Some(answer) => Video::of(&answer),
            None => Err(Refusal::nonsense("the upload ended without a video")),
        }
    }

    /// Tells YouTube to forget the upload. It would do so by itself after some days.
    pub(crate) async fn cancel(&mut self, caller: &mut Caller<'_>) {
        const PATIENCE: Duration = Duration::from_secs(5);
        if let Ok(outgoing) = Outgoing::new(Method::DELETE, &self.url, "", None) {
            let call = caller.send(outgoing.timeout(PATIENCE));
            let _ = tokio::time::timeout(PATIENCE, call).await;
        }
    }

    /// Sends what is there until YouTube has all of it. `total` is known with the last chunk.
    async fn send(
        &mut self,
        caller: &mut Caller<'_>,
        total: Option<u64>,
    ) -> Result<Option<Bytes>, Refusal> {
        let chunk = std::mem::take(&mut self.chunk).freeze();
        let end = self.offset + chunk.len() as u64;
        let mut has = self.offset;
        let mut asking = false;
        let mut failures = Failures::new(caller.pause);
        let answer = loop {
            let verdict = if asking {
                self.ask(caller, total).await
            } else {
                let sent = usize::try_from(has - self.offset).unwrap_or_default();
                self.put(caller, has, chunk.slice(sent.min(chunk.len())..), total)
                    .await
            };
            match verdict? {
                Verdict::Complete(answer) if total.is_some() => break Some(answer),
                Verdict::Complete(_) => {
                    return Err(Refusal::nonsense("the upload ended before its last part"));
                }
                Verdict::Has(now) if now < self.offset || now > end => {
                    return Err(Refusal::nonsense("the upload lost its place"));
                }
                Verdict::Has(now) if now == end && total.is_none() => break None,
                // To be asked is no failure of its own.
                Verdict::Has(now) if now < end && (asking || now > has) => {
                    if now > has {
                        failures = Failures::new(caller.pause);
                    }
                    has = now;
                    asking = false;
                }
                Verdict::Has(now) => {
                    // All of it is there without an answer, or nothing new arrived.
                    let stuck = Refusal::nonsense("the upload does not get on");
                    failures.pause(stuck, None).await?;
                    asking = now == end;
                    has = now;
                }
                Verdict::Later(refusal, wait) => {
                    failures.pause(refusal, wait).await?;
                    asking = true;
                }
                Verdict::TokenRefused(refusal) => {
                    failures.count(refusal)?;
                    caller.renew().await?;
                    asking = true;
                }
            }
        };
        self.offset = end;
        // One allocation serves all chunks, unless the connection still holds on to it.
        self.chunk = chunk
            .try_into_mut()
            .unwrap_or_else(|_| BytesMut::with_capacity(CHUNK));
        self.chunk.clear();
        Ok(answer)
    }

    async fn put(
        &self,
        caller: &mut Caller<'_>,
        start: u64,
        bytes: Bytes,
        total: Option<u64>,
    ) -> Result<Verdict, Refusal> {
        let last = (start + bytes.len() as u64).saturating_sub(1);
        let range = match total {
            Some(total) => format!("bytes {start}-{last}/{total}"),
            None => format!("bytes {start}-{last}/*"),
        };
        let outgoing = self
            .outgoing(&range)?
            .header(CONTENT_TYPE, self.media_type.clone())
            .body(Body::new(Pieces(bytes)));
        self.judge(caller, outgoing).await
    }

    async fn ask(&self, caller: &mut Caller<'_>, total: Option<u64>) -> Result<Verdict, Refusal> {
        let range = match total {
            Some(total) => format!("bytes */{total}"),
            None => "bytes */*".to_owned(),
        };
        let outgoing = self.outgoing(&range)?;
        self.judge(caller, outgoing).await
    }

    fn outgoing(&self, range: &str) -> Result<Outgoing, Refusal> {
        let range = HeaderValue::from_str(range)
            .map_err(|_| Refusal::nonsense("a range cannot stand in a header"))?;
        Ok(Outgoing::new(Method::PUT, &self.url, "", None)
            .map_err(GoogleError::from)?
            .header(CONTENT_RANGE, range)
            .timeout(CHUNK_TIMEOUT))
    }

    async fn judge(&self, caller: &mut Caller<'_>, outgoing: Outgoing) -> Result<Verdict, Refusal> {
        let answer = match caller.send(outgoing).await {
            Ok(answer) => answer,
            Err(refusal) if is_upstream_fault(&refusal) => {
                return Ok(Verdict::Later(refusal, None));
            }
            Err(refusal) => return Err(refusal),
        };
        let status = answer.status();
        if status == StatusCode::PERMANENT_REDIRECT {
            return match received(answer.headers().get(RANGE)) {
                Some(has) => Ok(Verdict::Has(has)),
                None => Err(Refusal::nonsense("the upload's range cannot be read")),
            };
        }
        let wait = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        match google::read(answer).await {
            Ok(body) => Ok(Verdict::Complete(body)),
            // What it was is lost; asking again tells.
            Err(error) if status.is_success() => Ok(Verdict::Later(error.into(), None)),
            Err(error) if is_passing(status) => Ok(Verdict::Later(error.into(), wait)),
            Err(error) if status == StatusCode::UNAUTHORIZED => {
                Ok(Verdict::TokenRefused(error.into()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// YouTube's resource of a video.
#[derive(Clone, Debug)]
pub(crate) struct Video {
    pub(crate) id: String,
    pub(crate) resource: Value,
}

impl Video {
    fn of(answer: &[u8]) -> Result<Self, Refusal> {
        let resource: Value = serde_json::from_slice(answer)
            .map_err(|_| Refusal::nonsense("YouTube's answer is not JSON"))?;
        // It becomes a part of a URL.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let id = resource
            .get("id")
            .and_then(Value::as_str)
            .filter(|id| (1..=64).contains(&id.len()) && id.bytes().all(plain))
            .ok_or_else(|| Refusal::nonsense("YouTube's answer holds no id of a video"))?
            .to_owned();
        Ok(Self { id, resource })
    }
}

/// Counts failures in a row and pauses after each.
struct Failures {
    seen: u32,
    pause: Duration,
}

impl Failures {
    const fn new(pause: Duration) -> Self {
        Self { seen: 0, pause }
    }

    fn count(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        self.seen += 1;
        if self.seen >= MAX_FAILURES {
            return Err(refusal);
        }
        Ok(())
    }

    async fn pause(&mut self, refusal: Refusal, wait: Option<Duration>) -> Result<(), Refusal> {
        let pause = self.pause * 2_u32.saturating_pow(self.seen);
        self.count(refusal)?;
        tokio::time::sleep(pause.max(wait.unwrap_or_default()).min(MAX_PAUSE)).await;
        Ok(())
    }
}

/// Whether the fault lies on the way to Google, so that another attempt may help.
fn is_upstream_fault(refusal: &Refusal) -> bool {
    matches!(
        refusal.rejection.status(),
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Whether an answer of this status may be another one later.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
}

/// The URL that an upload continues at, if it stays on the API's own host.
fn session_url(api: &BaseUrl, location: &str) -> Option<BaseUrl> {
    let url = BaseUrl::parse_with_query(location).ok()?;
    let port = |url: &BaseUrl| {
        let usual = if url.is_https() { 443 } else { 80 };
        url.authority().port_u16().unwrap_or(usual)
    };
    let same = url.is_https() == api.is_https()
        && port(&url) == port(api)
        && url
            .authority()
            .host()
            .eq_ignore_ascii_case(api.authority().host());
    same.then_some(url)
}

/// How many bytes arrived, by `Range: bytes=0-N`; without the field it is none.
fn received(range: Option<&HeaderValue>) -> Option<u64> {
    let Some(range) = range else {
        return Some(0);
    };
    let last = range.to_str().ok()?.strip_prefix("bytes=0-")?;
    last.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    last.parse::<u64>().ok()?.checked_add(1)
}

/// A chunk as a body in pieces. None of it is copied.
struct Pieces(Bytes);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.0.len().min(PIECE);
        let piece = self.0.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_stays_on_the_host_of_the_api() {
        let api = BaseUrl::parse("https://www.googleapis.com").unwrap();
        for (location, good) in [
            (
                "https://www.googleapis.com/upload/youtube/v3/videos?upload_id=x",
                true,
            ),
            ("https://WWW.googleapis.com:443/upload?upload_id=x", true),
            ("https://www.googleapis.com/", true),
            ("http://www.googleapis.com/upload", false),
            ("https://www.googleapis.com:8443/upload", false),
            ("https://googleapis.com/upload", false),
            ("https://www.googleapis.com.evil.test/upload", false),
            ("https://www.googleapis.com@evil.test/upload", false),
            ("https://evil.test/?www.googleapis.com", false),
            ("https://u@www.googleapis.com/upload", false),
            ("https://www.googleapis.com/a/../b", false),
            ("//evil.test/upload", false),
            ("/upload", false),
            ("", false),
        ] {
            assert_eq!(session_url(&api, location).is_some(), good, "{location}");
        }
    }

    #[test]
    fn ranges() {
        for (range, bytes) in [
            (None, Some(0)),
            (Some("bytes=0-0"), Some(1)),
            (Some("bytes=0-262143"), Some(262_144)),
            (Some("0-262143"), None),
            (Some("bytes=1-2"), None),
            (Some("bytes=0-+1"), None),
            (Some("bytes=0-"), None),
            (Some("bytes=0-18446744073709551615"), None),
        ] {
            let value = range.map(|range| HeaderValue::from_str(range).unwrap());
            assert_eq!(received(value.as_ref()), bytes, "{range:?}");
        }
    }

    #[test]
    fn chunks_are_what_youtube_asks_for() {
        assert_eq!(CHUNK % (256 * 1024), 0);
    }
}
