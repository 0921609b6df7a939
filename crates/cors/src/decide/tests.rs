use super::*;

fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    map
}

#[test]
fn a_preflight_needs_all_three() {
    use RequestKind::{Actual, NotCors, Preflight};
    let asks = ("access-control-request-method", "POST");
    let origin = ("origin", "https://a.example");
    for (method, lines, kind) in [
        (Method::OPTIONS, &[origin, asks][..], Preflight),
        (Method::OPTIONS, &[origin], Actual),
        (Method::OPTIONS, &[asks], NotCors),
        (Method::OPTIONS, &[], NotCors),
        (Method::POST, &[origin, asks], Actual),
        (Method::GET, &[origin], Actual),
        (Method::GET, &[], NotCors),
    ] {
        assert_eq!(classify(&method, &map(lines)), kind, "{method} {lines:?}");
    }
}

#[test]
fn requested_headers_are_bounded() {
    let echoed = |value: &str| {
        requested_headers(&map(&[("access-control-request-headers", value)])).is_some()
    };
    let names = |count: usize| vec!["x-a"; count].join(",");
    assert!(echoed("content-type"));
    assert!(echoed("content-type, x-target,authorization"));
    assert!(echoed(&names(64)));
    assert!(!echoed(&names(65)));
    assert!(echoed(&"a".repeat(4096)));
    assert!(!echoed(&"a".repeat(4097)));
    assert!(!echoed(&",".repeat(1_000_000)));
    for bad in ["", ",", "a,,b", "a,", "a b", "a;b", "a\"", "<a>", "a:b"] {
        assert!(!echoed(bad), "{bad:?}");
    }
    let twice = map(&[
        ("access-control-request-headers", "a"),
        ("access-control-request-headers", "b"),
    ]);
    assert_eq!(requested_headers(&twice), None);
    assert_eq!(requested_headers(&HeaderMap::new()), None);
}

#[test]
fn vary_is_merged() {
    const ACRH: &str = "Access-Control-Request-Headers";
    for (before, origin, requested, after) in [
        (&[][..], false, false, &[][..]),
        (&[], true, false, &["Origin"]),
        (&[], false, true, &[ACRH]),
        (&[], true, true, &["Origin, Access-Control-Request-Headers"]),
        (&["Accept"], true, false, &["Accept, Origin"]),
        (
            &["Accept", "Cookie"],
            true,
            false,
            &["Accept, Cookie, Origin"],
        ),
        (&["Accept, oRIGIN"], true, false, &["Accept, oRIGIN"]),
        (&["Accept", "origin"], true, false, &["Accept", "origin"]),
        (
            &["origin"],
            true,
            true,
            &["origin, Access-Control-Request-Headers"],
        ),
        (&["*"], true, true, &["*"]),
        (&["Accept, *"], true, false, &["Accept, *"]),
        (&["X-Origin"], true, false, &["X-Origin, Origin"]),
        (&["Accept"], false, false, &["Accept"]),
    ] {
        let mut headers = HeaderMap::new();
        for line in before {
            headers.append(VARY, HeaderValue::from_static(line));
        }
        merge_vary(&mut headers, origin, requested);
        let found: Vec<_> = headers.get_all(VARY).iter().collect();
        assert_eq!(found, after, "{before:?}");
    }
}

#[test]
fn the_inner_service_does_not_speak_for_the_policy() {
    let mut headers = map(&[
        ("access-control-allow-origin", "*"),
        ("access-control-allow-origin", "https://evil.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-private-network", "true"),
        ("content-type", "text/plain"),
    ]);
    strip(&mut headers);
    let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(left, ["content-type"]);
}
