use std::sync::Mutex;

use http::Uri;
use proactions_edge::SecretString;
use proptest::prelude::*;
use tower_service::Service as _;

use super::connector::Lookup;
use super::*;
use crate::BoxError;

fn policy(allow: &[&str], deny_private: bool) -> EgressPolicy {
    EgressPolicy::try_from(EgressConfig {
        allow_hosts: allow.iter().map(|&host| host.to_owned()).collect(),
        deny_private,
        ..EgressConfig::default()
    })
    .unwrap()
}

#[test]
fn only_public_addresses_are_public() {
    for (address, public) in [
        ("1.1.1.1", true),
        ("8.8.8.8", true),
        ("100.63.255.255", true),
        ("100.128.0.1", true),
        ("172.15.0.1", true),
        ("172.32.0.1", true),
        ("198.20.0.1", true),
        ("223.255.255.254", true),
        ("2606:4700::1111", true),
        ("2a00:1450:4001::1", true),
        ("0.0.0.0", false),
        ("0.1.2.3", false),
        ("10.1.2.3", false),
        ("100.64.0.1", false),
        ("100.127.255.255", false),
        ("100.100.100.200", false),
        ("127.0.0.1", false),
        ("127.255.255.255", false),
        ("168.63.129.16", false),
        ("169.254.169.254", false),
        ("172.16.0.1", false),
        ("172.31.255.255", false),
        ("192.0.0.192", false),
        ("192.0.2.1", false),
        ("192.168.0.1", false),
        ("198.18.0.1", false),
        ("198.51.100.1", false),
        ("203.0.113.1", false),
        ("224.0.0.1", false),
        ("240.0.0.1", false),
        ("255.255.255.255", false),
        ("::", false),
        ("::1", false),
        ("::127.0.0.1", false),
        ("::ffff:127.0.0.1", false),
        ("::ffff:7f00:1", false),
        ("::ffff:8.8.8.8", false),
        ("64:ff9b::7f00:1", false),
        ("64:ff9b:1::a00:1", false),
        ("2001::1", false),
        ("2001:db8::1", false),
        ("2002:7f00:1::", false),
        ("2002:a00:1::1", false),
        ("3fff::1", false),
        ("2606:4700::5efe:a00:1", false),
        ("fc00::1", false),
        ("fd00:ec2::254", false),
        ("fe80::1", false),
        ("fec0::1", false),
        ("ff02::1", false),
    ] {
        assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
    }
}

#[test]
fn hosts_match_by_whole_labels() {
    let policy = policy(
        &[
            "api.example.com",
            "*.example.org",
            "h.example.net:8443",
            "192.0.2.7",
            "[2001:db8::7]:443",
        ],
        false,
    );
    for (host, port, allowed) in [
        ("api.example.com", 443, true),
        ("api.example.com", 1, true),
        ("API.EXAMPLE.COM", 443, true),
        ("api.example.com.", 443, true),
        ("x.api.example.com", 443, false),
        ("example.com", 443, false),
        ("api.example.com.evil.net", 443, false),
        ("a.example.org", 443, true),
        ("a.b.example.org", 443, true),
        ("example.org", 443, false),
        (".example.org", 443, false),
        ("aexample.org", 443, false),
        ("a..example.org", 443, false),
        ("h.example.net", 8443, true),
        ("h.example.net", 443, false),
        ("192.0.2.7", 80, true),
        ("192.0.2.8", 80, false),
        ("[::ffff:192.0.2.7]", 80, true),
        ("[2001:db8::7]", 443, true),
        ("[2001:db8:0::7]", 443, true),
        ("[2001:db8::7]", 80, false),
        ("3221225991", 80, false),
    ] {
        assert_eq!(policy.allows_host(host, port), allowed, "{host}:{port}");
    }
}

#[test]
fn odd_spellings_of_addresses_are_refused() {
    let policy = policy(&[], true);
    for host in [
        "2130706433",
        "0x7f000001",
        "0X7F.1",
        "017700000001",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "127.0.0.0x1",
        "127.0.0.1.",
        "127.0.0.1",
        "[::1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "169.254.169.254",
    ] {
        assert!(!policy.allows_host(host, 80), "{host}");
    }
    assert!(policy.allows_host("example.com", 80));
    assert!(policy.allows_host("1.1.1.1", 80));
    assert!(EgressPolicy::open().allows_host("127.0.0.1", 80));
}

