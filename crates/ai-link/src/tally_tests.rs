use proptest::prelude::*;

use super::*;

fn read(content_type: &str, parts: &[&[u8]], want_text: bool) -> Usage {
    let mut tally = Tally::new(content_type, want_text);
    for part in parts {
        tally.feed(&Bytes::copy_from_slice(part));
    }
    tally.finish()
}

/// Cuts `whole` at every position of `cuts`.
fn split<'a>(whole: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (whole.len() + 1)).collect();
    cuts.sort_unstable();
    let mut parts = Vec::new();
    let mut from = 0;
    for cut in cuts {
        parts.push(&whole[from..cut]);
        from = cut;
    }
    parts.push(&whole[from..]);
    parts
}

fn usage(model: &str, prompt: u64, completion: u64) -> Usage {
    Usage {
        model: Some(model.to_owned()),
        prompt_tokens: Some(prompt),
        completion_tokens: Some(completion),
        total_tokens: Some(prompt + completion),
        text: None,
    }
}

const CHAT: &str = r#"{"id":"x","model":"gpt-4.1","choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":99}"}}],"usage":{"prompt_tokens":9,"completion_tokens":6,"total_tokens":15}}"#;

const STREAM: &str = concat!(
    ": a comment\r\n\r\n",
    "data: {\"model\":\"gpt-4.1\",\"choices\":[{\"delta\":{\"content\":\"Hel\"}}],\"usage\":null}\n\n",
    "event: x\r\ndata: {\"model\":\"gpt-4.1\",\"choices\":[{\"delta\":{\"content\":\"lo\"}}]}\r\n\r\n",
    "data: {\"model\":\"gpt-4.1\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":6,\"total_tokens\":15}}\n\n",
    "data: [DONE]\n\n",
);

#[test]
fn answers_of_every_endpoint() {
    let responses = r#"{"object":"response","model":"m","usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7},"metadata":{}}"#;
    assert_eq!(
        read("application/json", &[responses.as_bytes()], false),
        usage("m", 3, 4)
    );
    let embeddings = r#"{"data":[{"embedding":[0.1]}],"model":"e","usage":{"prompt_tokens":4,"total_tokens":4}}"#;
    let read_embeddings = read(
        "application/json; charset=utf-8",
        &[embeddings.as_bytes()],
        false,
    );
    assert_eq!(
        (
            read_embeddings.prompt_tokens,
            read_embeddings.completion_tokens,
            read_embeddings.total_tokens
        ),
        (Some(4), None, Some(4))
    );
    let event = concat!(
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"m\",\"usage\":null}}\n\n",
        "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n",
        "data: {\"response\":{\"model\":\"m\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}}\n\n",
    );
    let mut expected = usage("m", 3, 4);
    assert_eq!(
        read("text/event-stream", &[event.as_bytes()], false),
        expected
    );
    expected.text = Some("Hi".to_owned());
    assert_eq!(
        read("text/event-stream", &[event.as_bytes()], true),
        expected
    );
}

#[test]
fn odd_shapes_are_no_usage_and_no_failure() {
    for body in [
        "",
        "nonsense",
        "[]",
        "{}",
        r#"{"usage":7,"model":7}"#,
        r#"{"usage":{"prompt_tokens":"9"}}"#,
        r#"{"usage":{"prompt_tokens":-1,"completion_tokens":1.5}}"#,
        r#"{"choices":7,"response":"x","usage":null}"#,
    ] {
        assert_eq!(
            read("application/json", &[body.as_bytes()], false),
            Usage::default(),
            "{body}"
        );
        let event = format!("data: {body}\n\n");
        assert_eq!(
            read("text/event-stream", &[event.as_bytes()], false),
            Usage::default(),
            "{body}"
        );
    }
    assert_eq!(
        read("audio/mpeg", &[CHAT.as_bytes()], true),
        Usage::default()
    );
}

#[test]
fn the_end_of_a_long_answer_is_enough_and_memory_is_bounded() {
    let mut tally = JsonTally::default();
    tally.feed(&Bytes::from_static(b"{\"data\":[\""));
    for _ in 0..1000 {
        tally.feed(&Bytes::from(vec![b'x'; 10_000]));
        assert!(tally.kept <= WINDOW + 10_000 && tally.frames.len() <= MAX_FRAMES);
    }
    tally.feed(&Bytes::from_static(
        b"\"],\"usage\":{\"input_tokens\":3,\"output_tokens\":4},\"z\":\"\\\"usage\\\":{}\"}",
    ));
    let usage = tally.finish();
    assert_eq!(
        (usage.prompt_tokens, usage.total_tokens),
        (Some(3), Some(7))
    );
}

