use proptest::prelude::*;
use serde_json::json;

use super::*;

fn merge(options: &Value, body: &str) -> Result<Merged, MergeError> {
    let Value::Object(options) = options else {
        panic!("options are an object");
    };
    Defaults::new(options).under(&Bytes::copy_from_slice(body.as_bytes()), true)
}

#[test]
fn the_request_wins_and_its_bytes_stay() {
    for (options, body, merged) in [
        (json!({}), r#" {"a" : 1.0} "#, r#" {"a" : 1.0} "#),
        (json!({"b": 2}), r#"{"a":1}"#, r#"{"a":1,"b":2}"#),
        (json!({"b": 2, "c": [1.50]}), "{}", r#"{"b":2,"c":[1.5]}"#),
        (json!({"b": 2}), " {\n} ", " {\n\"b\":2} "),
        (json!({"a": 2}), r#"{"a":1}"#, r#"{"a":1}"#),
        (json!({"a": 2}), r#"{"a":null}"#, r#"{"a":null}"#),
        (
            json!({"a": {"x": 1}}),
            r#"{"a":{"y":2}}"#,
            r#"{"a":{"y":2}}"#,
        ),
        // The same name, written with an escape.
        (json!({"a": 2}), r#"{"\u0061":1}"#, r#"{"\u0061":1}"#),
        (json!({"q\"": 2}), "{}", r#"{"q\"":2}"#),
        (
            json!({"b": 2}),
            r#"{"n":1e400,"m":12345678901234567890123,"s":"\ud83d\ude00\u00e9"}"#,
            r#"{"n":1e400,"m":12345678901234567890123,"s":"\ud83d\ude00\u00e9","b":2}"#,
        ),
        (
            json!({"stream_options": {"include_usage": true}}),
            r#"{"a":1}"#,
            r#"{"a":1}"#,
        ),
        (
            json!({"stream_options": {"include_usage": true}}),
            r#"{"stream":true}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
    ] {
        let result = merge(&options, body).unwrap();
        assert_eq!(result.body, merged, "{options} under {body}");
    }
}

#[test]
fn stream_and_model_are_known() {
    for (options, body, stream, model) in [
        (json!({}), r#"{"model":"m","stream":true}"#, true, Some("m")),
        (
            json!({}),
            r#"{"model":"m\u0041","stream":false}"#,
            false,
            Some("mA"),
        ),
        (json!({"model": "d", "stream": true}), "{}", true, Some("d")),
        (
            json!({"model": "d", "stream": true}),
            r#"{"stream":false,"model":"m"}"#,
            false,
            Some("m"),
        ),
        (json!({}), r#"{"model":7,"stream":"true"}"#, false, None),
    ] {
        let merged = merge(&options, body).unwrap();
        assert_eq!(
            (merged.stream, merged.model.as_deref()),
            (stream, model),
            "{body}"
        );
    }
}

fn merge_over(options: &Value, overrides: &Value, body: &str) -> Merged {
    let (Value::Object(options), Value::Object(overrides)) = (options, overrides) else {
        panic!("both are objects");
    };
    let body = Bytes::copy_from_slice(body.as_bytes());
    let defaults = Defaults::new(options).overridden(overrides);
    defaults.under(&body, true).unwrap()
}

#[test]
fn overrides_win_over_the_request_and_the_request_over_options() {
    let usage = json!({"stream_options": {"include_usage": true}});
    for (options, overrides, body, merged) in [
        (json!({}), json!({"a": 2}), "{}", r#"{"a":2}"#),
        (json!({}), json!({"a": 2}), r#"{"a":1}"#, r#"{"a":2}"#),
        (json!({}), json!({"a": 2}), r#"{"\u0061":1}"#, r#"{"a":2}"#),
        (json!({}), json!({"a": null}), r#"{"a":1}"#, r#"{"a":null}"#),
        (json!({"a": 3}), json!({"a": 2}), "{}", r#"{"a":2}"#),
        // What is not overridden keeps its bytes.
        (
            json!({"c": 3, "b": 9}),
            json!({"a": {"x": 2}}),
            r#" {"b" : 1.0, "a":1, "q\"":12345678901234567890123} "#,
            r#"{"b":1.0,"q\"":12345678901234567890123,"c":3,"a":{"x":2}}"#,
        ),
        (
            json!({}),
            json!({"a": 2}),
            r#" {"b" : 1.0} "#,
            r#" {"b" : 1.0,"a":2} "#,
        ),
        (json!({}), usage.clone(), r#"{"a":1}"#, r#"{"a":1}"#),
        (
            json!({}),
            json!({"stream": false}),
            r#"{"stream":true,"stream_options":{}}"#,
            r#"{"stream":false}"#,
        ),
    ] {
        let result = merge_over(&options, &overrides, body);
        assert_eq!(
            result.body, merged,
            "{overrides} over {body} over {options}"
        );
    }
    let merged = merge_over(
        &json!({"model": "default"}),
        &json!({"model": "forced", "stream": true}),
        r#"{"model":"asked","stream":false}"#,
    );
    assert_eq!(
        (merged.stream, merged.model.as_deref()),
        (true, Some("forced"))
    );
}

proptest! {
    #[test]
    fn each_member_comes_from_whom_it_belongs_to(
        options in prop::collection::btree_map("[a-e]", 0..10_u8, 0..4),
        request in prop::collection::btree_map("[a-e]", 10..20_u8, 0..4),
        overrides in prop::collection::btree_map("[a-e]", 20..30_u8, 0..4),
    ) {
        let merged = merge_over(&json!(options), &json!(overrides), &json!(request).to_string());
        let merged: std::collections::BTreeMap<String, u8> =
            serde_json::from_slice(&merged.body).unwrap();
        let mut expected = options;
        expected.extend(request);
        expected.extend(overrides);
        prop_assert_eq!(merged, expected);
    }
}

#[test]
fn a_body_without_additions_is_not_copied() {
    let body = Bytes::from_static(br#"{"a":1}"#);
    let merged = Defaults::default().under(&body, true).unwrap();
    assert_eq!(merged.body.as_ptr(), body.as_ptr());
}

#[test]
fn what_is_not_an_object_is_refused() {
    use MergeError as E;
    let many = format!(
        "{{{}\"z\":1}}",
        (0..600).map(|n| format!("\"{n}\":1,")).collect::<String>()
    );
    for (body, error) in [
        ("", E::Syntax),
        ("{", E::Syntax),
        ("{}x", E::Syntax),
        ("{}{}", E::Syntax),
        (r#"{"a":1,}"#, E::Syntax),
        (r#"{"a":NaN}"#, E::Syntax),
        (r#"{'a':1}"#, E::Syntax),
        (r#"{"a":01}"#, E::Syntax),
        ("[]", E::NotAnObject),
        ("7", E::NotAnObject),
        ("null", E::NotAnObject),
        (r#""x""#, E::NotAnObject),
        (r#"{"model":"a","model":"b"}"#, E::Duplicate),
        (r#"{"model":"a","\u006dodel":"b"}"#, E::Duplicate),
        (many.as_str(), E::TooManyMembers),
    ] {
        assert_eq!(merge(&json!({"b": 2}), body).unwrap_err(), error, "{body}");
    }
    let invalid = Bytes::from_static(b"{\"a\":\"\xff\"}");
    assert_eq!(
        Defaults::default().under(&invalid, true).unwrap_err(),
        E::Syntax
    );
}

#[test]
fn deep_nesting_needs_no_stack() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let merged = merge(&json!({"b": 2}), &deep).unwrap();
    assert_eq!(merged.body.len(), deep.len() + 6);
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("[a-d\"\\\\é]{1,2}", inner), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec(("[a-d\"\\\\é]{1,2}", value()), 0..6)
        .prop_map(|members| members.into_iter().collect())
}

proptest! {
    #[test]
    fn merging_is_a_shallow_union(options in object(), request in object()) {
        let mut expected = options.clone();
        for (name, value) in &request {
            expected.insert(name.clone(), value.clone());
        }
        let text = serde_json::to_string_pretty(&request).unwrap();
        let merged = Defaults::new(&options).under(&Bytes::from(text), true).unwrap();
        let got: Map<String, Value> = serde_json::from_slice(&merged.body).unwrap();
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn no_bytes_make_it_panic(body in "[{}\\[\\]\":,a\\\\ 01]{0,30}") {
        let _ = merge(&json!({"b": 2}), &body);
    }
}
