use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// 2015-08-30T12:36:00Z, the moment of AWS's test suite.
fn moment() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160)
}

/// The keys of AWS's test suite.
fn signer(session_token: Option<&str>) -> Signer {
    Signer::new(
        SecretString::from("AKIDEXAMPLE"),
        SecretString::from("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        session_token.map(SecretString::from),
        "us-east-1".to_owned(),
        "service",
    )
}

fn signature(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> (String, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut all = vec![("host", "example.amazonaws.com")];
    all.extend(headers);
    let request = Signable {
        method,
        path,
        query,
        headers: &all,
        body: body.as_bytes(),
    };
    let signed = signer(None).sign(request, moment()).unwrap();
    assert_eq!(signed.date, "20150830T123600Z");
    let rest = signed
        .authorization
        .strip_prefix(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=",
        )
        .unwrap();
    let (names, signature) = rest.split_once(", Signature=").unwrap();
    (names.to_owned(), signature.to_owned())
}

/// Names and signatures of AWS's published test suite (`aws-sig-v4-test-suite`).
#[test]
fn the_signatures_of_awss_test_suite() {
    const VANILLA: &str = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    for (case, method, target, expected) in [
        ("get-vanilla", "GET", "/", VANILLA),
        ("get-relative", "GET", "/example/..", VANILLA),
        (
            "get-relative-relative",
            "GET",
            "/example1/example2/../..",
            VANILLA,
        ),
        ("get-slash", "GET", "//", VANILLA),
        ("get-slash-dot-slash", "GET", "/./", VANILLA),
        (
            "get-slashes",
            "GET",
            "//example//",
            "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
        ),
        (
            "get-slash-pointless-dot",
            "GET",
            "/./example",
            "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
        ),
        (
            "get-space",
            "GET",
            "/example space/",
            "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
        ),
        (
            "get-unreserved",
            "GET",
            "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
        (
            "get-utf8",
            "GET",
            "/\u{1234}",
            "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
        ),
        (
            "get-vanilla-empty-query-key",
            "GET",
            "/?Param1=value1",
            "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
        ),
        (
            "get-vanilla-query-order-key-case",
            "GET",
            "/?Param2=value2&Param1=value1",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "get-vanilla-utf8-query",
            "GET",
            "/?\u{1234}=bar",
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
        ),
        (
            "post-vanilla",
            "POST",
            "/",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "post-vanilla-query",
            "POST",
            "/?Param1=value1",
            "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
        ),
    ] {
        let (names, signature) = signature(method, target, &[], "");
        assert_eq!(names, "host;x-amz-date", "{case}");
        assert_eq!(signature, expected, "{case}");
    }
}

#[test]
fn the_signatures_of_awss_test_suite_with_fields_and_bodies() {
    for (case, method, headers, body, names, expected) in [
        (
            "get-header-key-duplicate",
            "GET",
            &[
                ("my-header1", "value2"),
                ("my-header1", "value2"),
                ("my-header1", "value1"),
            ][..],
            "",
            "host;my-header1;x-amz-date",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        (
            "get-header-value-trim",
            "GET",
            &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
            "",
            "host;my-header1;my-header2;x-amz-date",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "post-header-key-sort",
            "POST",
            &[("my-header1", "value1")],
            "",
            "host;my-header1;x-amz-date",
            "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
        ),
        (
            "post-x-www-form-urlencoded",
            "POST",
            &[("content-type", "application/x-www-form-urlencoded")],
            "Param1=value1",
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ] {
        let signed = signature(method, "/", headers, body);
        assert_eq!(signed, (names.to_owned(), expected.to_owned()), "{case}");
    }
}

#[test]
fn a_session_token_is_signed() {
    let request = Signable {
        method: "POST",
        path: "/",
        query: "",
        headers: &[("host", "example.amazonaws.com")],
        body: b"",
    };
    // `post-sts-header-after` of AWS's test suite signs without the token, `-before` with it.
    let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
    let signed = signer(Some(token)).sign(request, moment()).unwrap();
    assert_eq!(
        signed.authorization,
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
    );
    assert!(!format!("{:?}", signer(Some(token))).contains("AKID"));
}

#[test]
fn an_encoded_path_is_encoded_once_more() {
    assert_eq!(
        canonical_path("/model/a%3Ab%2Fc/converse"),
        "/model/a%253Ab%252Fc/converse"
    );
}

proptest! {
    #[test]
    fn a_segment_is_one_segment(text in any::<String>()) {
        let segment = segment(&text);
        prop_assert!(segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
        prop_assert_eq!(percent_decode_str(&segment).decode_utf8().unwrap(), text);
    }
}
