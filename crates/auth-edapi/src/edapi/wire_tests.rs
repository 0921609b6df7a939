use std::convert::Infallible;

use base64::Engine as _;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const URL: &str = "https://edapi.example.com/edapi";

fn policy(change: impl FnOnce(&mut EdapiConfig)) -> EdapiPolicy {
    let mut config = EdapiConfig::default();
    change(&mut config);
    EdapiPolicy {
        url: URL.into(),
        config,
    }
}

fn wire(change: impl FnOnce(&mut EdapiConfig)) -> Wire {
    Wire::new(&policy(change)).unwrap()
}

fn token_in(place: TokenIn, name: &str) -> Wire {
    wire(|config| {
        config.check.token_in = place;
        config.check.token_name = name.to_owned();
    })
}

fn login_as(format: LoginFormat) -> Wire {
    wire(|config| config.login.format = format)
}

fn token(text: &str) -> Credential {
    Credential::Token(text.into())
}

fn login(user: &str, password: &str) -> Credential {
    Credential::Login {
        user: user.to_owned(),
        password: password.into(),
    }
}

#[test]
fn the_default_check_is_a_get_with_the_token_in_the_query() {
    let request = wire(|_| ())
        .request(&token("a b&c=d#e/f?%0d\u{e9}"))
        .unwrap();
    assert_eq!(request.method(), "GET");
    assert_eq!(
        request.uri(),
        "https://edapi.example.com/edapi/v3/user/me?token=a%20b%26c%3Dd%23e%2Ff%3F%250d%C3%A9"
    );
    assert_eq!(request.headers()["accept"], "application/json");
    assert_eq!(request.headers()["accept-encoding"], "identity");
    assert_eq!(request.headers()["cache-control"], "no-cache");
    assert!(request.body().is_empty());
}

#[test]
fn the_token_can_go_elsewhere() {
    for (place, name, header, value) in [
        (TokenIn::Header, "X-Auth-Token", "x-auth-token", "t=1;x"),
        (TokenIn::Bearer, "", "authorization", "Bearer t=1;x"),
    ] {
        let request = token_in(place, name).request(&token("t=1;x")).unwrap();
        assert_eq!(request.headers()[header], value);
        assert!(request.headers()[header].is_sensitive());
        assert_eq!(request.uri().query(), None);
    }
    let wire = token_in(TokenIn::Cookie, "sid");
    let request = wire.request(&token("t=1/+")).unwrap();
    assert_eq!(request.headers()["cookie"], "sid=t=1/+");
    // What no cookie can hold was not given out as one.
    for bad in ["t;x=1", "t,x", "t\"", "t\\", "t x"] {
        assert!(wire.request(&token(bad)).is_none(), "{bad}");
    }
    for place in [TokenIn::Header, TokenIn::Bearer, TokenIn::Cookie] {
        for bad in ["t\r\nx: y", "t\n", "t\0", "t\u{e9}", "t\u{7f}"] {
            let request = token_in(place, "x-token").request(&token(bad));
            assert!(request.is_none(), "{place:?} {bad:?}");
        }
    }
}

#[test]
fn slashes_at_the_end_of_the_base_do_not_double() {
    let policy = EdapiPolicy {
        url: "https://edapi.example.com/edapi//".into(),
        config: EdapiConfig::default(),
    };
    let request = Wire::new(&policy).unwrap().request(&token("t")).unwrap();
    assert_eq!(request.uri().path(), "/edapi/v3/user/me");
}

