//! What is read out of a provider's answer while it passes by. Input: the sizes of the pieces that it comes in, then
//! the answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proactions_ai_link::fuzzing::{Seen, events, passed_on, usage};
use proactions_fuzz::{cut, line};

const EVENTS: &str = "text/event-stream; charset=utf-8";
const JSON: &str = "application/json";

/// More pieces of a JSON answer are not kept, so its beginning may be lost.
const MAX_FRAMES: usize = 64;

fuzz_target!(|data: &[u8]| {
    let (sizes, answer) = line(data);
    let pieces = cut(answer, sizes);
    let single: Vec<_> = answer.chunks(1).collect();

    for want_text in [false, true] {
        let whole = usage(EVENTS, &[answer], want_text);
        bounded(&whole);
        assert!(want_text || whole.text.is_none());
        assert_eq!(whole, usage(EVENTS, &pieces, want_text));
        assert_eq!(whole, usage(EVENTS, &single, want_text));

        let whole = usage(JSON, &[answer], want_text);
        bounded(&whole);
        if pieces.len() <= MAX_FRAMES {
            assert_eq!(whole, usage(JSON, &pieces, want_text));
        }
    }

    for content_type in [EVENTS, JSON, "audio/mpeg"] {
        assert_eq!(
            passed_on(content_type, &pieces, false),
            (answer.to_vec(), false)
        );
    }

    // An answer that breaks off: a stream of events ends with one more, which its reader sees as one of its own, unless
    // it was over, when only the end of its last one may follow; anything else ends with an error.
    assert_eq!(passed_on(JSON, &pieces, true), (answer.to_vec(), true));
    let (passed, failed) = passed_on(EVENTS, &pieces, true);
    assert!(!failed && passed.starts_with(answer));
    let seen = events(&[&passed]);
    if passed.iter().skip(answer.len()).all(|byte| *byte == b'\n') {
        let done = b"[DONE]";
        assert!(answer.windows(done.len()).any(|part| part == done));
    } else {
        let last = seen.last().expect("the error is an event");
        let error: serde_json::Value = serde_json::from_slice(last)
            .unwrap_or_else(|_| panic!("the last event is {}", last.escape_ascii()));
        assert_eq!(error["error"]["code"], "upstream_error");
    }
    // The events that were whole before are as they were.
    let before = events(&[answer]);
    assert!(seen.starts_with(&before));
    assert_eq!(events(&pieces), before);
    assert_eq!(events(&single), before);
});

fn bounded(seen: &Seen) {
    assert!(
        seen.model
            .as_ref()
            .is_none_or(|model| model.chars().count() <= 128)
    );
    // A byte that is not UTF-8 takes three as a replacement character.
    assert!(
        seen.text
            .as_ref()
            .is_none_or(|text| text.len() <= 3 * 32 * 1024)
    );
}
