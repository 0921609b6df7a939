//! The grammar of HTTP/1 messages (RFC 9112), without its leniencies: where a head ends, whether it has one meaning,
//! and where its body ends.

use http::Uri;
use memchr::memchr;
use proactions_edge::ByteSet;

/// The longest target that can be parsed.
const MAX_TARGET: usize = 65_534;

/// What chunk extensions and trailers may take in one body.
const MAX_DECORATION: usize = 8 * 1024;

/// Why a request is refused before anything is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    Chunk,
    Coding,
    FoldedHeader,
    HeadTooLarge,
    HeaderName,
    HeaderValue,
    Host,
    Length,
    LengthAndCoding,
    LineEnd,
    Preface,
    RequestLine,
    Target,
    TargetTooLong,
    Version,
}

impl Malformed {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Chunk => "chunk",
            Self::Coding => "transfer_coding",
            Self::FoldedHeader => "folded_header",
            Self::HeadTooLarge => "head_too_large",
            Self::HeaderName => "header_name",
            Self::HeaderValue => "header_value",
            Self::Host => "host",
            Self::Length => "content_length",
            Self::LengthAndCoding => "length_and_coding",
            Self::LineEnd => "line_end",
            Self::Preface => "preface",
            Self::RequestLine => "request_line",
            Self::Target => "target",
            Self::TargetTooLong => "target_too_long",
            Self::Version => "version",
        }
    }
}

/// How far the search for the end of a head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// The head has so many bytes, the empty line included.
    Found(usize),
    Incomplete,
    /// There is a line end that others see and hyper does not, or the other way round.
    Hopeless,
}

/// Looks for the end of the head that begins with `bytes`; the first `seen` of them have been searched before.
pub(super) fn search_end(bytes: &[u8], seen: usize) -> Search {
    let mut at = seen;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr(b'\n', rest)) {
        let end = at + found;
        let before = |back: usize| end.checked_sub(back).and_then(|at| bytes.get(at)).copied();
        if before(1) != Some(b'\r') {
            return Search::Hopeless;
        }
        if before(2) == Some(b'\n') {
            return Search::Found(end + 1);
        }
        at = end + 1;
    }
    Search::Incomplete
}

/// Which part of a head that is too large is to blame.
pub(super) fn too_large(bytes: &[u8]) -> Malformed {
    match memchr(b'\n', bytes) {
        Some(len) if len <= MAX_TARGET => Malformed::HeadTooLarge,
        _ => Malformed::TargetTooLong,
    }
}

/// Whether a whole head has exactly one meaning; if so, what body follows it.
pub(super) fn check_head(head: &[u8], max_headers: usize) -> Result<Body, Malformed> {
    // Each line keeps the carriage return of its end, so that the last one loses no more than the others.
    let mut lines = lines(head.strip_suffix(b"\n\r\n").ok_or(Malformed::LineEnd)?);
    let http11 = check_request_line(lines.next().unwrap_or_default())?;
    let mut length = None;
    let mut chunked = false;
    let mut hosts = 0;
    for (index, line) in lines.enumerate() {
        if index >= max_headers {
            return Err(Malformed::HeadTooLarge);
        }
        let (name, value) = check_header(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if length.replace(parse_length(value)?).is_some() {
                return Err(Malformed::Length);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || !http11 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::Coding);
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
            if !HOST.contains_all(value) {
                return Err(Malformed::Host);
            }
        }
    }
    if hosts > 1 || (hosts == 0 && http11) {
        return Err(Malformed::Host);
    }
    match (length, chunked) {
        (Some(_), true) => Err(Malformed::LengthAndCoding),
        (None, true) => Ok(Body::Chunked(Chunks::default())),
        (None | Some(0), false) => Ok(Body::None),
        (Some(length), false) => Ok(Body::Length(length)),
    }
}

/// The lines of a head, without their ends.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let text = rest?;
        let (line, after) = match memchr(b'\n', text) {
            Some(end) => (text.get(..end)?, text.get(end + 1..)),
            None => (text, None),
        };
        rest = after;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

/// Whether the request is one of HTTP/1.1; else it is one of HTTP/1.0.
fn check_request_line(line: &[u8]) -> Result<bool, Malformed> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed::RequestLine);
    };
    if method.is_empty() || !TOKEN.contains_all(method) {
        return Err(Malformed::RequestLine);
    }
    if target.len() > MAX_TARGET {
        return Err(Malformed::TargetTooLong);
    }
    let well_formed = match target {
        b"*" => method == b"OPTIONS",
        [b'/', ..] => TARGET.contains_all(target),
        _ => is_other_form(method, target),
    };
    if !well_formed {
        return Err(Malformed::Target);
    }
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        _ => Err(Malformed::Version),
    }
}