#[test]
fn a_login_is_sent_in_three_formats() {
    let bob = login("b\u{f6}b & co", "p\"w=\\1");
    let request = login_as(LoginFormat::Json).request(&bob).unwrap();
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri(), "https://edapi.example.com/edapi/v3/login");
    assert_eq!(request.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(
        body,
        json!({"username": "b\u{f6}b & co", "password": "p\"w=\\1"})
    );

    let request = login_as(LoginFormat::Form).request(&bob).unwrap();
    assert_eq!(
        request.headers()["content-type"],
        "application/x-www-form-urlencoded"
    );
    assert_eq!(
        request.body(),
        "username=b%C3%B6b%20%26%20co&password=p%22w%3D%5C1"
    );

    let request = login_as(LoginFormat::Basic).request(&bob).unwrap();
    let header = request.headers()["authorization"].to_str().unwrap();
    let pair = STANDARD
        .decode(header.strip_prefix("Basic ").unwrap())
        .unwrap();
    assert_eq!(String::from_utf8(pair).unwrap(), "b\u{f6}b & co:p\"w=\\1");
    assert!(request.headers()["authorization"].is_sensitive());
    assert!(
        login_as(LoginFormat::Basic)
            .request(&login("a:b", "c"))
            .is_none()
    );
}

#[test]
fn the_fields_of_a_login_can_be_named() {
    let wire = wire(|config| {
        config.login.format = LoginFormat::Form;
        config.login.user_field = "user".to_owned();
        config.login.password_field = "pass&word".to_owned();
    });
    let request = wire.request(&login("a", "b")).unwrap();
    assert_eq!(request.body(), "user=a&pass%26word=b");
}

#[test]
fn a_probe_carries_nothing() {
    let request = token_in(TokenIn::Query, "token").probe().unwrap();
    assert_eq!(request.uri(), "https://edapi.example.com/edapi/v3/user/me");
    assert!(!request.headers().contains_key("authorization"));
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let problems = |change: fn(&mut EdapiConfig)| {
        let error = Wire::new(&policy(change)).unwrap_err();
        let pair = |problem: proactions_edge::ConfigProblem| (problem.key, problem.message);
        error
            .into_problems()
            .into_iter()
            .map(pair)
            .collect::<Vec<_>>()
    };
    for (key, message, change) in [
        (
            "edapi.check.tokenName",
            "is a field that every request sets itself",
            (|config| {
                config.check.token_in = TokenIn::Header;
                config.check.token_name = "Host".to_owned();
            }) as fn(&mut EdapiConfig),
        ),
        ("edapi.userPointer", "has a ~ that is not", |config| {
            config.user_pointer = "/a~2b".to_owned();
        }),
        ("edapi.userPointer", "has a ~ that is not", |config| {
            config.user_pointer = "/a~".to_owned();
        }),
        ("edapi.login.userField", "is empty", |config| {
            config.login.user_field = String::new();
        }),
        ("edapi.login.passwordField", "is the same", |config| {
            config.login.password_field = "username".to_owned();
        }),
        ("edapi.login.method", "GET carries no body", |config| {
            config.login.method = "GET".to_owned();
        }),
        ("edapi.check.path", "together with edapi_url", |config| {
            config.check.path = "/a b".to_owned();
        }),
    ] {
        let found = problems(change);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].0 == key && found[0].1.contains(message),
            "{found:?}"
        );
    }
}

async fn answer(
    status: u16,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Answer, Fault> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let response = response.body(Full::new(body.into())).unwrap();
    wire(|config| config.max_body_bytes = 1000)
        .read(response)
        .await
}

