use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn networks_hold_what_they_say() {
    for (entries, inside, outside) in [
        (
            &["loopback"][..],
            &["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"][..],
            &["128.0.0.1", "::2", "10.0.0.1"][..],
        ),
        (
            &["linklocal"],
            &["169.254.1.1", "fe80::1", "febf::1"],
            &["169.253.1.1", "fec0::1"],
        ),
        (
            &["uniquelocal"],
            &[
                "10.1.1.1",
                "172.31.0.1",
                "192.168.9.9",
                "fc00::1",
                "fdff::1",
            ],
            &["172.32.0.1", "127.0.0.1", "192.169.0.1", "fe00::1"],
        ),
        (
            &["127.0.0.1/8", "192.0.2.7"],
            &["127.9.9.9", "192.0.2.7", "::ffff:c000:207"],
            &["192.0.2.8"],
        ),
        (
            &["10.0.0.0/255.255.0.0"],
            &["10.0.3.4"],
            &["10.1.0.0", "::10.0.3.4"],
        ),
        (
            &["::ffff:10.0.0.0/104", "::ffff:c0a8:101"],
            &["10.200.0.1", "192.168.1.1"],
            &["11.0.0.1", "192.168.1.2", "::a00:1"],
        ),
        (
            &["2001:db8::/32"],
            &["2001:db8:ffff::1"],
            &["2001:db9::1", "32.1.13.184"],
        ),
    ] {
        let policy = TrustProxy::nets(entries).unwrap();
        assert!(policy.is_on());
        for text in inside {
            assert!(
                policy.trusts(ip(text).to_canonical(), 0),
                "{entries:?} {text}"
            );
        }
        for text in outside {
            assert!(
                !policy.trusts(ip(text).to_canonical(), 0),
                "{entries:?} {text}"
            );
        }
    }
}

#[test]
fn host_bits_make_no_difference() {
    assert_eq!(
        TrustProxy::nets(["127.0.0.1/8", "::ffff:10.1.2.3/104"]),
        TrustProxy::nets(["127.0.0.0/8", "10.0.0.0/255.0.0.0"])
    );
}

#[test]
fn entries_that_mean_something_else_are_refused() {
    for (entry, part) in [
        ("", "empty entry"),
        ("1", "`trustProxy: 1`"),
        ("-1", "neither an IP address"),
        ("1.5", "neither an IP address"),
        ("true", "`trustProxy: true`"),
        ("false", "`trustProxy: false`"),
        ("cloudflare", "neither an IP address"),
        ("Loopback", "neither an IP address"),
        ("nan", "neither an IP address"),
        ("127.1", "neither an IP address"),
        ("0177.0.0.1", "neither an IP address"),
        ("10.0.0.0/8,127.0.0.1", "an item of its own"),
        ("10.0.0.0 /8", "neither an IP address"),
        (" 10.0.0.0/8", "neither an IP address"),
        ("10.0.0.0/ 8", "a number of bits from 1 to 32"),
        ("10.0.0.0/", "a number of bits from 1 to 32"),
        ("10.0.0.0/+8", "a number of bits from 1 to 32"),
        ("10.0.0.0/33", "a number of bits from 1 to 32"),
        ("10.0.0.0/8/8", "a number of bits from 1 to 32"),
        ("10.0.0.0/255.0.255.0", "a number of bits from 1 to 32"),
        ("2001:db8::/129", "a number of bits from 1 to 128"),
        ("2001:db8::/255.0.0.0", "a number of bits from 1 to 128"),
        ("0.0.0.0/0", "would trust everybody"),
        ("10.0.0.0/0.0.0.0", "would trust everybody"),
        ("::/0", "would trust everybody"),
        ("::ffff:0:0/96", "would trust everybody"),
        ("::ffff:10.0.0.0/90", "write the IPv4 network itself"),
        ("fe80::1%eth0", "neither an IP address"),
    ] {
        let error = TrustProxy::nets([entry]).unwrap_err();
        let [problem] = error.problems() else {
            panic!("{entry}: {error}")
        };
        assert_eq!(problem.key, "[0]", "{entry}");
        assert!(problem.message.contains(part), "{entry}: {error}");
    }
}

#[test]
fn a_text_is_a_comma_list() {
    let text = |text: &str| TrustProxy::try_from(TrustProxyConfig::Text(text.to_owned()));
    assert_eq!(
        text("loopback, 10.0.0.0/8"),
        TrustProxy::nets(["loopback", "10.0.0.0/8"])
    );
    for (bad, part) in [
        ("", "empty entry"),
        ("loopback,", "empty entry"),
        ("1", "without quotes"),
        ("true", "without quotes"),
    ] {
        let error = text(bad).unwrap_err();
        assert_eq!(error.problems()[0].key, "");
        assert!(error.to_string().contains(part), "{bad}: {error}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let error = TrustProxy::nets(["x", "loopback", "0.0.0.0/0"]).unwrap_err();
    let keys: Vec<_> = error.problems().iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, ["[0]", "[2]"]);
    assert_eq!(
        error.within("trustProxy").problems()[1].key,
        "trustProxy[2]"
    );
}

#[test]
fn switches_and_numbers() {
    for (config, expected) in [
        (TrustProxyConfig::default(), TrustProxy::None),
        (TrustProxyConfig::Switch(true), TrustProxy::hops(1)),
        (TrustProxyConfig::Hops(0), TrustProxy::None),
        (TrustProxyConfig::Hops(9), TrustProxy::hops(9)),
        (TrustProxyConfig::Hops(64), TrustProxy::hops(64)),
        (TrustProxyConfig::List(vec![]), TrustProxy::None),
    ] {
        let on = expected != TrustProxy::None;
        let policy = TrustProxy::try_from(config).unwrap();
        assert_eq!(policy.is_on(), on);
        assert_eq!(policy, expected);
    }
    for count in [65, 300, u64::MAX] {
        let error = TrustProxy::try_from(TrustProxyConfig::Hops(count)).unwrap_err();
        assert!(error.to_string().starts_with("at most 64"), "{error}");
    }
}
