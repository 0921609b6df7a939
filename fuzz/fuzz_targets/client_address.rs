//! Who is calling, behind which proxies. Input: the policy (a number of hops, or addresses and networks), the peer's
//! address, then header fields, a line each.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::HOST;
use libfuzzer_sys::fuzz_target;
use proactions_edge::{ClientInfo, Peer, Scheme};
use proactions_fuzz::{headers, text_line};
use proactions_trust_proxy::{MAX_ENTRIES, TrustProxy};

fuzz_target!(|data: &[u8]| {
    let Some((policy, rest)) = text_line(data) else {
        return;
    };
    let Some((peer, rest)) = text_line(rest) else {
        return;
    };
    let hops = policy.parse::<u8>().ok();
    let Some(trust) = hops.map_or_else(
        || TrustProxy::nets(policy.split_whitespace()).ok(),
        |hops| Some(TrustProxy::hops(hops)),
    ) else {
        return;
    };
    let Ok(peer_ip) = peer.trim().parse::<IpAddr>() else {
        return;
    };
    let peer = Peer::new(SocketAddr::new(peer_ip, 4711), Scheme::Http);
    let headers = headers(rest);
    let found = trust.resolve(peer, &headers);
    let believed = |ip: IpAddr, place: usize| match &trust {
        TrustProxy::Nets(nets) => nets.contains(ip),
        _ => place < usize::from(hops.unwrap_or_default()),
    };

    assert_eq!(found.ip, found.ip.to_canonical());
    assert!(found.trusted_hops <= MAX_ENTRIES);
    if let Some(host) = &found.host {
        assert!(is_authority(host.as_bytes()), "{host:?}");
    }
    if !believed(peer_ip.to_canonical(), 0) {
        // Nothing that the peer sends but `Host` changes anything.
        let mut only_host = HeaderMap::new();
        for host in headers.get_all(HOST) {
            only_host.append(HOST, host.clone());
        }
        assert_eq!(found, trust.resolve(peer, &only_host));
        assert_eq!(found.ip, peer_ip.to_canonical());
        assert_eq!((found.scheme, found.trusted_hops), (Scheme::Http, 0));
        return;
    }

    let listed = headers.get_all("x-forwarded-for").iter().any(|line| {
        line.as_bytes()
            .split(|byte| *byte == b',')
            .any(|entry| names(entry, found.ip))
    });
    assert!(listed || found.ip == peer_ip.to_canonical(), "{found:?}");

    // Several lines are one list.
    let lines: Vec<_> = headers
        .get_all("x-forwarded-for")
        .iter()
        .map(|line| line.as_bytes())
        .collect();
    let joined = lines.join(&b", "[..]);
    assert_eq!(found, trust.resolve(peer, &with_list(&headers, &joined)));

    // Whoever is not believed can write further to the left whatever it likes.
    if !believed(found.ip, found.trusted_hops) {
        for claim in [
            "203.0.113.66, ",
            "127.0.0.1, 10.0.0.1,",
            "nonsense, ,",
            "::1,",
        ] {
            let claimed = [claim.as_bytes(), &joined].concat();
            let again = trust.resolve(peer, &with_list(&headers, &claimed));
            assert_eq!(address(&found), address(&again), "{claim}");
        }
    }

    // No other field is read.
    let mut fewer = HeaderMap::new();
    for (name, value) in &headers {
        let read = [
            "host",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
        ];
        if read.contains(&name.as_str()) {
            fewer.append(name, value.clone());
        }
    }
    assert_eq!(found, trust.resolve(peer, &fewer));
});

fn address(client: &ClientInfo) -> (IpAddr, usize) {
    (client.ip, client.trusted_hops)
}

fn with_list(headers: &HeaderMap, list: &[u8]) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove("x-forwarded-for");
    if let Ok(list) = http::HeaderValue::from_bytes(list) {
        headers.insert("x-forwarded-for", list);
    }
    headers
}

/// Whether an entry of the list is that address, perhaps with a port.
fn names(entry: &[u8], ip: IpAddr) -> bool {
    let Ok(text) = std::str::from_utf8(entry.trim_ascii()) else {
        return false;
    };
    let bare = text
        .trim_start_matches('[')
        .split(']')
        .next()
        .unwrap_or_default();
    let address = [text, bare]
        .into_iter()
        .find_map(|text| text.parse::<IpAddr>().ok());
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.is_some_and(|address| address.to_canonical() == ip)
}

fn is_authority(host: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
    (1..=259).contains(&host.len()) && host.iter().all(plain)
}
