use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proactions_edge::ConfigError;

use crate::{MAX_ENTRIES, TrustProxyConfig};

/// Whom to believe about the client. See the [crate documentation](crate) for what follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustProxy {
    /// Nobody: the peer is the client, and no header changes that.
    #[default]
    None,
    /// So many machines, counted from the peer outwards, whoever they are.
    Hops(NonZeroU8),
    /// The machines inside these networks.
    Nets(TrustedNets),
}

impl TrustProxy {
    /// Trusts so many machines, counted from the peer outwards; 0 trusts nobody.
    #[must_use]
    pub const fn hops(count: u8) -> Self {
        match NonZeroU8::new(count) {
            Some(count) => Self::Hops(count),
            None => Self::None,
        }
    }

    /// Trusts the machines in these addresses, networks (`10.0.0.0/8`, `10.0.0.0/255.0.0.0`) and named ranges
    /// (`loopback`, `linklocal`, `uniquelocal`). No entry trusts nobody.
    ///
    /// # Errors
    /// Every entry that cannot be used, under the key `[index]`.
    pub fn nets<I>(entries: I) -> Result<Self, ConfigError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let entries = entries.into_iter().enumerate();
        from_entries(entries.map(|(index, entry)| (format!("[{index}]"), entry)))
    }

    /// Whether anybody is trusted at all, so that a scheme other than the connection's can be believed.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Whether the machine at `ip`, `place` steps away from the peer, is believed. `ip` is canonical.
    pub(crate) fn trusts(&self, ip: IpAddr, place: usize) -> bool {
        match self {
            Self::None => false,
            Self::Hops(count) => place < usize::from(count.get()),
            Self::Nets(nets) => nets.contains(ip),
        }
    }
}

impl TryFrom<TrustProxyConfig> for TrustProxy {
    type Error = ConfigError;

    fn try_from(config: TrustProxyConfig) -> Result<Self, ConfigError> {
        match config {
            TrustProxyConfig::Switch(false) => Ok(Self::None),
            TrustProxyConfig::Switch(true) => Ok(Self::hops(1)),
            TrustProxyConfig::Hops(count) => u8::try_from(count)
                .ok()
                .filter(|count| usize::from(*count) <= MAX_ENTRIES)
                .map(Self::hops)
                .ok_or_else(|| {
                    ConfigError::new(
                        "",
                        format!("at most {MAX_ENTRIES} proxies can be trusted by number, but this is {count}"),
                    )
                }),
            TrustProxyConfig::Text(text) => {
                from_entries(text.split(',').map(|entry| (String::new(), entry.trim())))
            }
            TrustProxyConfig::List(items) => Self::nets(items),
        }
    }
}

/// Networks whose machines are believed: at least one, none of them the whole address space, each with its
/// host bits cleared and IPv4-mapped ones folded to IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedNets(Arc<[IpNet]>);

impl TrustedNets {
    /// Whether `ip` lies inside one of the networks.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|net| net.contains(&ip))
    }
}

const LOOPBACK: [IpNet; 2] = [v4([127, 0, 0, 0], 8), v6([0, 0, 0, 0, 0, 0, 0, 1], 128)];
const LINK_LOCAL: [IpNet; 2] = [
    v4([169, 254, 0, 0], 16),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
];
const UNIQUE_LOCAL: [IpNet; 4] = [
    v4([10, 0, 0, 0], 8),
    v4([172, 16, 0, 0], 12),
    v4([192, 168, 0, 0], 16),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
];

const fn v4([a, b, c, d]: [u8; 4], bits: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits))
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], bits: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(a, b, c, d, e, f, g, h),
        bits,
    ))
}

fn named(entry: &str) -> Option<&'static [IpNet]> {
    match entry {
        "loopback" => Some(&LOOPBACK),
        "linklocal" => Some(&LINK_LOCAL),
        "uniquelocal" => Some(&UNIQUE_LOCAL),
        _ => None,
    }
}

