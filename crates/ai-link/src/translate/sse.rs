/// Reads server-sent events (WHATWG HTML, section 9.2) out of pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct SseLines {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was a carriage return, which a line feed may follow.
    after_return: bool,
    /// The first line has ended, before which a byte order mark may stand.
    begun: bool,
}

/// An event is longer than any real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// It may stand before a stream, and is no part of it.
pub(crate) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// How long an event may be, in bytes.
const MAX_EVENT: usize = 4 * 1024 * 1024;

impl SseLines {
    /// Hands the data of every event that `piece` ends to `each`.
    pub(crate) fn feed(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), TooLong> {
        for &byte in piece {
            let was_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if was_return => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    self.end_line(&mut each);
                }
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > MAX_EVENT {
                return Err(TooLong);
            }
        }
        Ok(())
    }

    fn end_line(&mut self, each: &mut impl FnMut(&[u8])) {
        if !std::mem::replace(&mut self.begun, true) && self.line.starts_with(BYTE_ORDER_MARK) {
            self.line.drain(..BYTE_ORDER_MARK.len());
        }
        if self.line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                each(&self.data);
            }
            // The next event seldom needs the room of a long one.
            self.data = Vec::new();
            self.line = Vec::new();
            return;
        }
        if let Some(data) = self.line.strip_prefix(b"data:") {
            let data = data.strip_prefix(b" ").unwrap_or(data);
            if self.has_data {
                self.data.push(b'\n');
            }
            self.has_data = true;
            self.data.extend_from_slice(data);
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let mut found = Vec::new();
        let mut lines = SseLines::default();
        for piece in pieces {
            lines
                .feed(piece, |data| {
                    found.push(String::from_utf8_lossy(data).into_owned());
                })
                .unwrap();
        }
        found
    }

    #[test]
    fn fields_comments_and_line_ends() {
        for (stream, expected) in [
            ("event: a\ndata: 1\n\n", &["1"][..]),
            ("data:1\r\n\r\ndata: 2\r\rdata:  3\n\n", &["1", "2", " 3"]),
            ("data: 1\ndata: 2\n\n", &["1\n2"]),
            (": ping\n\nid: 1\nretry: 5\n\n", &[]),
            ("data\n\ndata:\n\n", &[""]),
            ("data: not ended\n", &[]),
            (
                "\u{feff}data: 1\n\n\u{feff}data: 2\n\ndata: 3\n\n",
                &["1", "3"],
            ),
            ("\u{feff}\ndata: 1\n\n", &["1"]),
        ] {
            assert_eq!(events(&[stream.as_bytes()]), expected, "{stream:?}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut lines = SseLines::default();
        let piece = vec![b'x'; MAX_EVENT];
        lines.feed(&piece, |_| ()).unwrap();
        assert_eq!(lines.feed(b"x", |_| ()), Err(TooLong));
    }

    proptest! {
        #[test]
        fn splits_do_not_matter(stream in "(data: ?[ab\u{e9}]{0,4}|event: x|:c|)(\n|\r\n|\r){1,3}(data:[ab]{0,3}\n\n){0,4}", cut in 0_usize..40) {
            let bytes = stream.as_bytes();
            let cut = cut.min(bytes.len());
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(events(&[bytes]), events(&[&bytes[..cut], &bytes[cut..]]));
            prop_assert_eq!(events(&[bytes]), events(&single));
        }
    }
}
