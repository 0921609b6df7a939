use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};

use sha2::{Digest, Sha256};

/// A client's address as far as a limit tells clients apart: an IPv4 address, or the network of an IPv6 one.
///
/// Whoever holds an IPv6 address holds a whole network of them, so single addresses would be no limit at all.
/// An IPv4-mapped address is the IPv4 address, however it was spelt.
///
/// ```
/// use proactions_ratelimit::AddressKey;
///
/// let key = |ip: &str| AddressKey::new(ip.parse().unwrap(), Some(56)).to_string();
/// assert_eq!(key("2001:db8:85a3:12ff::1"), "2001:db8:85a3:1200::/56");
/// assert_eq!(key("192.0.2.7"), "192.0.2.7");
/// assert_eq!(key("::ffff:c000:207"), "192.0.2.7");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressKey {
    /// The masked address; IPv4 stands in it as IPv4-mapped.
    bits: [u8; 16],
    /// The length of the network part; 128 for a single address.
    prefix: u8,
}

impl AddressKey {
    /// The key of `ip`. IPv6 addresses count by their network of `ipv6_subnet` bits, or one by one if that is
    /// `None`.
    #[must_use]
    pub fn new(ip: IpAddr, ipv6_subnet: Option<u8>) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self {
                bits: ip.to_ipv6_mapped().octets(),
                prefix: 128,
            },
            IpAddr::V6(ip) => {
                let prefix = ipv6_subnet.map_or(128, |prefix| prefix.min(128));
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(prefix))
                    .unwrap_or_default();
                Self {
                    bits: (u128::from(ip) & mask).to_be_bytes(),
                    prefix,
                }
            }
        }
    }
}

/// The text under which `express-rate-limit` counts the same client.
impl fmt::Display for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = Ipv6Addr::from(self.bits);
        match (ip.to_ipv4_mapped(), self.prefix) {
            (Some(ip), 128) => ip.fmt(f),
            (_, 128) => ip.fmt(f),
            (_, prefix) => write!(f, "{ip}/{prefix}"),
        }
    }
}

/// Whom and what a counter counts: a limit and a client, in 32 bytes that are copied, compared and hashed
/// without allocation.
///
/// Its text form names the counter in stores outside of the process. A client's address under the general
/// limit is written as `express-rate-limit` does. The counters of rules begin with 16 hexadecimal digits that
/// stand for the rule, followed by `:`; users and targets appear as a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterKey {
    scope: u64,
    subject: Subject,
}

impl CounterKey {
    pub(crate) const fn new(scope: u64, subject: Subject) -> Self {
        Self { scope, subject }
    }
}

impl Hash for CounterKey {
    /// One write of the bytes that differ: the derived form would hash lengths and tags too.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.scope);
        match self.subject {
            Subject::Address(key) => state.write_u128(u128::from_ne_bytes(key.bits)),
            Subject::Digest(digest) => state.write_u128(u128::from_ne_bytes(digest)),
            Subject::Unknown => state.write_u8(0),
        }
    }
}

impl fmt::Display for CounterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scope != 0 {
            write!(f, "{:016x}:", self.scope)?;
        }
        match self.subject {
            Subject::Address(key) => key.fmt(f),
            Subject::Digest(digest) => write!(f, "{:032x}", u128::from_be_bytes(digest)),
            Subject::Unknown => f.write_str("unknown"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Address(AddressKey),
    /// A user or a target. A digest, so that a long name costs no memory; without a secret, so that several
    /// processes agree on it.
    Digest([u8; 16]),
    /// A request without a known address.
    Unknown,
}

impl Subject {
    /// The digest of several parts, each with its length, so that no two lists of parts look alike.
    pub(crate) fn digest(parts: &[&[u8]]) -> Self {
        let mut bits = [0; 16];
        for (bit, digit) in bits.iter_mut().zip(digest(parts)) {
            *bit = digit;
        }
        Self::Digest(bits)
    }
}

/// The name of a rule's counters: the same for the same rule in every process and after every reload.
pub(crate) fn scope(parts: &[&[u8]]) -> u64 {
    let scope = digest(parts)
        .iter()
        .take(8)
        .fold(0, |scope, digit| scope << 8 | u64::from(*digit));
    // 0 is the general limit.
    scope.max(1)
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(ip: &str, subnet: Option<u8>) -> AddressKey {
        AddressKey::new(ip.parse().unwrap(), subnet)
    }

    #[test]
    fn the_text_is_the_one_that_node_counts_by() {
        for (ip, subnet, text) in [
            ("127.0.0.1", Some(56), "127.0.0.1"),
            ("1.2.3.4", None, "1.2.3.4"),
            ("::ffff:1.2.3.4", Some(56), "1.2.3.4"),
            ("::ffff:102:304", Some(32), "1.2.3.4"),
            ("2001:db8:85a3:12ff::1", Some(56), "2001:db8:85a3:1200::/56"),
            ("2001:db8:85a3:12ff::1", Some(64), "2001:db8:85a3:12ff::/64"),
            ("2001:db8:85a3:12ff::1", Some(32), "2001:db8::/32"),
            ("::1", Some(56), "::/56"),
            ("2001:db8::1", None, "2001:db8::1"),
        ] {
            assert_eq!(key(ip, subnet).to_string(), text, "{ip}");
        }
    }

    #[test]
    fn spellings_of_one_host_are_one_key_and_two_hosts_are_two() {
        let one = key("1.2.3.4", Some(56));
        assert_eq!(key("::ffff:1.2.3.4", Some(56)), one);
        assert_eq!(key("::ffff:102:304", Some(56)), one);
        assert_ne!(key("::ffff:1.2.3.5", Some(56)), one);
        // An address that only ends like an IPv4 one is masked like any other.
        assert_eq!(
            key("2001:db8::1.2.3.4", Some(56)),
            key("2001:db8::9", Some(56))
        );
    }

    #[test]
    fn a_counter_is_small() {
        assert!(size_of::<CounterKey>() <= 32);
    }

    #[test]
    fn rules_do_not_share_counters() {
        let address = Subject::Address(key("1.2.3.4", None));
        assert_eq!(CounterKey::new(0, address).to_string(), "1.2.3.4");
        assert_eq!(
            CounterKey::new(0xab, address).to_string(),
            "00000000000000ab:1.2.3.4"
        );
        assert_eq!(CounterKey::new(0, Subject::Unknown).to_string(), "unknown");
        let user = CounterKey::new(1, Subject::digest(&[b"bob"]));
        assert_eq!(user.to_string().len(), 16 + 1 + 32);
        assert_ne!(scope(&[b"/a", b"GET"]), scope(&[b"/a", b"POST"]));
    }

    proptest! {
        #[test]
        fn addresses_of_one_network_share_a_key(high in any::<u64>(), a in any::<u64>(), b in any::<u64>()) {
            let ip = |low: u64| IpAddr::from(Ipv6Addr::from((u128::from(high) << 64) | u128::from(low)));
            prop_assume!(high != 0);
            prop_assert_eq!(AddressKey::new(ip(a), Some(64)), AddressKey::new(ip(b), Some(64)));
        }

        #[test]
        fn different_parts_have_different_digests(
            a in prop::collection::vec("[ab:/1.]{0,4}", 0..3),
            b in prop::collection::vec("[ab:/1.]{0,4}", 0..3),
        ) {
            let digest = |parts: &[String]| {
                Subject::digest(&parts.iter().map(String::as_bytes).collect::<Vec<_>>())
            };
            prop_assert_eq!(digest(&a) == digest(&b), a == b);
        }
    }
}
