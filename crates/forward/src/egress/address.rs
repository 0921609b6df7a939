use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address belongs to a host on the public internet.
///
/// It does not if it is unspecified, loopback, private (RFC 1918), shared (`100.64.0.0/10`, RFC 6598), link-local (with
/// the metadata services of clouds), unique local, multicast, broadcast, reserved, or for documentation and
/// measurements. An IPv6 address that carries an IPv4 address is refused as such where a gateway would unpack it:
/// mapped, compatible, translated (`64:ff9b::/96` and `64:ff9b:1::/48`), 6to4, Teredo and ISATAP.
///
/// ```
/// use proactions_forward::is_public;
///
/// assert!(is_public("1.1.1.1".parse().unwrap()));
/// for inside in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"] {
///     assert!(!is_public(inside.parse().unwrap()), "{inside}");
/// }
/// ```
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

const fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || a >= 224
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || (a == 100 && b >= 64 && b < 128)
        // Protocol assignments, and the relays of 6to4.
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        // Measurements of networks (RFC 2544).
        || (a == 198 && (b == 18 || b == 19))
        // The platform service of a large cloud, which answers inside of it only.
        || u32::from_be_bytes(address.octets()) == u32::from_be_bytes([168, 63, 129, 16]))
}

const fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Everything that is routed on the internet lies in 2000::/3: that leaves out loopback, mapped, translated,
    // unique local, link-local, site-local and multicast addresses, and what is not assigned.
    if segments[0] & 0xe000 != 0x2000 {
        return false;
    }
    !matches!(
        segments,
        // Teredo and the other special assignments of 2001::/23, documentation, 6to4.
        [0x2001, 0..=0x01ff | 0x0db8, ..]
            | [0x2002, ..]
            | [0x3fff, 0..=0x0fff, ..]
            // ISATAP.
            | [_, _, _, _, 0x0000 | 0x0200, 0x5efe, _, _]
    )
}
