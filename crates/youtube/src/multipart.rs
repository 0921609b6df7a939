//! `multipart/form-data` (RFC 7578) read as it comes, with a bound on everything but the length of a part.

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use memchr::memmem::{self, Finder};
use proactions_edge::{Rejection, RejectionKind};
use proactions_forward::Body;

/// How long the header of one part may be, in bytes.
const MAX_PART_HEADER: usize = 8 * 1024;

/// How many parts one form may have.
const MAX_PARTS: usize = 64;

/// How much may stand before the first part and after the last one, in bytes.
const MAX_AROUND: usize = 4 * 1024;

/// What is wrong with a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormError {
    /// The body ended or failed before the form did.
    Broken,
    /// With what is told to the client.
    Malformed(&'static str),
    /// With what is told to the client.
    TooLarge(&'static str),
}

impl FormError {
    pub(crate) fn rejection(self) -> Rejection {
        match self {
            Self::Broken => Rejection::new(RejectionKind::BadRequest)
                .with_message("The request body could not be read"),
            Self::Malformed(what) => Rejection::new(RejectionKind::BadRequest).with_message(what),
            Self::TooLarge(what) => {
                Rejection::new(RejectionKind::PayloadTooLarge).with_message(what)
            }
        }
    }
}

/// The header of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// In lower case, without parameters.
    pub(crate) media_type: Option<String>,
}

/// A form on its way. It holds at most one frame of the body and the end of the one before.
pub(crate) struct Multipart {
    body: Body,
    buffer: BytesMut,
    /// Finds the line break, the dashes and the boundary.
    delimiter: Finder<'static>,
    place: Place,
    parts: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Preamble,
    Data,
    /// Right behind a delimiter.
    Delimiter,
    End,
}

impl Multipart {
    /// The form in `body`, by its `Content-Type`.
    pub(crate) fn new(content_type: &str, body: Body) -> Result<Self, FormError> {
        let boundary = boundary(content_type)?;
        let delimiter = format!("\r\n--{boundary}");
        Ok(Self {
            body,
            // The first delimiter has no line break before it.
            buffer: BytesMut::from(&b"\r\n"[..]),
            delimiter: Finder::new(delimiter.as_bytes()).into_owned(),
            place: Place::Preamble,
            parts: 0,
        })
    }

