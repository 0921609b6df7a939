//! Header fields that must not travel on, room for those that are added, and numbers in them.

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName};

pub use crate::decimal::decimal;

const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that a peer cannot have removed by naming them in `Connection`: the message would change its meaning.
const NOT_NOMINABLE: [HeaderName; 3] = [CONTENT_LENGTH, CONTENT_TYPE, HOST];

/// How many names of a `Connection` field are honoured; a peer that sends more is up to something.
const MAX_NOMINATED: usize = 32;

/// Removes the hop-by-hop fields of RFC 9110 section 7.6.1, and those that `Connection` names.
///
/// Call it before adding fields of one's own, or a peer could name those too.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let nominated: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|b| *b == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .filter(|name| !NOT_NOMINABLE.contains(name))
            .take(MAX_NOMINATED)
            .collect();
        for name in nominated {
            headers.remove(name);
        }
    }
    // Looking at the few fields that are there is cheaper than looking for those that hardly ever are.
    if headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
    }
}

/// For how many fields [`make_room`] makes room: those of an upstream's answer and of every layer of a full stack.
const USUAL_FIELDS: usize = 32;

/// Makes room for `more` fields in an answer, and at the first call for those that other layers will add.
///
/// A map grows by doubling, and each growth moves every field. The innermost layer that adds fields pays for all,
/// once; further out there is nothing left to do. Says whether `more` fields fit: a map takes 24,576 at most.
#[must_use]
pub fn make_room(headers: &mut HeaderMap, more: usize) -> bool {
    let free = headers.capacity().saturating_sub(headers.keys_len());
    if free >= more && headers.capacity() >= USUAL_FIELDS {
        return true;
    }
    let usual = USUAL_FIELDS.saturating_sub(headers.keys_len());
    headers.try_reserve(more.max(usual)).is_ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn standard_and_nominated_fields_go() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Forwarded-For"),
            (
                "connection",
                "x-REAL-ip,Host, content-length, content-type, bad name",
            ),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-real-ip", "1.1.1.1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-connection", "close"),
            ("proxy-authorization", "Basic x"),
            ("proxy-authenticate", "Basic"),
            ("host", "a"),
            ("content-length", "3"),
            ("content-type", "text/plain"),
            ("accept", "*/*"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "content-length", "content-type", "host"]);
    }

    #[test]
    fn room_is_made_once() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert!(make_room(&mut headers, 4));
        let room = headers.capacity();
        assert!(room >= USUAL_FIELDS);
        for n in 0..USUAL_FIELDS - 1 {
            let name = HeaderName::try_from(format!("x-{n}")).unwrap();
            assert!(make_room(&mut headers, 1));
            headers.insert(name, HeaderValue::from_static("1"));
        }
        assert_eq!(headers.capacity(), room);
        assert!(make_room(&mut headers, 1000));
        assert!(headers.capacity() >= 1000 + headers.len());
        assert!(!make_room(&mut headers, 1 << 15));
    }
}
