//! Paths, from the entry check over the routes to the upstream. Input: method and path, a line each, then an
//! upstream's path.
#![no_main]

use std::sync::LazyLock;

use http::Method;
use libfuzzer_sys::fuzz_target;
use proactions_auth_edapi::{Access, AccessPolicy};
use proactions_edge::path::{check_route, check_tail};
use proactions_forward::BaseUrl;
use proactions_fuzz::{percent_decode, text_line};

const PUBLIC: [(&[Method], &str); 3] = [
    (&[Method::GET, Method::HEAD], "/health"),
    (&[Method::GET, Method::HEAD], "/ready"),
    (&[Method::GET], "/youtube/auth/google/callback"),
];

const FORWARD: &str = "/proxy/forward/";

/// Every other route.
const PROTECTED: [&str; 15] = [
    "/auth/logout",
    "/auth/session",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/images/generations",
    "/v1/models",
    "/v1/responses",
    "/youtube/auth/google",
    "/youtube/auth/logout",
    "/youtube/auth/status",
    "/youtube/upload",
];

/// The policy as the hub builds it.
static POLICY: LazyLock<AccessPolicy> = LazyLock::new(|| {
    let mut policy = AccessPolicy::new()
        .with_tail("/proxy/forward/{id}/")
        .expect("a pattern");
    for (methods, path) in PUBLIC {
        policy = policy.with_public(methods, path).expect("a route");
    }
    policy
});

fuzz_target!(|data: &[u8]| {
    let Some((method, rest)) = text_line(data) else {
        return;
    };
    let Some((path, rest)) = text_line(rest) else {
        return;
    };
    let Some((base, _)) = text_line(rest) else {
        return;
    };
    let Ok(method) = method.parse::<Method>() else {
        return;
    };

    if check_route(path).is_ok() {
        check_canonical(path);
    }
    if check_tail(path).is_ok() {
        check_no_way_up(path.as_bytes());
    }

    let access = POLICY.decide(&method, path);
    let route = proactions_hub::fuzzing::route(&method, path);
    let is_public = PUBLIC
        .iter()
        .any(|(methods, known)| *known == path && methods.contains(&method));
    assert_eq!(access == Access::Public, is_public, "{method} {path}");
    assert_eq!(proactions_hub::fuzzing::is_public(&method, path), is_public);
    if let Some(Some(name)) = &route {
        // The table is compared byte by byte; only forwarding has paths of its own.
        let known = is_public || PROTECTED.contains(&path);
        assert!(known != path.starts_with(FORWARD), "{path} is {name}");
        if !is_public && access != Access::Forbidden {
            assert!(
                matches!(access, Access::Protected | Access::Ambiguous(_)),
                "{path} is {access:?}"
            );
        }
    }
    if access == Access::Protected && !path.starts_with(FORWARD) {
        check_canonical(path);
    }

    // What is handed on stays below the upstream's own path.
    let Some(rest) = path
        .strip_prefix(FORWARD)
        .filter(|_| access == Access::Protected)
    else {
        return;
    };
    let Some(tail) = rest.find('/').map(|at| &rest[at..]) else {
        return;
    };
    if !base.starts_with('/') {
        return;
    }
    let Ok(url) = BaseUrl::parse(&format!("https://upstream.example{base}")) else {
        return;
    };
    let query = base.split_once('?').map(|(_, query)| query);
    let Ok(joined) = url.join(tail, query) else {
        return;
    };
    assert_eq!(
        joined.authority().map(|authority| authority.as_str()),
        Some("upstream.example")
    );
    assert_eq!(joined.scheme_str(), Some("https"));
    assert_eq!(joined.path(), format!("{}{tail}", url.path()));
    check_no_way_up(joined.path().as_bytes());
});

/// Nobody can read the path as another one.
fn check_canonical(path: &str) {
    assert!(path.starts_with('/') && path.is_ascii(), "{path}");
    assert!(
        !path.contains("//") && !path.contains(['\\', ';']),
        "{path}"
    );
    let decoded = percent_decode(path.as_bytes()).expect("escapes are whole");
    let slashes = |text: &[u8]| text.iter().filter(|byte| **byte == b'/').count();
    assert_eq!(slashes(&decoded), slashes(path.as_bytes()), "{path}");
    assert!(
        !decoded
            .iter()
            .any(|byte| byte.is_ascii_control() || b"\\;%".contains(byte)),
        "{path}"
    );
    let dots = |segment: &[u8]| segment == b"." || segment == b"..";
    assert!(!decoded.split(|byte| *byte == b'/').any(dots), "{path}");
}

/// However often somebody decodes it: no segment leads upwards.
fn check_no_way_up(path: &[u8]) {
    let mut text = path.to_vec();
    for _ in 0..4 {
        let dots = |segment: &[u8]| segment == b"." || segment == b"..";
        assert!(
            !text.split(|byte| *byte == b'/').any(dots),
            "{}",
            path.escape_ascii()
        );
        assert!(!text.contains(&b'\\'), "{}", path.escape_ascii());
        assert!(
            !text.iter().any(u8::is_ascii_control),
            "{}",
            path.escape_ascii()
        );
        match percent_decode(&text) {
            Some(decoded) if decoded != text => text = decoded,
            _ => break,
        }
    }
}
