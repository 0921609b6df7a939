use std::net::{IpAddr, SocketAddr};

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use proactions_edge::{ByteSet, ClientInfo, Peer, Scheme};

use crate::TrustProxy;

/// How many entries of `X-Forwarded-For` are looked at, empty ones included. No honest chain is longer.
pub const MAX_ENTRIES: usize = 64;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A DNS name has at most 253 characters, then comes `:65535`.
const MAX_AUTHORITY: usize = 253 + 6;

impl TrustProxy {
    /// Who is calling: a pure function of the connection and the header fields.
    ///
    /// The request target is not looked at. Requests of HTTP/2 often carry their host only there; use
    /// [`Self::resolve_request`] for those.
    #[must_use]
    pub fn resolve(&self, peer: Peer, headers: &HeaderMap) -> ClientInfo {
        self.resolve_parts(peer, None, headers)
    }

    /// Who is calling. The authority of the request target, if it has one, goes before `Host` (RFC 9112
    /// section 3.2.2, RFC 9113 section 8.3.1).
    #[must_use]
    pub fn resolve_request<B>(&self, peer: Peer, request: &Request<B>) -> ClientInfo {
        self.resolve_parts(peer, request.uri().authority(), request.headers())
    }

    fn resolve_parts(
        &self,
        peer: Peer,
        authority: Option<&Authority>,
        headers: &HeaderMap,
    ) -> ClientInfo {
        let peer_ip = peer.addr.ip().to_canonical();
        if !self.trusts(peer_ip, 0) {
            return ClientInfo::direct(peer, asked_host(authority, headers));
        }
        let (ip, trusted_hops) = self.walk(peer_ip, headers);
        let scheme = last_item(headers, &X_FORWARDED_PROTO)
            .and_then(|(_, item)| parse_scheme(item))
            .unwrap_or(peer.scheme);
        let host = forwarded_host(headers).or_else(|| asked_host(authority, headers));
        ClientInfo::new(ip, scheme, host, trusted_hops)
    }

    fn walk(&self, peer_ip: IpAddr, headers: &HeaderMap) -> (IpAddr, usize) {
        let mut entries = headers
            .get_all(&X_FORWARDED_FOR)
            .iter()
            .rev()
            .flat_map(|line| line.as_bytes().rsplit(|b| *b == b','))
            .take(MAX_ENTRIES)
            .map(<[u8]>::trim_ascii)
            .filter(|entry| !entry.is_empty());
        let mut ip = peer_ip;
        let mut hops = 0;
        while self.trusts(ip, hops) {
            let Some(next) = entries.next().and_then(parse_entry) else {
                break;
            };
            ip = next;
            hops += 1;
        }
        (ip, hops)
    }
}

/// An address, also with a port behind it; the port is dropped.
fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let ip = if let Ok(ip) = text.parse::<IpAddr>() {
        ip
    } else if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        IpAddr::V6(inner.parse().ok()?)
    } else {
        text.parse::<SocketAddr>().ok()?.ip()
    };
    Some(ip.to_canonical())
}

/// The right-most item of a field, all its lines taken as one list, and the line that it stands in.
fn last_item<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<(&'a HeaderValue, &'a [u8])> {
    let line = headers.get_all(name).iter().next_back()?;
    let item = line.as_bytes().rsplit(|b| *b == b',').next()?;
    Some((line, item.trim_ascii()))
}

fn parse_scheme(item: &[u8]) -> Option<Scheme> {
    let is = |name: &str| item.eq_ignore_ascii_case(name.as_bytes());
    if is("https") || is("wss") {
        Some(Scheme::Https)
    } else if is("http") || is("ws") {
        Some(Scheme::Http)
    } else {
        None
    }
}

fn forwarded_host(headers: &HeaderMap) -> Option<HeaderValue> {
    let (line, item) = last_item(headers, &X_FORWARDED_HOST)?;
    if !is_authority(item) {
        return None;
    }
    if item.len() == line.len() {
        return Some(line.clone());
    }
    HeaderValue::from_bytes(item).ok()
}

/// The host that the request itself names.
fn asked_host(authority: Option<&Authority>, headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(HOST).iter();
    let first = lines.next();
    if let Some(authority) = authority {
        let text = authority.as_str();
        if !is_authority(text.as_bytes()) {
            return None;
        }
        return match first {
            // The field's bytes are shared, so this spares the copy.
            Some(line) if line.as_bytes() == text.as_bytes() => Some(line.clone()),
            _ => HeaderValue::from_str(text).ok(),
        };
    }
    let only = first.filter(|_| lines.next().is_none())?;
    is_authority(only.as_bytes()).then(|| only.clone())
}

/// Whether this is `host` or `host:port` with nothing in it that another reader could take for more.
fn is_authority(bytes: &[u8]) -> bool {
    if bytes.len() > MAX_AUTHORITY {
        return false;
    }
    static PLAIN: ByteSet = ByteSet::ALPHANUMERIC.with(b"-._");
    // A name without a port, as most requests have it.
    if !bytes.is_empty() && PLAIN.contains_all(bytes) {
        return true;
    }
    let name = bytes.iter().take_while(|b| PLAIN.contains(**b)).count();
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let (good, rest) = match text.strip_prefix('[') {
        Some(text) => match text.split_once(']') {
            Some((inner, rest)) => (inner.parse::<std::net::Ipv6Addr>().is_ok(), rest),
            None => return false,
        },
        None => (name > 0, text.get(name..).unwrap_or_default()),
    };
    good && match rest.strip_prefix(':') {
        Some(port) => port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok(),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests;
