use proptest::prelude::*;

use super::*;
use crate::TrustProxyConfig;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn peer(ip: &str) -> Peer {
    Peer::new(SocketAddr::new(self::ip(ip), 50_000), Scheme::Http)
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

fn nets(entries: &[&str]) -> TrustProxy {
    TrustProxy::nets(entries).unwrap()
}

#[test]
fn the_walk_of_express_with_the_departures() {
    const FORGED: &str = "6.6.6.6, 1.1.1.1, 10.1.2.3";
    let yes = TrustProxy::try_from(TrustProxyConfig::Switch(true)).unwrap();
    let text = TrustProxyConfig::Text("loopback, 10.0.0.0/8".to_owned());
    let rfc1918 = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
    for (policy, list, client, hops) in [
        (TrustProxy::None, FORGED, "127.0.0.1", 0),
        (TrustProxy::hops(0), FORGED, "127.0.0.1", 0),
        // Departure: Express takes 6.6.6.6 here.
        (yes.clone(), FORGED, "10.1.2.3", 1),
        (TrustProxy::hops(1), FORGED, "10.1.2.3", 1),
        (TrustProxy::hops(2), FORGED, "1.1.1.1", 2),
        (TrustProxy::hops(3), FORGED, "6.6.6.6", 3),
        (TrustProxy::hops(4), FORGED, "6.6.6.6", 3),
        (TrustProxy::hops(9), FORGED, "6.6.6.6", 3),
        (nets(&["loopback"]), FORGED, "10.1.2.3", 1),
        (TrustProxy::try_from(text).unwrap(), FORGED, "1.1.1.1", 2),
        (nets(&["loopback", "uniquelocal"]), FORGED, "1.1.1.1", 2),
        (nets(&rfc1918), FORGED, "127.0.0.1", 0),
        (
            nets(&["loopback"]),
            "127.0.0.1, 1.1.1.1, 127.0.0.1",
            "1.1.1.1",
            2,
        ),
        // Departures: unreadable entries end the walk.
        (
            nets(&["loopback", "uniquelocal"]),
            "6.6.6.6, unknown, 10.0.0.1",
            "10.0.0.1",
            1,
        ),
        (TrustProxy::hops(9), "<script>, 10.0.0.1", "10.0.0.1", 1),
        (TrustProxy::hops(1), "garbage", "127.0.0.1", 0),
        (TrustProxy::hops(2), "1.1.1.1, \u{fc}", "127.0.0.1", 0),
        // Departure: the port is dropped.
        (TrustProxy::hops(1), "1.2.3.4:5678", "1.2.3.4", 1),
        (yes.clone(), ", ,1.1.1.1,,", "1.1.1.1", 1),
        (yes.clone(), "", "127.0.0.1", 0),
        (yes, " , ,", "127.0.0.1", 0),
        (TrustProxy::hops(9), "1.1.1.1", "1.1.1.1", 1),
        // All trusted: the left-most.
        (
            nets(&["loopback", "uniquelocal"]),
            "10.0.0.9, 10.0.0.1",
            "10.0.0.9",
            2,
        ),
        // Spellings of a trusted address that only a lax reader understands.
        (nets(&["loopback"]), "9.9.9.9, 0177.0.0.1", "127.0.0.1", 0),
        (nets(&["loopback"]), "9.9.9.9, 2130706433", "127.0.0.1", 0),
        (nets(&["loopback"]), "9.9.9.9, 0x7f.0.0.1", "127.0.0.1", 0),
    ] {
        let found = policy.resolve(peer("127.0.0.1"), &headers(&[("x-forwarded-for", list)]));
        assert_eq!(found.ip, ip(client), "{policy:?} {list:?}");
        assert_eq!(found.trusted_hops, hops, "{policy:?} {list:?}");
    }
}

#[test]
fn entries_that_are_addresses() {
    for (entry, address) in [
        ("192.0.2.1", Some("192.0.2.1")),
        ("192.0.2.1:4711", Some("192.0.2.1")),
        ("2001:DB8::1", Some("2001:db8::1")),
        ("[2001:db8::1]", Some("2001:db8::1")),
        ("[2001:db8::1]:443", Some("2001:db8::1")),
        ("::ffff:192.0.2.1", Some("192.0.2.1")),
        ("::ffff:c000:201", Some("192.0.2.1")),
        ("[::FFFF:C000:201]:80", Some("192.0.2.1")),
        ("192.0.2.1:", None),
        ("192.0.2.1:99999", None),
        ("192.0.2.1:80:80", None),
        ("[192.0.2.1]", None),
        ("[2001:db8::1", None),
        ("2001:db8::1]", None),
        ("[2001:db8::1]x", None),
        ("fe80::1%eth0", None),
        ("\"192.0.2.1\"", None),
        ("for=192.0.2.1", None),
        ("192.0.2.1/32", None),
        ("192.0.2.1 192.0.2.2", None),
        ("localhost", None),
        ("_hidden", None),
    ] {
        assert_eq!(parse_entry(entry.as_bytes()), address.map(ip), "{entry}");
    }
}

#[test]
fn several_lines_are_one_list() {
    let map = headers(&[
        ("x-forwarded-for", "6.6.6.6,\t1.1.1.1"),
        ("X-Forwarded-For", "10.1.2.3"),
    ]);
    for (hops, client) in [(1, "10.1.2.3"), (2, "1.1.1.1"), (3, "6.6.6.6")] {
        let found = TrustProxy::hops(hops).resolve(peer("127.0.0.1"), &map);
        assert_eq!(found.ip, ip(client));
    }
}

#[test]
fn one_host_is_one_address_in_every_spelling() {
    for text in ["1.2.3.4", "::ffff:1.2.3.4", "::ffff:102:304"] {
        assert_eq!(
            TrustProxy::None.resolve(peer(text), &HeaderMap::new()).ip,
            ip("1.2.3.4")
        );
        let map = headers(&[("x-forwarded-for", text)]);
        let found = nets(&["loopback"]).resolve(peer("::ffff:127.0.0.1"), &map);
        assert_eq!(found.ip, ip("1.2.3.4"));
    }
    let other = headers(&[("x-forwarded-for", "::ffff:102:305")]);
    let found = TrustProxy::hops(1).resolve(peer("::1"), &other);
    assert_ne!(found.ip, ip("1.2.3.4"));
}

#[test]
fn the_walk_is_bounded() {
    let list = (0..200)
        .map(|n| format!("10.0.0.{n}"))
        .collect::<Vec<_>>()
        .join(",");
    let found = nets(&["loopback", "10.0.0.0/8"])
        .resolve(peer("127.0.0.1"), &headers(&[("x-forwarded-for", &list)]));
    assert_eq!(found.trusted_hops, MAX_ENTRIES);
    assert_eq!(found.ip, ip("10.0.0.136"));

    let commas = format!("6.6.6.6{}", ",".repeat(MAX_ENTRIES));
    let found =
        TrustProxy::hops(1).resolve(peer("127.0.0.1"), &headers(&[("x-forwarded-for", &commas)]));
    assert_eq!(found.ip, ip("127.0.0.1"));
}

#[test]
fn the_scheme_is_what_the_peer_says_last() {
    use Scheme::{Http, Https};
    for (lines, expected) in [
        (&["https"][..], Https),
        (&["HTTPS"], Https),
        (&["wss"], Https),
        (&["http"], Http),
        (&["ws"], Http),
        (&["https, http"], Http),
        (&["http, https"], Https),
        (&["http", "https"], Https),
        (&["https", "http"], Http),
        // Nothing to go by: the connection's own scheme, which is HTTP here.
        (&[""], Http),
        (&["https,"], Http),
        (&["httpss"], Http),
        (&["javascript"], Http),
        (&["https http"], Http),
        (&["h\u{fc}"], Http),
    ] {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(
                "x-forwarded-proto",
                HeaderValue::from_bytes(line.as_bytes()).unwrap(),
            );
        }
        let trusted = TrustProxy::hops(1).resolve(peer("127.0.0.1"), &map);
        assert_eq!(trusted.scheme, expected, "{lines:?}");
        // The peer is the only one whose trust matters.
        let stranger = nets(&["10.0.0.0/8"]).resolve(peer("127.0.0.1"), &map);
        assert_eq!(stranger.scheme, Http, "{lines:?}");
    }
    let tls = Peer::new(SocketAddr::new(ip("127.0.0.1"), 1), Https);
    let odd = headers(&[("x-forwarded-proto", "spdy")]);
    assert_eq!(TrustProxy::hops(1).resolve(tls, &odd).scheme, Https);
    let plain = headers(&[("x-forwarded-proto", "http")]);
    assert_eq!(TrustProxy::hops(1).resolve(tls, &plain).scheme, Http);
    assert_eq!(TrustProxy::None.resolve(tls, &plain).scheme, Https);
}

