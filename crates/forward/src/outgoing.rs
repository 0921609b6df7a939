use std::fmt;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body::Body as _;
use proactions_edge::headers::decimal;

use crate::headers::{is_framing, strip_request};
use crate::url::with_more;
use crate::{BaseUrl, Body, JoinedUrl, UrlError};

/// A request to an upstream. Its host comes from a [`BaseUrl`], never from a client.
///
/// ```
/// use http::{HeaderMap, HeaderValue, Method, header};
/// use proactions_forward::{BaseUrl, Outgoing};
///
/// let base = BaseUrl::parse("https://api.example.com/v1")?;
/// let mut client_sent = HeaderMap::new();
/// client_sent.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer for-us"));
/// client_sent.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
///
/// let outgoing = Outgoing::new(Method::POST, &base, "/chat/completions", None)?
///     .headers_from_client(client_sent)
///     .header(header::AUTHORIZATION, HeaderValue::from_static("Bearer for-them"))
///     .body("{}");
/// assert_eq!(outgoing.headers()["authorization"], "Bearer for-them");
/// assert_eq!(outgoing.headers()["accept"], "application/json");
/// # Ok::<(), proactions_forward::UrlError>(())
/// ```
#[must_use]
pub struct Outgoing {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
    pub(crate) timeout: Option<Duration>,
    host: Option<HeaderValue>,
    upgrade: bool,
}

impl Outgoing {
    /// A request to `base` with `tail` appended to its path and `query` to its query.
    ///
    /// # Errors
    /// When the tail or the query would lead anywhere else, see [`BaseUrl::join`].
    pub fn new(
        method: Method,
        base: &BaseUrl,
        tail: &str,
        query: Option<&str>,
    ) -> Result<Self, UrlError> {
        Ok(Self {
            method,
            uri: base.join(tail, query)?,
            headers: HeaderMap::new(),
            body: Body::empty(),
            timeout: None,
            host: None,
            upgrade: false,
        })
    }

    /// A request to a URL that was joined before.
    pub fn to_joined(method: Method, url: &JoinedUrl) -> Self {
        Self::to(method, url.0.clone())
    }

    /// A request to a URL that was checked elsewhere.
    pub(crate) fn to(method: Method, uri: Uri) -> Self {
        Self {
            method,
            uri,
            headers: HeaderMap::new(),
            body: Body::empty(),
            timeout: None,
            host: None,
            upgrade: false,
        }
    }

    /// Adds what of a client's query may travel: parameters whose names neither the URL's own query nor `except`
    /// has, which is written like a query. Names are compared as in [`BaseUrl::join`].
    ///
    /// # Errors
    /// When the query cannot stand in a URL.
    pub fn query_from_client(mut self, query: &str, except: &str) -> Result<Self, UrlError> {
        self.uri = with_more(&self.uri, query, except)?;
        Ok(self)
    }

    /// Sends this `Host` in place of the URL's. HTTP/1.1 only; the connection goes where the URL says.
    pub(crate) fn host(mut self, host: Option<HeaderValue>) -> Self {
        self.host = host;
        self
    }

    /// Asks for a WebSocket. HTTP/1.1 only.
    pub(crate) const fn upgrade(mut self) -> Self {
        self.upgrade = true;
        self
    }

    /// Whether the answer may end in another protocol.
    pub(crate) const fn is_upgrade(&self) -> bool {
        self.upgrade
    }

    /// Sets the header as it is. The caller has stripped it.
    pub(crate) fn stripped_headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// Takes over what of a client's header may travel, see [`strip_request`]. It replaces the header; what
    /// is set with [`Outgoing::header`] afterwards wins.
    pub fn headers_from_client(mut self, mut headers: HeaderMap) -> Self {
        strip_request(&mut headers);
        self.headers = headers;
        self
    }

    /// Sets a field, in place of every field of that name. Fields of the message's framing are left alone:
    /// they follow from the URL and the body.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if !is_framing(&name) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Removes a field.
    pub fn without(mut self, name: &HeaderName) -> Self {
        self.headers.remove(name);
        self
    }

    /// Sets the body. Its length, where it knows it, becomes `Content-Length`.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets how long the upstream may take to begin its answer, counted from the last part of the request's
    /// body, and to be silent within it. A body that is in memory as a whole may take a second for each 256 KiB.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The header as it will be sent, less `Host` and the body's framing.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The URL that is called.
    #[must_use]
    pub const fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(crate) fn into_request(self) -> Request<Body> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        let mut headers = self.headers;
        if let Some(host) = self.host {
            headers.insert(HOST, host);
        }
        if self.upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        if !request.body().is_end_stream() {
            match request.body().size_hint().exact() {
                // hyper would allocate for the number.
                Some(length) => headers.insert(CONTENT_LENGTH, decimal(length)),
                // Unasked, hyper sends no body of unknown length with a GET or a HEAD. Over HTTP/2 it drops the field.
                None => headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
            };
        }
        *request.headers_mut() = headers;
        request
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query may hold a key.
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let authority = self
            .uri
            .authority()
            .map_or("", |authority| authority.as_str());
        let path = self.uri.path();
        write!(f, "Outgoing({} {scheme}://{authority}{path})", self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_query_nor_header() {
        let base = BaseUrl::parse_with_query("https://a.example/b?key=hunter2").unwrap();
        let outgoing = Outgoing::new(Method::POST, &base, "/c", Some("token=hunter2"))
            .unwrap()
            .header(
                HeaderName::from_static("x-key"),
                HeaderValue::from_static("hunter2"),
            );
        let shown = format!("{outgoing:?}");
        assert_eq!(shown, "Outgoing(POST https://a.example/b/c)");
    }
}
