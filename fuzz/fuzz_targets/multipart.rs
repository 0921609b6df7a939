//! Forms with a video. Input: the sizes of the pieces, the content type, then the body; its text is also taken as the
//! data of two parts of a well-formed form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proactions_forward::Body;
use proactions_fuzz::{Pieces, cut, line, now, text_line};
use proactions_youtube::fuzzing::read_form;

/// The whole of a short part.
const LIMIT: usize = 64 * 1024;

fuzz_target!(|data: &[u8]| {
    let (sizes, rest) = line(data);
    let Some((content_type, body)) = text_line(rest) else {
        return;
    };
    let read = |content_type: &str, pieces: &[&[u8]]| {
        now(read_form(
            content_type,
            Body::new(Pieces::new(pieces)),
            LIMIT,
        ))
    };

    let whole = read(content_type, &[body]);
    assert_eq!(whole, read(content_type, &cut(body, sizes)));
    let single: Vec<_> = body.chunks(1).collect();
    assert_eq!(whole, read(content_type, &single));
    if let Ok(parts) = &whole {
        let size: usize = parts.iter().map(|(_, _, data)| data.len()).sum();
        assert!(size <= body.len());
        assert!(parts.len() <= 64);
    }

    let boundary = "a+b_c/1";
    let delimiter = format!("\r\n--{boundary}");
    let ends = |part: &[u8]| [&b"\r\n"[..], part, b"\r\n--"].concat();
    let (first, second) = body.split_at(body.len() / 2);
    let inside = |part: &[u8]| {
        ends(part)
            .windows(delimiter.len())
            .any(|window| window == delimiter.as_bytes())
    };
    if inside(first) || inside(second) {
        return;
    }
    let mut form = Vec::new();
    for (name, part) in [("one", first), ("two", second)] {
        form.extend_from_slice(&delimiter.as_bytes()[2 * usize::from(form.is_empty())..]);
        form.extend_from_slice(b"\r\nContent-Type: Text/Plain; charset=x\r\n");
        form.extend_from_slice(
            format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n").as_bytes(),
        );
        form.extend_from_slice(part);
    }
    form.extend_from_slice(format!("{delimiter}--\r\n").as_bytes());
    let content_type = format!("multipart/form-data; boundary=\"{boundary}\"");
    let text = Some("text/plain".to_owned());
    let expected = vec![
        ("one".to_owned(), text.clone(), first.to_vec()),
        ("two".to_owned(), text, second.to_vec()),
    ];
    assert_eq!(read(&content_type, &[&form]), Ok(expected.clone()));
    assert_eq!(read(&content_type, &cut(&form, sizes)), Ok(expected));
});