#[test]
fn rules_and_proxies_are_checked() {
    for host in [
        "",
        "*",
        "*.",
        ".a",
        "a..b",
        "a b",
        "https://a",
        "a/b",
        "a:0",
        "a:x",
        "a:99999",
        "*.*.a",
        "a.*.b",
        "*.127.0.0.1",
        "2130706433",
        "0x7f.1",
    ] {
        let config = EgressConfig {
            allow_hosts: vec!["fine".to_owned(), host.to_owned()],
            ..EgressConfig::default()
        };
        let error = EgressPolicy::try_from(config).unwrap_err();
        assert_eq!(error.problems()[0].key, "allowHosts[1]", "{host}");
    }
    for (proxy, good) in [
        ("http://proxy.example:3128", true),
        ("http://user:p%40ss@proxy.example:3128", true),
        ("https://user@proxy.example", true),
        ("proxy.example:3128", false),
        ("socks5://proxy.example", false),
        ("http://user:hunter2\r\n@proxy.example", false),
        ("http://user:%zz@proxy.example", false),
        ("http://user:%0d%0a@proxy.example", false),
        ("http://us%3Aer:hunter2@proxy.example", false),
    ] {
        let config = EgressConfig {
            proxy: Some(SecretString::from(proxy)),
            ..EgressConfig::default()
        };
        let result = EgressPolicy::try_from(config);
        assert_eq!(result.is_ok(), good, "{proxy:?}");
        let shown = format!("{result:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("p%40ss"),
            "{shown}"
        );
    }
}

#[test]
fn credentials_of_the_proxy_are_decoded() {
    let config = EgressConfig {
        proxy: Some(SecretString::from("http://user:p%40ss@proxy.example:3128")),
        ..EgressConfig::default()
    };
    let policy = EgressPolicy::try_from(config).unwrap();
    let credentials = policy.proxy().unwrap().credentials.clone().unwrap();
    assert_eq!(credentials, "Basic dXNlcjpwQHNz");
    assert!(credentials.is_sensitive());
}

/// A connector whose names have these addresses, one list a look-up, and what it says about `url`.
async fn connect(policy: &EgressPolicy, url: &str, answers: &[&[&str]]) -> Result<(), BoxError> {
    let mut answers: Vec<Vec<IpAddr>> = answers
        .iter()
        .rev()
        .map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect())
        .collect();
    answers.insert(0, Vec::new());
    let answers = Mutex::new(answers);
    let lookup = Lookup::Fixed(Arc::new(move |_: &str| {
        let mut answers = answers.lock().unwrap();
        answers.pop().unwrap_or_default()
    }));
    let mut connector = EgressConnector::resolving(policy, None, &lookup);
    connector
        .call(url.parse::<Uri>().unwrap())
        .await
        .map(|_| ())
}

fn refused(result: Result<(), BoxError>) -> bool {
    let error = result.unwrap_err();
    let mut cause = Some(&*error as &(dyn std::error::Error + 'static));
    while let Some(error) = cause {
        if error.is::<EgressRefused>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[tokio::test]
async fn every_address_of_a_name_is_judged() {
    let strict = policy(&[], true);
    for ips in [
        &["127.0.0.1"][..],
        &["1.1.1.1", "10.0.0.1"],
        &["::ffff:127.0.0.1"],
        &["169.254.169.254", "8.8.8.8"],
    ] {
        let result = connect(&strict, "http://name.example:1", &[ips]).await;
        assert!(refused(result), "{ips:?}");
    }
    for url in [
        "http://127.0.0.1:1",
        "http://[::1]:1",
        "http://2130706433:1",
    ] {
        assert!(refused(connect(&strict, url, &[]).await), "{url}");
    }
}

#[tokio::test]
async fn the_connection_goes_to_the_address_that_was_judged() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // A name that has the listener's address at the first look-up only: a second one would have none.
    let listed = policy(&["name.example"], false);
    let url = format!("http://name.example:{port}");
    connect(&listed, &url, &[&["127.0.0.1"]]).await.unwrap();
}

proptest! {
    #[test]
    fn no_carrier_of_a_private_address_is_public(bits in any::<u32>()) {
        let v4 = Ipv4Addr::from(bits);
        if !is_public(v4.into()) {
            let [a, b, c, d] = v4.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            for carrier in [
                Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, 1, 2, 3, 4, !high, !low),
            ] {
                prop_assert!(!is_public(carrier.into()), "{carrier}");
            }
        }
    }

    #[test]
    fn rules_never_panic(rule in ".{0,40}", host in ".{0,40}", port in any::<u16>()) {
        let config = EgressConfig { allow_hosts: vec![rule], deny_private: true, ..EgressConfig::default() };
        if let Ok(policy) = EgressPolicy::try_from(config) {
            let _ = policy.allows_host(&host, port);
        }
    }
}