fn from_entries<S: AsRef<str>>(
    entries: impl Iterator<Item = (String, S)>,
) -> Result<TrustProxy, ConfigError> {
    let mut nets = Vec::new();
    let mut found = Vec::new();
    for (key, entry) in entries {
        let entry = entry.as_ref();
        match named(entry) {
            Some(range) => nets.extend_from_slice(range),
            None => match parse_net(entry) {
                Ok(net) => nets.push(net),
                Err(message) => found.push(ConfigError::new(key, message)),
            },
        }
    }
    let policy = if nets.is_empty() {
        TrustProxy::None
    } else {
        TrustProxy::Nets(TrustedNets(nets.into()))
    };
    ConfigError::check(policy, found)
}

/// Reads `address`, `address/bits` or `ipv4/netmask`.
pub(crate) fn parse_net(entry: &str) -> Result<IpNet, String> {
    let (address, size) = match entry.split_once('/') {
        Some((address, size)) => (address, Some(size)),
        None => (entry, None),
    };
    let ip = match address.parse::<IpAddr>() {
        Ok(ip) if !entry.contains(',') => ip,
        _ => return Err(not_an_address(entry)),
    };
    let whole = if ip.is_ipv4() { 32 } else { 128 };
    let bits = match size {
        None => whole,
        Some(size) => prefix(ip, size, whole).ok_or_else(|| {
            format!(
                "`{entry}` is no network: after the slash goes a number of bits from 1 to {whole}, or with \
                 IPv4 a netmask such as 255.0.0.0"
            )
        })?,
    };
    let (ip, bits) = fold(ip, bits).ok_or_else(|| {
        format!(
            "`{entry}` holds more than the IPv4-mapped addresses; write the IPv4 network itself, \
             such as 10.0.0.0/8"
        )
    })?;
    if bits == 0 {
        return Err(format!(
            "`{entry}` would trust everybody to name the client; list the proxies' own addresses or networks"
        ));
    }
    IpNet::new(ip, bits)
        .map(|net| net.trunc())
        .map_err(|_| not_an_address(entry))
}

fn not_an_address(entry: &str) -> String {
    if entry.is_empty() {
        return "an empty entry is no address; write `false` to trust nobody".to_owned();
    }
    if entry.contains(',') {
        return format!("`{entry}` holds several entries; write each as an item of its own");
    }
    let number = entry.parse::<u64>().is_ok();
    if number || matches!(entry, "true" | "false") {
        return format!(
            "'{entry}' in quotes or in a list is text, not a setting; write it by itself and without quotes, \
             as in `trustProxy: {entry}`"
        );
    }
    format!(
        "`{entry}` is neither an IP address, nor a network such as 10.0.0.0/8, nor one of the names loopback, \
         linklocal and uniquelocal"
    )
}

/// The number of bits that `/size` stands for; 0 is left to the caller, who has more to say about it.
fn prefix(ip: IpAddr, size: &str, whole: u8) -> Option<u8> {
    if size.contains('.') {
        // Netmasks are a matter of IPv4; `IpNet` would take one for IPv6 too.
        let IpAddr::V4(v4) = ip else { return None };
        let net = Ipv4Net::with_netmask(v4, size.parse().ok()?).ok()?;
        return Some(net.prefix_len());
    }
    // `u8::from_str` also takes a sign, which nobody writes there on purpose.
    if !size.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    size.parse().ok().filter(|bits| *bits <= whole)
}

/// Folds an IPv4-mapped network to IPv4; `None` if it reaches beyond the mapped addresses.
fn fold(ip: IpAddr, bits: u8) -> Option<(IpAddr, u8)> {
    match ip {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => bits.checked_sub(96).map(|bits| (IpAddr::V4(v4), bits)),
            None => Some((ip, bits)),
        },
        IpAddr::V4(_) => Some((ip, bits)),
    }
}

#[cfg(test)]
mod tests;