#[test]
fn an_answer_full_of_counts_that_do_not_end_is_not_read_to_its_beginning() {
    let good = r#"{"usage":{"input_tokens":3,"output_tokens":4},"#;
    for (unended, found) in [(MAX_USAGES - 1, Some(3)), (MAX_USAGES, None)] {
        let answer = [good, &r#""usage":{"#.repeat(unended)].concat();
        let counts = last_usage(answer.as_bytes());
        let mut usage = Usage::default();
        usage.count(counts);
        assert_eq!(usage.prompt_tokens, found, "{unended}");
    }
}

#[test]
fn only_the_end_of_a_frame_is_searched() {
    let usage = r#""usage":{"input_tokens":3,"output_tokens":4}"#;
    let far = format!("{{{usage},\"x\":\"{}\"}}", "x".repeat(WINDOW));
    let near = format!("{{\"x\":\"{}\",{usage}}}", "x".repeat(WINDOW));
    for (answer, found) in [(far, None), (near, Some(3))] {
        let read = read("application/json", &[answer.as_bytes()], false);
        assert_eq!(read.prompt_tokens, found);
    }
}

#[test]
fn an_endless_line_is_not_kept() {
    let mut events = EventTally::default();
    for _ in 0..100 {
        events.feed(&[b'x'; 10_000]);
        assert!(events.line.len() <= WINDOW);
    }
    assert_eq!(events.separator(), "\n\n");
    events.feed(b"\n\ndata: {\"model\":\"m\"}\n");
    assert_eq!(events.usage.model.as_deref(), Some("m"));
    assert_eq!(events.separator(), "\n");
}

#[test]
fn the_separator_ends_what_is_under_way() {
    for (stream, separator) in [
        ("", ""),
        ("data: {}\n\n", ""),
        ("data: {}\r\n\r\n", ""),
        ("data: {}\n", "\n"),
        ("data: {", "\n\n"),
        ("data: {}\r", "\n\n"),
        ("data: {}\r\n", "\n"),
        ("data: {}\r\r", ""),
        ("data: {}\n\nd", "\n\n"),
    ] {
        let mut events = EventTally::default();
        events.feed(stream.as_bytes());
        assert_eq!(events.separator(), separator, "{stream:?}");
    }
}

proptest! {
    #[test]
    fn however_an_answer_is_cut_it_reads_the_same(cuts in prop::collection::vec(any::<usize>(), 0..40)) {
        prop_assert_eq!(read("application/json", &split(CHAT.as_bytes(), &cuts), false), usage("gpt-4.1", 9, 6));
    }

    #[test]
    fn however_a_stream_is_cut_it_reads_the_same(cuts in prop::collection::vec(any::<usize>(), 0..40)) {
        let mut expected = usage("gpt-4.1", 9, 6);
        prop_assert_eq!(read("text/event-stream", &split(STREAM.as_bytes(), &cuts), false), expected.clone());
        expected.text = Some("Hello".to_owned());
        prop_assert_eq!(read("text/event-stream", &split(STREAM.as_bytes(), &cuts), true), expected);
    }

    #[test]
    fn no_bytes_make_it_panic(parts in prop::collection::vec(prop::collection::vec(prop::sample::select(b"\"usage:{}[]\\\n\rdat, 09".to_vec()), 0..40), 0..8)) {
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let _ = read("application/json", &parts, true);
        let _ = read("text/event-stream", &parts, true);
        let _ = last_usage(&parts.concat());
    }
}

#[test]
fn lines_end_in_three_ways_and_a_byte_order_mark_is_no_part_of_them() {
    let mut expected = usage("gpt-4.1", 9, 6);
    expected.text = Some("Hello".to_owned());
    let plain = STREAM.replace("\r\n", "\n");
    for end in ["\n", "\r", "\r\n"] {
        for mark in ["", "\u{feff}"] {
            // Without the comment the mark stands before the data.
            let stream = plain.trim_start_matches(": a comment\n\n");
            let stream = [mark, &stream.replace('\n', end)].concat();
            for cut in 0..stream.len() {
                let parts = split(stream.as_bytes(), &[cut]);
                let read = read("text/event-stream", &parts, true);
                assert_eq!(read, expected, "{end:?} {mark:?} cut at {cut}");
            }
        }
    }
}

#[test]
fn a_stream_that_is_done_says_so() {
    for (stream, end) in [
        ("data: {}\n\n", None),
        ("data: {\"a\":\"[DONE]\"}\n\n", None),
        (": [DONE]\n\n", None),
        ("data: [DON", None),
        ("data: {}\n\ndata: [DONE]\n\n", Some("")),
        ("data:[DONE]\r\n\r\n", Some("")),
        ("data: [DONE]\n", Some("\n")),
        ("data: [DONE]", Some("\n\n")),
    ] {
        for cut in 0..stream.len() {
            let mut tally = Tally::new("text/event-stream", false);
            for part in split(stream.as_bytes(), &[cut]) {
                tally.feed(&Bytes::copy_from_slice(part));
            }
            assert_eq!(tally.done(), end, "{stream:?} cut at {cut}");
        }
    }
    let mut json = Tally::new("application/json", false);
    json.feed(&Bytes::from_static(b"data: [DONE]\n\n"));
    assert_eq!(json.done(), None);
}
