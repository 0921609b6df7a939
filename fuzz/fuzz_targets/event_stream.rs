//! Streams that are translated. Input: the sizes of the pieces, a name, then the stream: AWS's binary framing as it
//! is, the same text as the payload of a well-formed message, and Anthropic's events.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proactions_ai_link::fuzzing::{events, messages, translated};
use proactions_fuzz::{cut, line};

fuzz_target!(|data: &[u8]| {
    let (sizes, rest) = line(data);
    let (name, stream) = line(rest);
    splits_do_not_matter(sizes, stream);

    // Past the checksums, which nobody finds by chance.
    let mut framed = Vec::new();
    for payload in stream.split(|byte| *byte == b'\n').take(50) {
        framed.extend(message(name, payload));
    }
    let (found, fault) = messages(&[&framed]);
    if fault.is_none() {
        let payloads: Vec<_> = stream.split(|byte| *byte == b'\n').take(50).collect();
        let read: Vec<_> = found
            .iter()
            .map(|(_, payload)| payload.as_slice())
            .collect();
        assert_eq!(read, payloads);
    }
    splits_do_not_matter(sizes, &framed);

    // The same with a header section of the fuzzer's own.
    let odd = frame(name, stream);
    let (found, _) = messages(&[&odd]);
    for (headers, payload) in &found {
        let size: usize = headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert!(size <= name.len());
        assert_eq!(payload, stream);
    }

    for (provider, stream) in [
        ("bedrock", framed.as_slice()),
        ("bedrock", stream),
        ("anthropic", stream),
    ] {
        let whole = translated(provider, &[stream]);
        assert_eq!(
            whole,
            translated(provider, &cut(stream, sizes)),
            "{provider}"
        );
        for event in events(&[&whole.0]) {
            let is_json = serde_json::from_slice::<serde_json::Value>(&event).is_ok();
            assert!(is_json || event == b"[DONE]", "{}", event.escape_ascii());
        }
    }
});

fn splits_do_not_matter(sizes: &[u8], stream: &[u8]) {
    let whole = messages(&[stream]);
    assert_eq!(whole, messages(&cut(stream, sizes)));
    let single: Vec<_> = stream.chunks(1).collect();
    assert_eq!(whole, messages(&single));
    let size: usize = whole.0.iter().map(|(_, payload)| payload.len() + 16).sum();
    assert!(size <= stream.len());
}

/// A message whose event has this name.
fn message(name: &[u8], payload: &[u8]) -> Vec<u8> {
    let name = &name[..name.len().min(255)];
    let mut header = Vec::new();
    for (field, value) in [
        (&b":message-type"[..], &b"event"[..]),
        (b":event-type", name),
    ] {
        header.push(u8::try_from(field.len()).unwrap_or(u8::MAX));
        header.extend(field);
        header.push(7);
        header.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        header.extend(value);
    }
    frame(&header, payload)
}

fn frame(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = Vec::new();
    bytes.extend(length(16 + header.len() + payload.len()));
    bytes.extend(length(header.len()));
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    bytes.extend(header);
    bytes.extend(payload);
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    bytes
}
