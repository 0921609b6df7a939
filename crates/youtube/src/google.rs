//! Calls of Google's OAuth endpoints (RFC 6749, 7009, 7636).

use std::fmt;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use proactions_edge::{ExposeSecret as _, Rejection, RejectionKind, SecretString};
use proactions_forward::{BaseUrl, Body, HttpClient, Outgoing, SendError, UpstreamBody, UrlError};
use serde_json::Value;

use crate::YoutubeAccount;
use crate::accounts::Urls;
use crate::state::Begun;

/// How long Google may take for an answer that is no upload.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// How long an answer may be that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Everything but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What the token endpoint grants.
pub(crate) struct Grant {
    pub(crate) access_token: SecretString,
    pub(crate) refresh_token: Option<SecretString>,
    pub(crate) scope: Option<String>,
    pub(crate) expires_in: Duration,
}

/// Why a call of Google failed. Its text is for logs; it holds no secret.
#[derive(Debug)]
pub(crate) enum GoogleError {
    /// Google's answer was none that can be understood.
    Nonsense(&'static str),
    /// Google said no, with its own word for why.
    Refused(StatusCode, String),
    Send(SendError),
    Url(UrlError),
}

impl GoogleError {
    /// A stable name for logs.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Nonsense(_) => "upstream_nonsense",
            Self::Refused(..) => "upstream_refused",
            Self::Send(error) => error.kind().as_str(),
            Self::Url(_) => "bad_url",
        }
    }

    /// What the client is told.
    pub(crate) fn rejection(&self) -> Rejection {
        match self {
            Self::Send(error) => error.rejection(),
            Self::Refused(status, code) if *status == StatusCode::BAD_REQUEST => {
                Rejection::new(RejectionKind::BadRequest)
                    .with_message(format!("YouTube refused the request ({code})"))
            }
            Self::Refused(_, code) => Rejection::new(RejectionKind::BadGateway)
                .with_message(format!("YouTube refused the request ({code})")),
            Self::Nonsense(_) => Rejection::new(RejectionKind::BadGateway),
            Self::Url(_) => Rejection::new(RejectionKind::Internal),
        }
    }

    pub(crate) fn is_code(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused(_, code) if code == wanted)
    }
}

impl fmt::Display for GoogleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nonsense(what) => f.write_str(what),
            Self::Refused(status, code) => write!(f, "Google answered {status} ({code})"),
            Self::Send(error) => error.fmt(f),
            Self::Url(error) => write!(f, "the URL {error}"),
        }
    }
}

impl From<SendError> for GoogleError {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<UrlError> for GoogleError {
    fn from(error: UrlError) -> Self {
        Self::Url(error)
    }
}

/// Where the browser is to go.
pub(crate) fn authorize_url(
    urls: &Urls,
    account: &YoutubeAccount,
    begun: &Begun,
) -> Result<String, UrlError> {
    let query = form(&[
        ("response_type", "code"),
        ("client_id", &account.client_id),
        ("redirect_uri", &account.redirect_uri),
        ("scope", &account.scope),
        ("state", begun.state.expose_secret()),
        ("code_challenge", &begun.challenge),
        ("code_challenge_method", "S256"),
        // Without these two Google gives a refresh token only for the very first consent.
        ("access_type", "offline"),
        ("prompt", "consent"),
    ]);
    Ok(urls.authorize.join("", Some(&query))?.to_string())
}

pub(crate) async fn exchange(
    client: &HttpClient,
    urls: &Urls,
    account: &YoutubeAccount,
    code: &str,
    verifier: &SecretString,
) -> Result<Grant, GoogleError> {
    let body = form(&[
        ("grant_type", "authorization_code"),
        ("code", code),
        ("client_id", &account.client_id),
        ("client_secret", account.client_secret.expose_secret()),
        ("redirect_uri", &account.redirect_uri),
        ("code_verifier", verifier.expose_secret()),
    ]);
    grant(client, &urls.token, body).await
}

pub(crate) async fn refresh(
    client: &HttpClient,
    urls: &Urls,
    account: &YoutubeAccount,
    refresh_token: &str,
) -> Result<Grant, GoogleError> {
    let body = form(&[
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token),
        ("client_id", &account.client_id),
        ("client_secret", account.client_secret.expose_secret()),
    ]);
    grant(client, &urls.token, body).await
}

