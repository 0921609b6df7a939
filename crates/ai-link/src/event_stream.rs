//! Reads AWS's binary framing of streams (`application/vnd.amazon.eventstream`).
//!
//! A message is: its length and that of its header (4 bytes each), a checksum of these eight bytes, the
//! header, the payload, and a checksum of everything before it. Numbers are big-endian, checksums CRC-32.

/// How long a message may be, in bytes; the format itself allows 24 MiB, a real one has some hundred.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// The two lengths and their checksum.
const PRELUDE: usize = 12;

/// The prelude and the checksum at the end.
const FRAME: usize = PRELUDE + 4;

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// The fields of the type string, which are the ones that matter.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) payload: Vec<u8>,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Reads messages out of pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct EventStream {
    buffer: Vec<u8>,
}

impl EventStream {
    /// Hands every message that `piece` completes to `each`.
    ///
    /// # Errors
    /// When a checksum or a length is wrong.
    pub(crate) fn feed(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(Message),
    ) -> Result<(), &'static str> {
        self.buffer.extend_from_slice(piece);
        let mut at = 0;
        while let Some((message, len)) = read(self.buffer.get(at..).unwrap_or_default())? {
            each(message);
            at += len;
        }
        if at == self.buffer.len() {
            // Between two messages of a slow stream nothing is held.
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..at);
        }
        Ok(())
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// The first message and its length, if it is there as a whole.
fn read(bytes: &[u8]) -> Result<Option<(Message, usize)>, &'static str> {
    let (Some(prelude), Some(total), Some(headers), Some(checksum)) = (
        bytes.get(..8),
        number(bytes, 0),
        number(bytes, 4),
        number(bytes, 8),
    ) else {
        return Ok(None);
    };
    if crc32fast::hash(prelude) != checksum {
        return Err("a message whose beginning has a wrong checksum");
    }
    let total = usize::try_from(total).unwrap_or(usize::MAX);
    let headers = usize::try_from(headers).unwrap_or(usize::MAX);
    if total < FRAME || headers > total - FRAME {
        return Err("a message with a wrong length");
    }
    if total > MAX_MESSAGE {
        return Err("a message of over 4 MiB");
    }
    let Some(message) = bytes.get(..total) else {
        return Ok(None);
    };
    let checked = message.get(..total - 4).unwrap_or_default();
    if number(message, total - 4) != Some(crc32fast::hash(checked)) {
        return Err("a message with a wrong checksum");
    }
    let (header, payload) = checked
        .get(PRELUDE..)
        .and_then(|rest| rest.split_at_checked(headers))
        .ok_or("a message with a wrong length")?;
    let headers = read_headers(header).ok_or("a message with a header that cannot be read")?;
    let payload = payload.to_vec();
    Ok(Some((Message { headers, payload }, total)))
}

fn read_headers(mut bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    while let Some((len, rest)) = bytes.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*len))?;
        let (kind, rest) = rest.split_first()?;
        let (len, rest) = match kind {
            0 | 1 => (0, rest),
            2 => (1, rest),
            3 => (2, rest),
            4 => (4, rest),
            5 | 8 => (8, rest),
            6 | 7 => {
                let (len, rest) = rest.split_first_chunk()?;
                (usize::from(u16::from_be_bytes(*len)), rest)
            }
            9 => (16, rest),
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        if *kind == 7 {
            let name = std::str::from_utf8(name).ok()?.to_owned();
            found.push((name, std::str::from_utf8(value).ok()?.to_owned()));
        }
        bytes = rest;
    }
    Some(found)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message as AWS writes it.
    pub(crate) fn message(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
        let mut header = Vec::new();
        for (name, value) in headers {
            header.push(u8::try_from(name.len()).unwrap());
            header.extend(name.as_bytes());
            header.push(7);
            header.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            header.extend(value.as_bytes());
        }
        framed(&header, payload.as_bytes())
    }

    fn framed(header: &[u8], payload: &[u8]) -> Vec<u8> {
        let total = FRAME + header.len() + payload.len();
        let mut bytes = Vec::new();
        bytes.extend(u32::try_from(total).unwrap().to_be_bytes());
        bytes.extend(u32::try_from(header.len()).unwrap().to_be_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes.extend(header);
        bytes.extend(payload);
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    fn read_all(pieces: &[&[u8]]) -> Result<Vec<Message>, &'static str> {
        let mut found = Vec::new();
        let mut stream = EventStream::default();
        for piece in pieces {
            stream.feed(piece, |message| found.push(message))?;
        }
        assert!(stream.buffer.len() < MAX_MESSAGE);
        Ok(found)
    }

    /// Messages of the test vectors that AWS publishes for the encoding (`empty_message` and
    /// `payload_no_headers`).
    #[test]
    fn the_published_messages() {
        let empty = [
            0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff,
        ];
        assert_eq!(read_all(&[&empty]).unwrap(), [Message::default()]);
        assert_eq!(framed(b"", b""), empty);
        let plain = framed(b"", b"{'foo':'bar'}");
        assert_eq!(plain[8..12], [0xfd, 0x52, 0x8c, 0x5a]);
        assert_eq!(plain[25..], [0xc3, 0x65, 0x39, 0x36]);
    }

    #[test]
    fn every_type_of_a_field_is_passed_over() {
        let mut header = Vec::new();
        for (kind, len) in [
            (0, 0),
            (1, 0),
            (2, 1),
            (3, 2),
            (4, 4),
            (5, 8),
            (8, 8),
            (9, 16),
        ] {
            header.extend([1, b'x', kind]);
            header.extend(vec![9; len]);
        }
        header.extend([1, b'x', 6, 0, 2, 1, 2]);
        header.extend([2, b':', b'a', 7, 0, 1, b'b']);
        let found = read_all(&[&framed(&header, b"p")]).unwrap();
        assert_eq!(found[0].header(":a"), Some("b"));
        assert_eq!(found[0].headers.len(), 1);
        assert_eq!(found[0].payload, b"p");
        header.extend([1, b'x', 10]);
        assert!(read_all(&[&framed(&header, b"p")]).is_err());
    }

    #[test]
    fn faults_are_told() {
        let good = message(&[(":event-type", "messageStop")], "{}");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(read_all(&[&bad]).is_err(), "byte {at}");
        }
        let mut long = Vec::new();
        long.extend(u32::MAX.to_be_bytes());
        long.extend(0_u32.to_be_bytes());
        long.extend(crc32fast::hash(&long).to_be_bytes());
        assert_eq!(read_all(&[&long]).unwrap_err(), "a message of over 4 MiB");
    }

    proptest! {
        #[test]
        fn splits_do_not_matter(payloads in prop::collection::vec("[a-z]{0,9}", 0..4), size in 1_usize..40) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|p| message(&[(":event-type", "e")], p)).collect();
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            let found = read_all(&pieces).unwrap();
            let found: Vec<_> = found.iter().map(|m| String::from_utf8_lossy(&m.payload).into_owned()).collect();
            prop_assert_eq!(found, payloads);
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..64), header in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read_all(&[&bytes]);
            let _ = read_all(&[&framed(&header, &bytes)]);
        }
    }
}