#[test]
fn the_host_is_checked() {
    for (forwarded, expected) in [
        ("hub.example.com", "hub.example.com"),
        ("Hub.Example.com:8443", "Hub.Example.com:8443"),
        ("192.0.2.1:80", "192.0.2.1:80"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ("forged.example, hub.example.com", "hub.example.com"),
        // Not usable: the request's own host.
        ("", "inner:3000"),
        ("hub.example.com,", "inner:3000"),
        ("user@hub.example.com", "inner:3000"),
        ("user:pw@hub.example.com", "inner:3000"),
        ("hub.example.com/x", "inner:3000"),
        ("hub.example.com?x", "inner:3000"),
        ("hub.example.com\\x", "inner:3000"),
        ("hub example.com", "inner:3000"),
        ("hub.example.com:", "inner:3000"),
        ("hub.example.com:99999", "inner:3000"),
        ("hub.example.com:+80", "inner:3000"),
        (":80", "inner:3000"),
        ("[2001:db8::1", "inner:3000"),
        ("[2001:db8::1]443", "inner:3000"),
        ("[x]", "inner:3000"),
        ("h\u{fc}b.example.com", "inner:3000"),
        ("<script>", "inner:3000"),
    ] {
        let map = headers(&[("host", "inner:3000"), ("x-forwarded-host", forwarded)]);
        let trusted = TrustProxy::hops(1).resolve(peer("127.0.0.1"), &map);
        assert_eq!(trusted.host_str(), Some(expected), "{forwarded}");
        let direct = TrustProxy::None.resolve(peer("127.0.0.1"), &map);
        assert_eq!(direct.host_str(), Some("inner:3000"), "{forwarded}");
    }
    let long = "a".repeat(MAX_AUTHORITY + 1);
    assert!(!is_authority(long.as_bytes()));
}

#[test]
fn the_request_names_its_host_once() {
    let host = |uri: &str, lines: &[(&'static str, &str)]| {
        let mut request = Request::get(uri).body(()).unwrap();
        *request.headers_mut() = headers(lines);
        TrustProxy::None
            .resolve_request(peer("127.0.0.1"), &request)
            .host_str()
            .map(str::to_owned)
    };
    for (uri, lines, expected) in [
        ("/", &[("host", "a.example")][..], Some("a.example")),
        ("/", &[], None),
        ("/", &[("host", "a.example"), ("host", "a.example")], None),
        ("/", &[("host", "u@a.example")], None),
        ("/", &[("host", "")], None),
        ("https://a.example/", &[], Some("a.example")),
        (
            "https://a.example/",
            &[("host", "a.example")],
            Some("a.example"),
        ),
        (
            "https://a.example/",
            &[("host", "b.example")],
            Some("a.example"),
        ),
        ("https://u:p@a.example/", &[("host", "a.example")], None),
    ] {
        assert_eq!(host(uri, lines).as_deref(), expected, "{uri} {lines:?}");
    }
}

#[test]
fn other_fields_are_never_read() {
    let before = headers(&[("host", "hub"), ("x-forwarded-for", "192.0.2.7")]);
    let mut after = before.clone();
    for (name, value) in [
        ("forwarded", "for=6.6.6.6;proto=https;host=evil"),
        ("x-real-ip", "6.6.6.6"),
        ("true-client-ip", "6.6.6.6"),
        ("cf-connecting-ip", "6.6.6.6"),
        ("x-client-ip", "6.6.6.6"),
        ("x_forwarded_for", "6.6.6.6"),
        ("x_forwarded_proto", "https"),
        ("x-forwarded", "6.6.6.6"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-prefix", "/health"),
        ("x-forwarded-uri", "/health"),
        ("x-forwarded-ssl", "on"),
        ("x-forwarded-scheme", "https"),
        ("front-end-https", "on"),
        ("x-original-host", "evil"),
        ("x-original-url", "/health"),
        ("x-rewrite-url", "/health"),
        ("connection", "close, X-Forwarded-For, x-forwarded-PROTO"),
    ] {
        after.insert(name, HeaderValue::from_static(value));
    }
    for policy in [TrustProxy::hops(1), nets(&["loopback"]), TrustProxy::None] {
        assert_eq!(
            policy.resolve(peer("127.0.0.1"), &before),
            policy.resolve(peer("127.0.0.1"), &after)
        );
    }
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        any::<[u8; 4]>().prop_map(|v4| IpAddr::V6(std::net::Ipv4Addr::from(v4).to_ipv6_mapped())),
    ]
}

fn any_field() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
    let name = prop_oneof![
        Just("x-forwarded-for".to_owned()),
        Just("x-forwarded-proto".to_owned()),
        Just("x-forwarded-host".to_owned()),
        Just("forwarded".to_owned()),
        Just("x-real-ip".to_owned()),
        Just("connection".to_owned()),
        "[a-z][a-z0-9_-]{0,20}",
    ];
    let value = prop_oneof![
        any_address().prop_map(|ip| ip.to_string().into_bytes()),
        proptest::collection::vec(any_address(), 0..5).prop_map(|ips| {
            let ips: Vec<_> = ips.iter().map(IpAddr::to_string).collect();
            ips.join(", ").into_bytes()
        }),
        Just(b"https".to_vec()),
        Just(b"evil.example".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..60),
    ];
    (name, value).prop_filter_map("no field", |(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        (name != HOST).then_some(())?;
        Some((name, HeaderValue::from_bytes(&value).ok()?))
    })
}

proptest! {
    #[test]
    fn a_stranger_changes_nothing(
        address in any_address(),
        fields in proptest::collection::vec(any_field(), 0..12),
    ) {
        let stranger = Peer::new(SocketAddr::new(address, 1), Scheme::Http);
        let host = HeaderValue::from_static("hub.example.com");
        let direct = ClientInfo::direct(stranger, Some(host.clone()));
        let mut map = HeaderMap::new();
        map.insert(HOST, host);
        for (name, value) in fields {
            map.append(name, value);
        }
        prop_assert_eq!(TrustProxy::None.resolve(stranger, &map), direct.clone());
        let listed = nets(&["loopback", "203.0.113.0/24"]);
        if !listed.trusts(address.to_canonical(), 0) {
            prop_assert_eq!(listed.resolve(stranger, &map), direct);
        }
    }

    /// Whatever a client writes in front, the entry that the one trusted proxy appended counts.
    #[test]
    fn what_the_client_wrote_does_not_count(
        client in any_address(),
        forged in proptest::collection::vec(any_field(), 0..12),
        joined in any::<bool>(),
    ) {
        let mut map = HeaderMap::new();
        for (name, value) in forged {
            map.append(name, value);
        }
        let appended = client.to_string();
        if joined && let Some(line) = map.remove(&X_FORWARDED_FOR) {
            let mut text = line.as_bytes().to_vec();
            text.extend_from_slice(format!(", {client}").as_bytes());
            map.append(&X_FORWARDED_FOR, HeaderValue::from_bytes(&text).unwrap());
        } else {
            map.append(&X_FORWARDED_FOR, HeaderValue::from_str(&appended).unwrap());
        }
        map.append(&X_FORWARDED_PROTO, HeaderValue::from_static("https"));
        map.append(&X_FORWARDED_HOST, HeaderValue::from_static("hub.example.com"));
        let found = TrustProxy::hops(1).resolve(peer("127.0.0.1"), &map);
        prop_assert_eq!(found.ip, client.to_canonical());
        prop_assert_eq!(found.scheme, Scheme::Https);
        prop_assert_eq!(found.host_str(), Some("hub.example.com"));
        prop_assert_eq!(found.trusted_hops, 1);
    }
}