#[tokio::test]
async fn answers_mean_what_the_contract_says() {
    let yes = |user: &str| Ok(Answer::Yes(user.to_owned()));
    let status = |status| Err(Fault::Status(StatusCode::from_u16(status).unwrap()));
    let bob = r#"{"username":"bob"}"#;
    for code in [200, 201, 299] {
        assert_eq!(answer(code, &[], bob).await, yes("bob"), "{code}");
    }
    for code in [401, 403, 404] {
        assert_eq!(answer(code, &[], bob).await, Ok(Answer::No), "{code}");
    }
    for code in [
        301, 302, 304, 307, 400, 405, 407, 408, 410, 418, 429, 500, 502, 503, 504,
    ] {
        assert_eq!(answer(code, &[], bob).await, status(code), "{code}");
    }
    for (body, fault) in [
        ("", Fault::NotJson),
        ("<html>bob</html>", Fault::NotJson),
        ("{\"username\":\"bob\"} x", Fault::NotJson),
        ("{\"username\":\"bob", Fault::NotJson),
        ("{}", Fault::NoUser),
        ("\"bob\"", Fault::NoUser),
        (r#"{"username":""}"#, Fault::NoUser),
        (r#"{"username":"  "}"#, Fault::NoUser),
        (r#"{"username":null}"#, Fault::NoUser),
        (r#"{"username":true}"#, Fault::NoUser),
        (r#"{"username":["bob"]}"#, Fault::NoUser),
        (r#"{"username":"a\nb"}"#, Fault::NoUser),
        (r#"{"username":"a\u202eb"}"#, Fault::NoUser),
    ] {
        assert_eq!(answer(200, &[], body).await, Err(fault), "{body}");
    }
    assert_eq!(answer(204, &[], "").await, Err(Fault::NotJson));
    // The content type is not what decides.
    let html = [("content-type", "text/html")];
    assert_eq!(answer(200, &html, bob).await, yes("bob"));
    for (coding, expected) in [
        ("identity", yes("bob")),
        ("Identity", yes("bob")),
        ("gzip", Err(Fault::Encoded)),
        ("identity, br", Err(Fault::Encoded)),
    ] {
        let headers = [("content-encoding", coding)];
        assert_eq!(answer(200, &headers, bob).await, expected, "{coding}");
    }
}

#[tokio::test]
async fn json_that_is_nested_too_deep_is_not_read() {
    let nested = |depth| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"username":"bob","x":{open}{close}}}"#)
    };
    assert!(answer(200, &[], nested(120)).await.is_ok());
    assert_eq!(answer(200, &[], nested(130)).await, Err(Fault::NotJson));
}

#[tokio::test]
async fn a_body_over_the_cap_is_not_read_on() {
    let long = |len: usize| format!("{:len$}", r#"{"username":"bob"}"#);
    assert!(answer(200, &[], long(1000)).await.is_ok());
    assert_eq!(answer(200, &[], long(1001)).await, Err(Fault::TooLarge));

    // One that never ends, of unknown length; and one that breaks off.
    let endless = futures_util::stream::repeat_with(|| {
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b' '; 100])))
    });
    let wire = wire(|config| config.max_body_bytes = 1000);
    let response = Response::new(StreamBody::new(endless));
    assert_eq!(wire.read(response).await, Err(Fault::TooLarge));
    let broken = futures_util::stream::iter([
        Ok(Frame::data(Bytes::from_static(b"{"))),
        Err(std::io::Error::other("gone")),
    ]);
    let response = Response::new(StreamBody::new(broken));
    assert_eq!(wire.read(response).await, Err(Fault::Broken));
}

#[test]
fn users_are_texts_and_integers() {
    for (user, expected) in [
        (json!("bob"), Some("bob")),
        (json!(" Bob\t"), Some("Bob")),
        (json!("\u{3000}b\u{f6}b smith"), Some("b\u{f6}b smith")),
        (json!(4711), Some("4711")),
        (json!(-1), Some("-1")),
        (json!(u64::MAX), Some("18446744073709551615")),
        (json!(1.5), None),
        (json!(1e300), None),
        (json!("x".repeat(256)), Some(&*"x".repeat(256))),
        (json!("x".repeat(257)), None),
        (json!("a\u{0}b"), None),
        (json!({"a": 1}), None),
    ] {
        let found = user_at(&json!({"user": {"name": user}}), "/user/name");
        assert_eq!(found.as_deref(), expected, "{user}");
    }
    // Not the same as the integer next to it.
    let json: Value = serde_json::from_str(r#"{"id":18446744073709551616}"#).unwrap();
    assert_eq!(user_at(&json, "/id"), None);
}

#[test]
fn pointers_are_those_of_rfc_6901() {
    let json = json!({
        "": "empty", "a/b": "slash", "m~n": "tilde", "~1": "both", " ": "space", "c%d": "percent",
        "list": ["zero", "one"], "0": {"x": "object"},
    });
    for (pointer, expected) in [
        ("/", Some("empty")),
        ("/a~1b", Some("slash")),
        ("/m~0n", Some("tilde")),
        ("/~01", Some("both")),
        ("/ ", Some("space")),
        ("/c%d", Some("percent")),
        ("/list/1", Some("one")),
        ("/list/01", None),
        ("/list/+1", None),
        ("/list/-", None),
        ("/list/2", None),
        ("/0/x", Some("object")),
        ("/a/b", None),
        ("/missing", None),
    ] {
        assert_eq!(user_at(&json, pointer).as_deref(), expected, "{pointer}");
    }
}

#[test]
fn debug_shows_no_credential() {
    for place in [TokenIn::Header, TokenIn::Bearer, TokenIn::Cookie] {
        let request = token_in(place, "x-token")
            .request(&token("hunter2"))
            .unwrap();
        let shown = format!("{request:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

proptest! {
    #[test]
    fn no_token_changes_where_or_what_is_asked(text in prop_oneof!["\\PC{0,60}", "[\\x00-\\x7f]{0,60}"]) {
        if let Some(request) = wire(|_| ()).request(&token(&text)) {
            let uri = request.uri();
            prop_assert_eq!(uri.host(), Some("edapi.example.com"));
            prop_assert_eq!(uri.scheme_str(), Some("https"));
            prop_assert_eq!(uri.path(), "/edapi/v3/user/me");
            let query = uri.query().unwrap();
            prop_assert!(!query.contains(['&', ';', '#']));
            prop_assert_eq!(query.matches('=').count(), 1);
            let value = query.strip_prefix("token=").unwrap();
            let back = percent_encoding::percent_decode_str(value).decode_utf8().unwrap();
            prop_assert_eq!(back, text.as_str());
            prop_assert_eq!(request.headers().len(), 4);
        }
        for place in [TokenIn::Header, TokenIn::Bearer, TokenIn::Cookie] {
            if let Some(request) = token_in(place, "x-token").request(&token(&text)) {
                prop_assert_eq!(request.uri(), "https://edapi.example.com/edapi/v3/user/me");
                // One line more than without it, that holds the token as it is.
                prop_assert_eq!(request.headers().len(), 5);
                let holds = |value: &HeaderValue| value.as_bytes().ends_with(text.as_bytes());
                prop_assert!(request.headers().values().any(holds));
                prop_assert!(place != TokenIn::Cookie || !text.contains(';'));
            }
        }
    }

    #[test]
    fn no_login_adds_a_field(user in "\\PC{1,40}", password in "\\PC{0,40}") {
        let bob = login(&user, &password);
        let request = login_as(LoginFormat::Json).request(&bob).unwrap();
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        prop_assert_eq!(body, json!({"username": user, "password": password}));
        let request = login_as(LoginFormat::Form).request(&bob).unwrap();
        let body = std::str::from_utf8(request.body()).unwrap();
        prop_assert_eq!(body.matches('&').count(), 1);
        prop_assert_eq!(body.matches('=').count(), 2);
        for request in [Some(request), login_as(LoginFormat::Basic).request(&bob)].into_iter().flatten() {
            prop_assert_eq!(request.uri(), "https://edapi.example.com/edapi/v3/login");
        }
    }

    #[test]
    fn no_pointer_and_no_answer_panics(pointer in "(/[a-z0-9~/\\-]{0,5}){0,4}", text in "\\PC{0,60}") {
        let json = json!({"a": {"b": [text, 1, null]}, "0": text});
        if let Some(user) = user_at(&json, &pointer) {
            prop_assert_eq!(user.trim(), user.as_str());
            prop_assert!(!user.is_empty() && user.len() <= 256 && !user.contains(char::is_control));
        }
        let _ = serde_json::from_str::<Value>(&text).map(|json| user_at(&json, &pointer));
    }
}
