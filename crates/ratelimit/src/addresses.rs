use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use proactions_edge::ConfigError;

/// A set of addresses and networks: sorted ranges, so that a long list costs a binary search.
///
/// IPv4 and IPv6 are kept apart, or `::/0` would hold every IPv4 address.
#[derive(Clone, Debug, Default)]
pub(crate) struct AddressSet {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl AddressSet {
    /// The set of the addresses and networks that `list` names.
    pub(crate) fn parse(key: &str, list: &[String]) -> Result<Self, ConfigError> {
        let (mut v4, mut v6, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for (index, entry) in list.iter().enumerate() {
            match parse_net(entry) {
                Some(IpNet::V4(net)) => {
                    v4.push((u32::from(net.network()), u32::from(net.broadcast())));
                }
                Some(IpNet::V6(net)) => {
                    v6.push((u128::from(net.network()), u128::from(net.broadcast())));
                }
                None => problems.push(ConfigError::new(
                    format!("{key}[{index}]"),
                    format!(
                        "`{}` is neither an address nor a network such as 192.0.2.0/24 or 2001:db8::/32",
                        entry.escape_debug()
                    ),
                )),
            }
        }
        let set = Self {
            v4: merge(v4),
            v6: merge(v6),
        };
        ConfigError::check(set, problems)
    }

    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => in_ranges(&self.v4, u32::from(ip)),
            IpAddr::V6(ip) => in_ranges(&self.v6, u128::from(ip)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// The network of an entry; a bare address is a network of one. IPv4-mapped ones are IPv4.
pub(crate) fn parse_net(entry: &str) -> Option<IpNet> {
    let net = match entry.parse::<IpAddr>() {
        Ok(ip) => IpNet::from(ip),
        Err(_) => entry.parse().ok()?,
    };
    let IpNet::V6(v6) = net else {
        return Some(net);
    };
    let mapped: Option<Ipv4Addr> = v6.addr().to_ipv4_mapped();
    match (mapped, v6.prefix_len().checked_sub(96)) {
        (Some(ip), Some(prefix)) => Ipv4Net::new(ip, prefix).ok().map(IpNet::V4),
        _ => Some(net),
    }
}

fn merge<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let overlaps = next.0 <= kept.1;
        if overlaps {
            kept.1 = kept.1.max(next.1);
        }
        overlaps
    });
    ranges.into()
}

fn in_ranges<T: Ord + Copy>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= value);
    after
        .checked_sub(1)
        .and_then(|index| ranges.get(index))
        .is_some_and(|(_, last)| value <= *last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(list: &[&str]) -> AddressSet {
        let list: Vec<_> = list.iter().map(|s| (*s).to_owned()).collect();
        AddressSet::parse("allowlist", &list).unwrap()
    }

    #[test]
    fn addresses_and_networks() {
        let set = set(&[
            "10.0.0.0/8",
            "10.1.0.0/16",
            "192.0.2.7",
            "::ffff:198.51.100.0/120",
            "2001:db8::/32",
            "::1",
        ]);
        for (ip, held) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.7", true),
            ("::ffff:192.0.2.7", true),
            ("192.0.2.8", false),
            ("198.51.100.200", true),
            ("198.51.101.0", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("::1", true),
            ("::2", false),
        ] {
            assert_eq!(set.contains(ip.parse().unwrap()), held, "{ip}");
        }
    }

    #[test]
    fn all_of_ipv6_holds_no_ipv4() {
        let set = set(&["::/0"]);
        assert!(set.contains("::5".parse().unwrap()));
        assert!(!set.contains("1.2.3.4".parse().unwrap()));
        assert!(!set.contains("::ffff:1.2.3.4".parse().unwrap()));
    }

    #[test]
    fn every_bad_entry_is_named() {
        let list = ["1.2.3.4", "1.2.3.4/33", "host", "01.2.3.4", "10.0.0.0-9"].map(str::to_owned);
        let error = AddressSet::parse("denylist", &list).unwrap_err();
        let keys: Vec<_> = error.problems().iter().map(|p| p.key.as_str()).collect();
        assert_eq!(
            keys,
            ["denylist[1]", "denylist[2]", "denylist[3]", "denylist[4]"]
        );
        assert!(error.problems()[1].message.starts_with("`host` is neither"));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_walk_over_the_list(
            nets in prop::collection::vec((any::<[u8; 4]>(), 0_u8..=32), 0..20), ip in any::<[u8; 4]>()
        ) {
            let nets: Vec<_> = nets.into_iter().map(|(a, p)| Ipv4Net::new(a.into(), p).unwrap()).collect();
            let list: Vec<_> = nets.iter().map(ToString::to_string).collect();
            let set = AddressSet::parse("x", &list).unwrap();
            for ip in nets.iter().flat_map(|n| [n.network(), n.broadcast()]).chain([Ipv4Addr::from(ip)]) {
                prop_assert_eq!(set.contains(ip.into()), nets.iter().any(|n| n.contains(&ip)));
            }
        }
    }
}