    /// The next part, or `None` at the form's end. What was not read of the part before is passed over.
    pub(crate) async fn next_part(&mut self) -> Result<Option<Part>, FormError> {
        if self.place == Place::End {
            return Ok(None);
        }
        let mut before = 0;
        let is_preamble = self.place == Place::Preamble;
        while let Some(data) = self.next_data().await? {
            before += data.len();
            if is_preamble && before > MAX_AROUND {
                return Err(FormError::Malformed(
                    "The form does not begin with its boundary",
                ));
            }
        }
        while self.buffer.len() < 2 {
            self.read_or_fail().await?;
        }
        if self.buffer.starts_with(b"--") {
            self.place = Place::End;
            self.read_epilogue().await?;
            return Ok(None);
        }
        if !self.buffer.starts_with(b"\r\n") {
            return Err(FormError::Malformed("A boundary of the form is malformed"));
        }
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(FormError::TooLarge("The form has too many parts"));
        }
        let end = loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if self.buffer.len() > MAX_PART_HEADER {
                return Err(TOO_LONG_HEADER);
            }
            self.read_or_fail().await?;
        };
        if end > MAX_PART_HEADER {
            return Err(TOO_LONG_HEADER);
        }
        let header = self.buffer.split_to(end);
        self.buffer.advance(4);
        let part = part(header.get(2..).unwrap_or_default())?;
        self.place = Place::Data;
        Ok(Some(part))
    }

    /// More of the part's data, or `None` at its end.
    pub(crate) async fn next_data(&mut self) -> Result<Option<Bytes>, FormError> {
        if !matches!(self.place, Place::Data | Place::Preamble) {
            return Ok(None);
        }
        loop {
            if let Some(at) = self.delimiter.find(&self.buffer) {
                let data = self.buffer.split_to(at).freeze();
                self.buffer.advance(self.delimiter.needle().len());
                self.place = Place::Delimiter;
                return Ok((!data.is_empty()).then_some(data));
            }
            // A delimiter may have begun at the end of what is there.
            let sure = (self.buffer.len() + 1).saturating_sub(self.delimiter.needle().len());
            if sure > 0 {
                return Ok(Some(self.buffer.split_to(sure).freeze()));
            }
            self.read_or_fail().await?;
        }
    }

    /// The whole of a short part.
    pub(crate) async fn collect_data(
        &mut self,
        limit: usize,
        too_large: &'static str,
    ) -> Result<BytesMut, FormError> {
        let mut whole = BytesMut::new();
        while let Some(data) = self.next_data().await? {
            if whole.len() + data.len() > limit {
                return Err(FormError::TooLarge(too_large));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole)
    }

    async fn read_epilogue(&mut self) -> Result<(), FormError> {
        let mut length = 0;
        loop {
            length += self.buffer.len();
            self.buffer.clear();
            if length > MAX_AROUND {
                return Err(FormError::Malformed("The form goes on after its end"));
            }
            if !self.read().await? {
                return Ok(());
            }
        }
    }

    async fn read_or_fail(&mut self) -> Result<(), FormError> {
        match self.read().await? {
            true => Ok(()),
            false => Err(FormError::Broken),
        }
    }

    /// Appends the next frame; says whether there was one.
    async fn read(&mut self) -> Result<bool, FormError> {
        loop {
            match self.body.frame().await {
                None => return Ok(false),
                Some(Err(_)) => return Err(FormError::Broken),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        self.buffer.extend_from_slice(&data);
                        return Ok(true);
                    }
                }
            }
        }
    }
}

const TOO_LONG_HEADER: FormError = FormError::TooLarge("The header of a part is too long");

const BAD_HEADER: FormError = FormError::Malformed("The header of a part is malformed");

fn boundary(content_type: &str) -> Result<String, FormError> {
    const BAD: FormError =
        FormError::Malformed("Content-Type must be multipart/form-data with a boundary");
    let (media_type, rest) = content_type.split_once(';').ok_or(BAD)?;
    if !media_type
        .trim()
        .eq_ignore_ascii_case("multipart/form-data")
    {
        return Err(BAD);
    }
    let boundary = parameter(rest, "boundary").ok_or(BAD)?.ok_or(BAD)?;
    // RFC 2046 section 5.1.1.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b);
    let good = (1..=70).contains(&boundary.len())
        && boundary.bytes().all(plain)
        && !boundary.ends_with(' ');
    good.then_some(boundary).ok_or(BAD)
}

fn part(header: &[u8]) -> Result<Part, FormError> {
    let header = std::str::from_utf8(header).map_err(|_| BAD_HEADER)?;
    let mut name = None;
    let mut media_type = None;
    for line in header.split("\r\n") {
        if line.contains(['\r', '\n', '\0']) {
            return Err(BAD_HEADER);
        }
        let (field, value) = line.split_once(':').ok_or(BAD_HEADER)?;
        if field.eq_ignore_ascii_case("content-disposition") {
            let (kind, rest) = value.split_once(';').ok_or(BAD_HEADER)?;
            if !kind.trim().eq_ignore_ascii_case("form-data") {
                return Err(BAD_HEADER);
            }
            let found = parameter(rest, "name").ok_or(BAD_HEADER)?;
            if name.replace(found.ok_or(BAD_HEADER)?).is_some() {
                return Err(BAD_HEADER);
            }
        } else if field.eq_ignore_ascii_case("content-type") {
            let value = value.split(';').next().unwrap_or_default().trim();
            if media_type.replace(value.to_ascii_lowercase()).is_some() {
                return Err(BAD_HEADER);
            }
        } else if field.eq_ignore_ascii_case("content-transfer-encoding") {
            let plain = ["7bit", "8bit", "binary"];
            if !plain.contains(&value.trim().to_ascii_lowercase().as_str()) {
                return Err(FormError::Malformed(
                    "Content-Transfer-Encoding of a part is not supported",
                ));
            }
        }
    }
    Ok(Part {
        name: name.ok_or(BAD_HEADER)?,
        media_type,
    })
}