/// The absolute form, or with CONNECT the form of an authority.
fn is_other_form(method: &[u8], target: &[u8]) -> bool {
    if !TARGET.contains_all(target) || target.contains(&b'@') {
        return false;
    }
    let Ok(uri) = Uri::try_from(target) else {
        return false;
    };
    let Some(authority) = uri.authority() else {
        return false;
    };
    // What follows the host must be a port.
    let rest = authority
        .as_str()
        .strip_prefix(authority.host())
        .unwrap_or(":");
    let port = rest.is_empty() || authority.port_u16().is_some();
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    port && scheme != (method == b"CONNECT")
}

/// The longest header name that hyper reads: it answers a longer one by itself.
const MAX_NAME: usize = 65_535;

fn check_header(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    if line
        .first()
        .is_some_and(|byte| matches!(byte, b' ' | b'\t'))
    {
        return Err(Malformed::FoldedHeader);
    }
    let colon = memchr(b':', line).ok_or(Malformed::HeaderName)?;
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    if name.is_empty() || !TOKEN.contains_all(name) {
        return Err(Malformed::HeaderName);
    }
    if name.len() > MAX_NAME {
        return Err(Malformed::HeadTooLarge);
    }
    // Two comparisons are less than a load, of sixteen bytes at once.
    let fits = |byte: u8| (byte == b'\t') | ((byte >= b' ') & (byte != 0x7f));
    if !value.iter().fold(true, |all, byte| all & fits(*byte)) {
        return Err(Malformed::HeaderValue);
    }
    Ok((name, trim(value)))
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn parse_length(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::Length);
    }
    std::str::from_utf8(value)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .filter(|length| *length <= u64::MAX - 2)
        .ok_or(Malformed::Length)
}

static TOKEN: ByteSet = ByteSet::TOKEN;
/// Beyond what RFC 3986 allows, clients do send braces, quotes and the like; what they mean is decided later. A
/// fragment has no place in a request.
static TARGET: ByteSet = ByteSet::GRAPHIC.without(b"#<>`");
static HOST: ByteSet = ByteSet::GRAPHIC.without(b"/@#?\\\"<>`{}|^");

/// What is still to come of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Length(u64),
    Chunked(Chunks),
}

/// Where a chunked body stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunks {
    at: Place,
    size: u64,
    digits: u8,
    decoration: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    Extension,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    TrailerBegin,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
    End,
}

impl Body {
    /// Follows the body through `bytes`; returns how many of them are its own. At its end it becomes
    /// [`Self::None`].
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::None => Ok(0),
            Self::Length(left) => {
                let took = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= took as u64;
                if *left == 0 {
                    *self = Self::None;
                }
                Ok(took)
            }
            Self::Chunked(chunks) => {
                let took = chunks.advance(bytes)?;
                if chunks.at == Place::End {
                    *self = Self::None;
                }
                Ok(took)
            }
        }
    }
}

