//! The guard before hyper. Input: the sizes of the pieces, then what a client sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proactions_fuzz::{cut, line};
use proactions_hub::fuzzing::{Passed, pass};

const MAX_HEAD: usize = 1024;
const MAX_HEADERS: usize = 16;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fuzz_target!(|data: &[u8]| {
    let (sizes, sent) = line(data);
    let whole = pass(&[sent], 64 * 1024, MAX_HEAD, MAX_HEADERS);
    let single: Vec<_> = sent.chunks(1).collect();
    for other in [
        pass(&cut(sent, sizes), 64 * 1024, MAX_HEAD, MAX_HEADERS),
        pass(&[sent], 7, MAX_HEAD, MAX_HEADERS),
        pass(&single, 1, MAX_HEAD, MAX_HEADERS),
    ] {
        compare(&whole, &other, sent);
    }
    assert!(
        sent.starts_with(&whole.bytes),
        "something passed that was not sent"
    );
    if sent.starts_with(PREFACE) {
        assert_eq!(whole.bytes, sent);
        return;
    }

    // What passed is read by another parser: whole heads, with one meaning each, and bodies that end where the guard
    // said that they end.
    let mut rest = whole.bytes.as_slice();
    let mut requests = 0;
    while !rest.is_empty() {
        let (head, framing) = read_head(rest);
        requests += 1;
        rest = &rest[head..];
        match framing {
            Framing::Length(length) => {
                rest = &rest
                    [usize::try_from(length).map_or(rest.len(), |length| length.min(rest.len()))..];
            }
            Framing::Chunked => match read_chunks(rest) {
                Some(length) => rest = &rest[length..],
                None => break,
            },
        }
    }
    if let Some((index, _)) = whole.refused {
        assert_eq!(index, requests, "{}", sent.escape_ascii());
    }
});

/// Whatever the pieces are: the same requests pass, and the same one is refused. Where a body is broken, the part
/// before the fault may or may not have passed.
fn compare(whole: &Passed, other: &Passed, sent: &[u8]) {
    assert_eq!(whole.refused, other.refused, "{}", sent.escape_ascii());
    assert_eq!(whole.broken, other.broken, "{}", sent.escape_ascii());
    if whole.broken {
        assert!(other.bytes.starts_with(&whole.bytes));
    } else {
        assert_eq!(whole.bytes, other.bytes, "{}", sent.escape_ascii());
    }
}

enum Framing {
    Length(u64),
    Chunked,
}

fn read_head(bytes: &[u8]) -> (usize, Framing) {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let end = match request.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        other => panic!("{other:?} for {}", bytes.escape_ascii()),
    };
    assert!(end <= MAX_HEAD + 2);
    let head = &bytes[..end];
    assert!(
        !head.contains(&0)
            && !head
                .windows(2)
                .any(|pair| pair[1] == b'\n' && pair[0] != b'\r')
    );
    let path = request.path.expect("a whole head has a target");
    assert!(
        path.bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#'),
        "{path}"
    );
    let version = request.version.expect("a whole head has a version");
    let named = |name: &str| {
        let name = name.to_owned();
        request
            .headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(&name))
    };
    let hosts = named("host").count();
    assert!(hosts == 1 || (hosts == 0 && version == 0));
    let lengths: Vec<_> = named("content-length").collect();
    let codings: Vec<_> = named("transfer-encoding").collect();
    assert!(
        lengths.len() + codings.len() <= 1,
        "two framings in {}",
        head.escape_ascii()
    );
    let framing = match (lengths.first(), codings.first()) {
        (Some(length), _) => {
            let length = std::str::from_utf8(length.value)
                .expect("a length is digits")
                .trim();
            assert!(length.bytes().all(|byte| byte.is_ascii_digit()), "{length}");
            Framing::Length(length.parse().expect("a length is a number"))
        }
        (None, Some(coding)) => {
            assert!(coding.value.trim_ascii().eq_ignore_ascii_case(b"chunked"));
            Framing::Chunked
        }
        (None, None) => Framing::Length(0),
    };
    (end, framing)
}

/// How long a chunked body is that begins `bytes`; `None` if it goes on after them.
fn read_chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let (size_line, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return None,
            Err(_) => panic!("no size of a chunk: {}", bytes[at..].escape_ascii()),
        };
        at += size_line;
        if size == 0 {
            // Trailers, then an empty line.
            loop {
                let end = bytes[at..].windows(2).position(|pair| pair == b"\r\n")?;
                at += end + 2;
                if end == 0 {
                    return Some(at);
                }
            }
        }
        at = at.checked_add(usize::try_from(size).ok()?)?;
        match bytes.get(at..at.checked_add(2)?) {
            Some(end) => assert_eq!(end, b"\r\n"),
            None => return None,
        }
        at += 2;
    }
}