/// Revokes a token, and with a refresh token all that came from it. One that is not valid any more counts as
/// revoked.
pub(crate) async fn revoke(
    client: &HttpClient,
    urls: &Urls,
    token: &str,
) -> Result<(), GoogleError> {
    let answer = post(client, &urls.revoke, form(&[("token", token)])).await?;
    match read(answer).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_code("invalid_token") => Ok(()),
        Err(error) => Err(error),
    }
}

async fn grant(client: &HttpClient, url: &BaseUrl, body: String) -> Result<Grant, GoogleError> {
    let answer = read(post(client, url, body).await?).await?;
    let answer: Value = serde_json::from_slice(&answer)
        .map_err(|_| GoogleError::Nonsense("Google's token answer is not JSON"))?;
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    let is_token = |token: &&str| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    if !text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err(GoogleError::Nonsense(
            "Google's token is not a bearer token",
        ));
    }
    Ok(Grant {
        access_token: text("access_token")
            .filter(is_token)
            .ok_or(GoogleError::Nonsense(
                "Google's answer holds no access token",
            ))?
            .into(),
        refresh_token: text("refresh_token").filter(is_token).map(Into::into),
        scope: text("scope").map(str::to_owned),
        expires_in: Duration::from_secs(
            answer
                .get("expires_in")
                .and_then(Value::as_u64)
                .ok_or(GoogleError::Nonsense("Google's token has no end"))?
                // A token that never ends is renewed once a day all the same.
                .min(86_400),
        ),
    })
}

async fn post(
    client: &HttpClient,
    url: &BaseUrl,
    body: String,
) -> Result<Response<UpstreamBody>, GoogleError> {
    let outgoing = Outgoing::new(Method::POST, url, "", None)?
        .header(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        )
        .header(ACCEPT, HeaderValue::from_static("application/json"))
        .timeout(CALL_TIMEOUT)
        .body(body);
    Ok(client.send(outgoing).await?)
}

/// The body of a good answer, or why the answer is not one.
pub(crate) async fn read(answer: Response<UpstreamBody>) -> Result<bytes::Bytes, GoogleError> {
    let status = answer.status();
    let body = Body::from(answer.into_body());
    let body = tokio::time::timeout(CALL_TIMEOUT, body.collect_up_to(MAX_ANSWER)).await;
    if status.is_success() {
        return match body {
            Ok(Ok(body)) => Ok(body),
            _ => Err(GoogleError::Nonsense(
                "Google's answer broke off or is too long",
            )),
        };
    }
    let body = body.ok().and_then(Result::ok).unwrap_or_default();
    Err(GoogleError::Refused(status, error_code(&body)))
}

/// Google's word for what went wrong: `{"error":"invalid_grant"}` of OAuth, or
/// `{"error":{"errors":[{"reason":"quotaExceeded"}]}}` of the API. Nothing else of the answer is repeated.
fn error_code(body: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = answer.get("error");
    error
        .and_then(|error| error.pointer("/errors/0/reason"))
        .or_else(|| error?.get("status"))
        .or(error)
        .and_then(Value::as_str)
        .filter(|code| (1..=64).contains(&code.len()))
        .filter(|code| code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        .unwrap_or("unknown")
        .to_owned()
}

fn form(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        text.extend(utf8_percent_encode(value, ENCODED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_word_of_an_error_is_repeated() {
        for (body, code) in [
            (
                r#"{"error":"invalid_grant","error_description":"Token x"}"#,
                "invalid_grant",
            ),
            (
                r#"{"error":{"code":403,"errors":[{"reason":"quotaExceeded"}]}}"#,
                "quotaExceeded",
            ),
            (
                r#"{"error":{"code":401,"status":"UNAUTHENTICATED"}}"#,
                "UNAUTHENTICATED",
            ),
            (r#"{"error":"<script>"}"#, "unknown"),
            (r#"{"error":""}"#, "unknown"),
            ("<html>", "unknown"),
            ("", "unknown"),
        ] {
            assert_eq!(error_code(body.as_bytes()), code, "{body}");
        }
    }

    #[test]
    fn values_are_encoded() {
        assert_eq!(
            form(&[("a", "x y&z=#?/\u{e4}"), ("b", "")]),
            "a=x%20y%26z%3D%23%3F%2F%C3%A4&b="
        );
    }
}
