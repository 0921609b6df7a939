use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, Entry, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proactions_edge::headers::make_room;
use proactions_edge::{ByteSet, ClientInfo};

use crate::OriginMatch;
use crate::origin::Origin;
use crate::policy::{Origins, Rules, read};

/// How many bytes of `Access-Control-Request-Headers` are reflected at most.
pub const MAX_REQUEST_HEADERS_BYTES: usize = 4096;
/// How many names in `Access-Control-Request-Headers` are reflected at most.
pub const MAX_REQUEST_HEADERS: usize = 64;

/// How many fields an answer gets at most: the five of a preflight, the origin, the reflected names and `Vary`.
const MAX_FIELDS: usize = 8;

/// What a request is in the eyes of the CORS protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestKind {
    /// A request with `Origin` that is no preflight.
    Actual,
    /// A request without `Origin`.
    NotCors,
    /// A browser's question whether it may send the request that it describes.
    Preflight,
}

/// Tells a preflight from other requests: it is `OPTIONS` **and** has `Origin` **and**
/// `Access-Control-Request-Method`.
#[must_use]
pub fn classify(method: &Method, headers: &HeaderMap) -> RequestKind {
    if headers.contains_key(ORIGIN) {
        classify_cors(method, headers)
    } else {
        RequestKind::NotCors
    }
}

/// The same for a request that has `Origin`.
fn classify_cors(method: &Method, headers: &HeaderMap) -> RequestKind {
    if method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        RequestKind::Preflight
    } else {
        RequestKind::Actual
    }
}

/// What one request's answer will say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) kind: RequestKind,
    pub(crate) verdict: Verdict,
    /// `Access-Control-Allow-Origin`, if the answer has one.
    allow_origin: Option<HeaderValue>,
    /// The requested field names that are reflected.
    allow_headers: Option<HeaderValue>,
}

impl Decision {
    /// Whether a browser will let the page read the answer.
    pub(crate) const fn allows_origin(&self) -> bool {
        self.allow_origin.is_some()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Allowed, and the origin is listed in a policy with credentials.
    Named,
    /// Allowed otherwise, or there is nothing to allow.
    Passed,
    Refused,
}

static ANY: HeaderValue = HeaderValue::from_static("*");

impl Rules {
    pub(crate) fn decide(
        &self,
        method: &Method,
        headers: &HeaderMap,
        client: Option<&ClientInfo>,
    ) -> Decision {
        let mut decision = Decision {
            kind: RequestKind::NotCors,
            verdict: Verdict::Passed,
            allow_origin: None,
            allow_headers: None,
        };
        let mut origins = headers.get_all(ORIGIN).iter();
        let (Some(origin), more) = (origins.next(), origins.next().is_some()) else {
            // With `'*'` the answer must not depend on `Origin`, or a cache would hand out the wrong one.
            if matches!(self.origins, Origins::Any) {
                decision.allow_origin = Some(ANY.clone());
            }
            return decision;
        };
        let kind = classify_cors(method, headers);
        decision.kind = kind;
        let matched = if more {
            OriginMatch::Refused
        } else {
            self.origins.matches(origin)
        };
        match matched {
            OriginMatch::Refused => {
                let own = kind == RequestKind::Actual && !more && is_own(origin, client);
                if !own {
                    decision.verdict = Verdict::Refused;
                }
                return decision;
            }
            OriginMatch::Named if self.credentials => decision.verdict = Verdict::Named,
            OriginMatch::Anybody | OriginMatch::Named | OriginMatch::Null => {}
        }
        decision.allow_origin = Some(match self.origins {
            Origins::Any => ANY.clone(),
            Origins::Reflect | Origins::Listed(_) => origin.clone(),
        });
        if kind == RequestKind::Preflight && self.reflect_headers {
            decision.allow_headers = requested_headers(headers);
        }
        decision
    }

    /// Writes the decision into an answer's header fields.
    pub(crate) fn apply(&self, decision: Decision, headers: &mut HeaderMap) {
        strip(headers);
        if !make_room(headers, MAX_FIELDS) {
            // Tens of thousands of fields, which no client takes.
            headers.clear();
        }
        let preflight = decision.kind == RequestKind::Preflight;
        if let Some(origin) = decision.allow_origin {
            let fixed = if preflight {
                &self.preflight
            } else {
                &self.actual
            };
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            for (name, value) in fixed {
                headers.insert(name, value.clone());
            }
            if let Some(names) = decision.allow_headers {
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
            }
        }
        let by_origin =
            !matches!(self.origins, Origins::Any) || decision.verdict == Verdict::Refused;
        merge_vary(headers, by_origin, preflight && self.reflect_headers);
    }
}

/// Whether a page of the very service that is asked sent the request.
fn is_own(origin: &HeaderValue, client: Option<&ClientInfo>) -> bool {
    let own = client
        .and_then(|client| Origin::with_authority(client.scheme.as_str(), client.host_str()?));
    match (read(origin), own) {
        (Some(origin), Some(own)) => {
            origin.host == own.host
                && origin.port == own.port
                && origin.scheme.eq_ignore_ascii_case(own.scheme)
        }
        _ => false,
    }
}

/// The requested field names, if they are worth an answer.
fn requested_headers(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    if line.len() > MAX_REQUEST_HEADERS_BYTES {
        return None;
    }
    let mut names = line.as_bytes().split(|b| *b == b',');
    let good = names
        .by_ref()
        .take(MAX_REQUEST_HEADERS)
        .all(|name| is_token(name.trim_ascii()));
    (good && names.next().is_none()).then(|| line.clone())
}

/// Whether this is a `token` of RFC 9110 section 5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    static TOKEN: ByteSet = ByteSet::TOKEN;
    !bytes.is_empty() && TOKEN.contains_all(bytes)
}

fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("access-control-")
}

fn strip(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| is_ours(name)).cloned() {
        headers.remove(name);
    }
}

/// Adds to `Vary` what is not there yet, as one line. `*` says it all already.
fn merge_vary(headers: &mut HeaderMap, origin: bool, requested_headers: bool) {
    let (token, both) = match (origin, requested_headers) {
        (false, false) => return,
        (true, false) => ("Origin", "Origin"),
        (false, true) => (
            "Access-Control-Request-Headers",
            "Access-Control-Request-Headers",
        ),
        (true, true) => ("Origin", "Origin, Access-Control-Request-Headers"),
    };
    if let Entry::Vacant(entry) = headers.entry(VARY) {
        entry.insert(HeaderValue::from_static(both));
        return;
    }
    let present = |wanted: &str| {
        headers
            .get_all(VARY)
            .iter()
            .flat_map(|line| line.as_bytes().split(|b| *b == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
    };
    if present("*") {
        return;
    }
    let second = (both != token).then_some("Access-Control-Request-Headers");
    let missing: Vec<&str> = [Some(token), second]
        .into_iter()
        .flatten()
        .filter(|wanted| !present(wanted))
        .collect();
    if missing.is_empty() {
        return;
    }
    let mut joined = Vec::with_capacity(96);
    for line in headers.get_all(VARY) {
        joined.extend_from_slice(line.as_bytes());
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(missing.join(", ").as_bytes());
    // Parts of valid values make a valid value; should that ever fail, a line of its own says the same.
    match HeaderValue::from_bytes(&joined) {
        Ok(value) => headers.insert(VARY, value).is_some(),
        Err(_) => headers.append(VARY, HeaderValue::from_static(both)),
    };
}

#[cfg(test)]
mod tests;