/// The parameter of that name in `; a=b; c="d"`: the outer `None` where the list cannot be read or the
/// parameter stands in it twice, the inner one where it does not stand in it.
#[allow(clippy::option_option, reason = "unreadable and absent differ")]
fn parameter(mut list: &str, wanted: &str) -> Option<Option<String>> {
    let mut found = None;
    loop {
        list = list.trim_start_matches([' ', '\t', ';']);
        if list.is_empty() {
            return Some(found);
        }
        let (name, rest) = list.split_once('=')?;
        let value;
        (value, list) = match rest.strip_prefix('"') {
            Some(rest) => quoted(rest)?,
            None => {
                let end = rest.find(';').unwrap_or(rest.len());
                let (value, rest) = rest.split_at_checked(end)?;
                (value.trim().to_owned(), rest)
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) && found.replace(value).is_some() {
            return None;
        }
    }
}

/// The text up to the closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text.chars();
    loop {
        match rest.next()? {
            '"' => return Some((value, rest.as_str())),
            // Only these two are escaped; a backslash in a Windows path stands for itself.
            '\\' => match rest.clone().next()? {
                escaped @ ('"' | '\\') => {
                    rest.next();
                    value.push(escaped);
                }
                _ => value.push('\\'),
            },
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body::Frame;
    use http_body_util::StreamBody;
    use proactions_forward::BoxError;
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=XyZ";

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn pieces(text: &[u8], size: usize) -> Body {
        let parts: VecDeque<_> = text
            .chunks(size.max(1))
            .map(Bytes::copy_from_slice)
            .collect();
        Body::new(StreamBody::new(futures_util::stream::iter(
            parts
                .into_iter()
                .map(|part| Ok::<_, BoxError>(Frame::data(part))),
        )))
    }

    type Parts = Vec<(String, Vec<u8>)>;

    fn read(text: &[u8], size: usize) -> Result<Parts, FormError> {
        block_on(async {
            let mut form = Multipart::new(TYPE, pieces(text, size))?;
            let mut parts = Vec::new();
            while let Some(part) = form.next_part().await? {
                let data = form.collect_data(1 << 20, "big").await?;
                parts.push((part.name, data.to_vec()));
            }
            assert_eq!(form.next_part().await, Ok(None));
            Ok(parts)
        })
    }

    fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut text = Vec::new();
        for (name, data) in parts {
            text.extend_from_slice(
                format!("--XyZ\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n")
                    .as_bytes(),
            );
            text.extend_from_slice(data);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"--XyZ--\r\n");
        text
    }

    #[test]
    fn forms_and_what_is_wrong_with_them() {
        use FormError::{Broken, Malformed, TooLarge};
        let disposition = "Content-Disposition: form-data; name=a";
        let long = format!("--XyZ\r\n{disposition}\r\nX: {}\r\n\r\n", "x".repeat(9000));
        let many = form(&vec![("a", &b""[..]); 65]);
        let many = String::from_utf8(many).unwrap();
        let around = format!("{}--XyZ--", "x".repeat(5000));
        let after = format!("--XyZ--{}", "x".repeat(5000));
        for (text, verdict) in [
            ("--XyZ--", Ok(0)),
            ("--XyZ--\r\nthe end", Ok(0)),
            ("a preamble\r\n--XyZ--", Ok(0)),
            (
                "\r\n--XyZ\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--XyZ--",
                Ok(1),
            ),
            (
                "--XyZ\r\ncontent-disposition: form-data; filename=\"a;\\\"b\"; NAME=\"c\"\r\n\r\n\r\n--XyZ--",
                Ok(1),
            ),
            ("", Err(Broken)),
            ("--XyZ", Err(Broken)),
            ("--XyZ-", Err(Broken)),
            (
                "--XyZ\r\nContent-Disposition: form-data; name=a\r\n\r\nx",
                Err(Broken),
            ),
            (
                "--XyZ\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--XyZ",
                Err(Broken),
            ),
            (
                "--XyZx\r\n",
                Err(Malformed("A boundary of the form is malformed")),
            ),
            ("--XyZ\r\n\r\nx\r\n--XyZ--", Err(BAD_HEADER)),
            (
                "--XyZ\r\nContent-Type: a/b\r\n\r\nx\r\n--XyZ--",
                Err(BAD_HEADER),
            ),
            (
                "--XyZ\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\n\r\n--XyZ--",
                Err(BAD_HEADER),
            ),
            (
                "--XyZ\r\nContent-Disposition: attachment; name=a\r\n\r\n\r\n--XyZ--",
                Err(BAD_HEADER),
            ),
            (
                "--XyZ\r\nContent-Disposition: form-data; name=\"a\r\n\r\n\r\n--XyZ--",
                Err(BAD_HEADER),
            ),
            (
                "--XyZ\r\nContent-Disposition: form-data; name=a\nX: y\r\n\r\n\r\n--XyZ--",
                Err(BAD_HEADER),
            ),
            ("--XyZ\r\nno colon\r\n\r\n\r\n--XyZ--", Err(BAD_HEADER)),
            (
                &around,
                Err(Malformed("The form does not begin with its boundary")),
            ),
            (&after, Err(Malformed("The form goes on after its end"))),
            (&long, Err(TOO_LONG_HEADER)),
            (&many, Err(TooLarge("The form has too many parts"))),
        ] {
            for size in [1, 3, 4096, 1 << 20] {
                let read = read(text.as_bytes(), size).map(|parts| parts.len());
                assert_eq!(read, verdict, "{text:.200} in pieces of {size}");
            }
        }
    }

    #[test]
    fn boundaries() {
        for (content_type, boundary) in [
            ("multipart/form-data; boundary=a", Some("a")),
            ("Multipart/Form-Data;boundary=\"a b\"; x=y", Some("a b")),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=a; boundary=b", None),
            ("multipart/form-data; boundary=\"a \"", None),
            ("multipart/form-data; boundary=\"a\u{0}\"", None),
            ("multipart/form-data", None),
            ("multipart/mixed; boundary=a", None),
            ("", None),
        ] {
            let found = super::boundary(content_type).ok();
            assert_eq!(found.as_deref(), boundary, "{content_type}");
        }
        let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
        assert!(super::boundary(&long).is_err());
    }

    proptest! {
        #[test]
        fn data_comes_out_as_it_went_in(
            data in prop::collection::vec("[\r\n\\-XyZa]{0,40}", 1..5),
            size in 1_usize..50,
        ) {
            let holds_delimiter = |data: &String| format!("\r\n{data}").contains("\r\n--XyZ");
            prop_assume!(!data.iter().any(holds_delimiter));
            let parts: Vec<_> = data.iter().map(|data| ("n", data.as_bytes())).collect();
            let read = read(&form(&parts), size).unwrap();
            let read: Vec<_> = read.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
            prop_assert_eq!(read, parts);
        }

        #[test]
        fn nothing_makes_it_panic(text in "[\r\n\\-XyZ:;=\" a]{0,200}", size in 1_usize..50) {
            let _ = read(format!("--XyZ\r\n{text}").as_bytes(), size);
        }
    }
}