impl Chunks {
    fn advance(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            if self.at == Place::End {
                break;
            }
            if self.at == Place::Data {
                let rest = bytes.len() - at;
                let took = usize::try_from(self.size).map_or(rest, |size| size.min(rest));
                self.size -= took as u64;
                at += took;
                if self.size == 0 {
                    self.at = Place::DataReturn;
                }
                continue;
            }
            self.at = self.step(byte)?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<Place, Malformed> {
        let is_text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        let next = match (self.at, byte) {
            (Place::Size, _) if byte.is_ascii_hexdigit() && self.digits < 16 => {
                self.digits += 1;
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.size = (self.size << 4) | u64::from(digit);
                Place::Size
            }
            (Place::Size, b';') if self.digits > 0 => Place::Extension,
            (Place::Size, b'\r') if self.digits > 0 => Place::SizeLineFeed,
            (Place::Extension, b'\r') => Place::SizeLineFeed,
            (Place::Extension, _) if is_text => {
                self.decorate()?;
                Place::Extension
            }
            (Place::SizeLineFeed, b'\n') => {
                self.digits = 0;
                if self.size == 0 {
                    Place::TrailerBegin
                } else {
                    Place::Data
                }
            }
            (Place::DataReturn, b'\r') => Place::DataLineFeed,
            (Place::DataLineFeed, b'\n') => Place::Size,
            (Place::TrailerBegin, b'\r') => Place::LastLineFeed,
            (Place::TrailerBegin, _) if TOKEN.contains(byte) => {
                self.decorate()?;
                Place::Trailer
            }
            (Place::Trailer, b'\r') => Place::TrailerLineFeed,
            (Place::Trailer, _) if is_text => {
                self.decorate()?;
                Place::Trailer
            }
            (Place::TrailerLineFeed, b'\n') => Place::TrailerBegin,
            (Place::LastLineFeed, b'\n') => Place::End,
            _ => return Err(Malformed::Chunk),
        };
        Ok(next)
    }

    fn decorate(&mut self) -> Result<(), Malformed> {
        self.decoration += 1;
        if self.decoration > MAX_DECORATION {
            return Err(Malformed::Chunk);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &str) -> Result<Body, Malformed> {
        check_head(format!("{lines}\r\n\r\n").as_bytes(), 10)
    }

    #[test]
    fn request_lines() {
        for (line, verdict) in [
            ("GET / HTTP/1.1", Ok(())),
            ("GET /a?b={c}&d=\"e\" HTTP/1.1", Ok(())),
            ("OPTIONS * HTTP/1.1", Ok(())),
            ("GET http://h:1/a HTTP/1.1", Ok(())),
            ("CONNECT h:443 HTTP/1.1", Ok(())),
            ("GET * HTTP/1.1", Err(Malformed::Target)),
            ("GET a HTTP/1.1", Err(Malformed::Target)),
            ("GET /a#b HTTP/1.1", Err(Malformed::Target)),
            ("GET http://u@h/ HTTP/1.1", Err(Malformed::Target)),
            ("GET http://[::1]:80/ HTTP/1.1", Ok(())),
            ("GET http://[::1]/ HTTP/1.1", Ok(())),
            ("GET http://h:99999/ HTTP/1.1", Err(Malformed::Target)),
            ("GET http://h:/ HTTP/1.1", Err(Malformed::Target)),
            ("GET ftp://h/ HTTP/1.1", Err(Malformed::Target)),
            ("CONNECT http://h/ HTTP/1.1", Err(Malformed::Target)),
            ("GET /\u{e4} HTTP/1.1", Err(Malformed::Target)),
            ("GET  / HTTP/1.1", Err(Malformed::RequestLine)),
            ("GET /a b HTTP/1.1", Err(Malformed::RequestLine)),
            ("GET /", Err(Malformed::RequestLine)),
            (" GET / HTTP/1.1", Err(Malformed::RequestLine)),
            ("G(T / HTTP/1.1", Err(Malformed::RequestLine)),
            ("GET\t/ HTTP/1.1", Err(Malformed::RequestLine)),
            ("GET / HTTP/1.2", Err(Malformed::Version)),
            ("GET / HTTP/2.0", Err(Malformed::Version)),
            ("GET / http/1.1", Err(Malformed::Version)),
        ] {
            let head = format!("{line}\r\nHost: h");
            assert_eq!(check(&head).map(|_| ()), verdict, "{line}");
        }
    }

    #[test]
    fn headers() {
        let length = |length| Ok(Body::Length(length));
        let chunked = Ok(Body::Chunked(Chunks::default()));
        for (headers, verdict) in [
            ("Host: h", Ok(Body::None)),
            ("Host:", Ok(Body::None)),
            ("A: b", Err(Malformed::Host)),
            ("Host: h\r\nHost: h", Err(Malformed::Host)),
            ("Host: a@b", Err(Malformed::Host)),
            ("Host: a/b", Err(Malformed::Host)),
            ("Host: h\r\nContent-Length: 5", length(5)),
            ("Host: h\r\nContent-Length:\t5 ", length(5)),
            ("Host: h\r\nContent-Length: 0", Ok(Body::None)),
            ("Host: h\r\nContent-Length: +5", Err(Malformed::Length)),
            ("Host: h\r\nContent-Length: 5, 5", Err(Malformed::Length)),
            (
                "Host: h\r\nContent-Length: 5\r\nContent-Length: 5",
                Err(Malformed::Length),
            ),
            ("Host: h\r\nContent-Length:", Err(Malformed::Length)),
            (
                "Host: h\r\nContent-Length: 99999999999999999999",
                Err(Malformed::Length),
            ),
            ("Host: h\r\nTransfer-Encoding: chunked", chunked.clone()),
            ("Host: h\r\nTransfer-Encoding: Chunked", chunked),
            (
                "Host: h\r\nTransfer-Encoding: gzip, chunked",
                Err(Malformed::Coding),
            ),
            (
                "Host: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                Err(Malformed::Coding),
            ),
            (
                "Host: h\r\nTransfer-Encoding: identity",
                Err(Malformed::Coding),
            ),
            (
                "Host: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 1",
                Err(Malformed::LengthAndCoding),
            ),
            ("Host: h\r\n folded", Err(Malformed::FoldedHeader)),
            ("Host: h\r\nA : b", Err(Malformed::HeaderName)),
            ("Host: h\r\n: b", Err(Malformed::HeaderName)),
            ("Host: h\r\nA", Err(Malformed::HeaderName)),
            ("Host: h\r\nA: b\0", Err(Malformed::HeaderValue)),
            ("Host: h\r\nA: b\rc", Err(Malformed::HeaderValue)),
            ("Host: h\r\nA: b\r", Err(Malformed::HeaderValue)),
            (
                "Host: h\r\nTransfer-Encoding: chunked\r",
                Err(Malformed::HeaderValue),
            ),
            ("Host: h\r\nA: \u{1b}[2J", Err(Malformed::HeaderValue)),
            (
                "Host: h\r\na:1\r\nb:1\r\nc:1\r\nd:1\r\ne:1\r\nf:1\r\ng:1\r\nh:1\r\ni:1\r\nj:1",
                Err(Malformed::HeadTooLarge),
            ),
        ] {
            let head = format!("GET / HTTP/1.1\r\n{headers}");
            assert_eq!(check(&head), verdict, "{headers}");
        }
        for (len, verdict) in [
            (65_535, Ok(Body::None)),
            (65_536, Err(Malformed::HeadTooLarge)),
        ] {
            let name = "a".repeat(len);
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{name}: b");
            assert_eq!(check(&head), verdict, "{len}");
        }
        assert_eq!(check("GET / HTTP/1.0\r\nA: b"), Ok(Body::None));
        assert_eq!(check("GET / HTTP/1.0"), Ok(Body::None));
        assert_eq!(check("GET / HTTP/1.0\r"), Err(Malformed::Version));
        let coded = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked";
        assert_eq!(check(coded), Err(Malformed::Coding));
    }

    #[test]
    fn ends_are_found_at_any_cut() {
        let head = b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest";
        for seen in 0..24 {
            assert_eq!(search_end(head, seen), Search::Found(24), "{seen}");
        }
        assert_eq!(search_end(&head[..23], 0), Search::Incomplete);
        assert_eq!(
            search_end(b"GET / HTTP/1.1\nA: b\r\n\r\n", 0),
            Search::Hopeless
        );
        assert_eq!(
            search_end(b"GET / HTTP/1.1\r\nA: b\r\n\n", 0),
            Search::Hopeless
        );
    }

    #[test]
    fn chunked_bodies_end_where_they_end() {
        for (text, own) in [
            ("0\r\n\r\nGET", Ok(5)),
            ("3\r\nabc\r\n0\r\n\r\nGET", Ok(13)),
            ("A;x=y\r\n0123456789\r\n0\r\nT: v\r\n\r\nGET", Ok(30)),
            ("\r\n\r\n", Err(())),
            (";x\r\n", Err(())),
            ("3 \r\nabc\r\n", Err(())),
            ("0x3\r\nabc\r\n", Err(())),
            ("3\nabc\r\n", Err(())),
            ("3\r\nabcd\r\n", Err(())),
            ("3\r\nabc\n", Err(())),
            ("3;a\nb\r\n", Err(())),
            ("00000000000000003\r\n", Err(())),
            ("0\r\n folded\r\n\r\n", Err(())),
            ("0\r\n\n", Err(())),
        ] {
            for cut in 0..text.len() {
                let (first, second) = text.as_bytes().split_at(cut);
                let mut body = Body::Chunked(Chunks::default());
                let own_of = |body: &mut Body, part: &[u8]| body.advance(part).map_err(|_| ());
                let took =
                    own_of(&mut body, first).and_then(|one| Ok(one + own_of(&mut body, second)?));
                assert_eq!(took, own, "{text:?} cut at {cut}");
                assert_eq!(body == Body::None, own.is_ok());
            }
        }
    }
}
