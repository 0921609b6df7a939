//! Where outgoing connections may go.
//!
//! The rules are kept where a connection is made: the name is resolved once, every address that it has is judged,
//! and the connection goes to one of the addresses that were judged. So no second look-up can give another answer.

mod address;
mod connector;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use http::HeaderValue;
use proactions_edge::{ConfigError, ExposeSecret};

pub use address::is_public;
pub(crate) use connector::EgressConnector;

use crate::config::{proxy_user, without_user};
use crate::{BaseUrl, EgressConfig};

/// The checked form of [`EgressConfig`]: which hosts may be called, over which proxy. Cloning is cheap.
///
/// 1. **Hosts.** With `allowHosts` only these are called: `api.example.com` is that name, `*.example.com` one or more
///    whole labels before it; with a port (`api.example.com:8443`) that port only.
/// 2. **Addresses.** With `denyPrivate` a name is refused if one of its addresses is not a public one, see
///    [`is_public`]. An address in a URL is judged like one that a name has.
/// 3. **Odd spellings** of addresses (`2130706433`, `0x7f.1`, `127.1`) are refused whenever there is a rule at all.
/// 4. **A proxy** resolves names itself. Addresses in URLs and `localhost` are judged here; what a name resolves to
///    there is the proxy's to judge. The proxy's own address is the operator's choice and is not judged.
///
/// ```
/// use proactions_forward::{EgressConfig, EgressPolicy};
///
/// let mut config = EgressConfig::default();
/// config.allow_hosts = vec!["api.example.com".to_owned(), "*.example.org:8443".to_owned()];
/// let policy = EgressPolicy::try_from(config)?;
/// assert!(policy.allows_host("API.example.com", 443));
/// assert!(policy.allows_host("a.b.example.org", 8443));
/// assert!(!policy.allows_host("example.org", 8443));
/// assert!(!policy.allows_host("a.example.org", 443));
/// assert!(!policy.allows_host("evilexample.org", 8443));
/// # Ok::<(), proactions_edge::ConfigError>(())
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct EgressPolicy(Arc<Rules>);

#[derive(Clone, Default, PartialEq)]
struct Rules {
    proxy: Option<OutboundProxy>,
    allow: Vec<HostRule>,
    deny_private: bool,
}

#[derive(Clone)]
pub(crate) struct OutboundProxy {
    pub(crate) url: BaseUrl,
    /// `Proxy-Authorization`, marked as sensitive.
    pub(crate) credentials: Option<HeaderValue>,
}

#[derive(Clone, Debug, PartialEq)]
struct HostRule {
    /// In lower case, without brackets.
    name: String,
    /// Whether only whole labels before the name are meant.
    below: bool,
    port: Option<u16>,
}

impl PartialEq for OutboundProxy {
    fn eq(&self, other: &Self) -> bool {
        self.url.is_https() == other.url.is_https()
            && self.url.authority() == other.url.authority()
            && self.credentials == other.credentials
    }
}

impl EgressPolicy {
    /// No rule: any host, directly.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Whether this host and port may be called, as far as the name tells.
    #[must_use]
    pub fn allows_host(&self, host: &str, port: u16) -> bool {
        self.check_host(host, port).is_ok()
    }

    /// Whether a connection may go to this address.
    #[must_use]
    pub fn allows_address(&self, address: IpAddr) -> bool {
        !self.0.deny_private || is_public(address)
    }

    /// The rules for a host that an upstream named, not the configuration: if no list allows it, it must be public.
    pub(crate) fn for_foreign_hosts(&self) -> Self {
        let mut rules = Rules::clone(&self.0);
        rules.deny_private |= rules.allow.is_empty();
        Self(Arc::new(rules))
    }

    pub(crate) fn proxy(&self) -> Option<&OutboundProxy> {
        self.0.proxy.as_ref()
    }

    /// What of the rules can be judged before a name is resolved.
    fn check_host(&self, host: &str, port: u16) -> Result<(), EgressRefused> {
        let rules = &*self.0;
        if rules.proxy.is_none() && rules.allow.is_empty() && !rules.deny_private {
            return Ok(());
        }
        let refused = |why| Err(EgressRefused::new(host, port, why));
        let bare = bare(host).trim_end_matches('.').to_ascii_lowercase();
        let literal = bare.parse::<IpAddr>().ok();
        if literal.is_none() && looks_like_address(&bare) {
            return refused(Why::OddAddress);
        }
        if !rules.allow.is_empty() && !rules.allow.iter().any(|rule| rule.fits(&bare, port)) {
            return refused(Why::NotAllowed);
        }
        if literal.is_some_and(|address| !self.allows_address(address)) {
            return refused(Why::Private);
        }
        let local = bare == "localhost" || bare.ends_with(".localhost");
        if rules.deny_private && local {
            return refused(Why::Private);
        }
        Ok(())
    }

    /// Judges every address of a name.
    fn check_addresses(
        &self,
        host: &str,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), EgressRefused> {
        if addresses.into_iter().all(|ip| self.allows_address(ip)) {
            Ok(())
        } else {
            Err(EgressRefused::new(host, 0, Why::Private))
        }
    }
}

impl TryFrom<EgressConfig> for EgressPolicy {
    type Error = ConfigError;

    fn try_from(config: EgressConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let mut rules = Rules {
            deny_private: config.deny_private,
            ..Rules::default()
        };
        for (index, host) in config.allow_hosts.iter().enumerate() {
            let rule = HostRule::parse(host);
            rules.allow.push(
                rule.map_err(|message| ConfigError::new(format!("allowHosts[{index}]"), message))?,
            );
        }
        if let Some(proxy) = &config.proxy {
            let wrong = |message: String| ConfigError::new("proxy", message);
            let text = proxy.expose_secret();
            let url = BaseUrl::parse(&without_user(text)).map_err(|e| wrong(e.to_string()))?;
            let credentials = proxy_user(text).map_err(|message| wrong(message.to_owned()))?;
            rules.proxy = Some(OutboundProxy { url, credentials });
        }
        Ok(Self(Arc::new(rules)))
    }
}

impl fmt::Debug for EgressPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = &*self.0;
        f.debug_struct("EgressPolicy")
            .field("proxy", &rules.proxy.as_ref().map(|proxy| &proxy.url))
            .field("allow", &rules.allow)
            .field("deny_private", &rules.deny_private)
            .finish()
    }
}

impl HostRule {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected a host name such as `api.example.com` or `*.example.com`, or an address, with a port if need be";
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (name, port) = match rest.rsplit_once(':') {
            // A bare IPv6 address.
            Some((before, _)) if before.contains(':') && !rest.starts_with('[') => (rest, None),
            Some((before, port)) if !rest.ends_with(']') => (before, Some(port)),
            _ => (rest, None),
        };
        let port = match port {
            None => None,
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port > 0 => Some(port),
                _ => return Err(EXPECTED),
            },
        };
        let name = bare(name).trim_end_matches('.').to_ascii_lowercase();
        let is_address = name.parse::<IpAddr>().is_ok();
        let label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let is_name = name.split('.').all(label) && !looks_like_address(&name);
        if is_address && below || !is_address && !is_name {
            return Err(EXPECTED);
        }
        Ok(Self { name, below, port })
    }

    fn fits(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|wanted| wanted != port) {
            return false;
        }
        if !self.below {
            return host == self.name
                || matches!(
                    (host.parse::<IpAddr>(), self.name.parse::<IpAddr>()),
                    (Ok(a), Ok(b)) if a.to_canonical() == b.to_canonical()
                );
        }
        host.strip_suffix(self.name.as_str())
            .and_then(|labels| labels.strip_suffix('.'))
            .is_some_and(|labels| labels.split('.').all(|label| !label.is_empty()))
    }
}

/// What is wrong with an entry of `allowHosts`, if anything.
pub(crate) fn check_rule(text: &str) -> Option<&'static str> {
    HostRule::parse(text).err()
}

/// Without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

/// Whether some resolver would take the name for an IPv4 address in a spelling of its own: its last label is a
/// number, decimal, octal or hexadecimal.
fn looks_like_address(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x");
    (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
        || hex.is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
        || host.parse::<Ipv4Addr>().is_ok()
        || host.parse::<Ipv6Addr>().is_ok()
}

/// A connection that the rules do not allow. Its text names the host: it is for logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EgressRefused {
    host: String,
    port: u16,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    NotAllowed,
    OddAddress,
    Private,
}

impl EgressRefused {
    fn new(host: &str, port: u16, why: Why) -> Self {
        Self {
            host: host.chars().take(255).collect(),
            port,
            why,
        }
    }
}

impl fmt::Display for EgressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.why {
            Why::NotAllowed => "hub.egress.allowHosts does not name ",
            Why::OddAddress => "not a plain spelling of an address: ",
            Why::Private => "hub.egress.denyPrivate refuses ",
        })?;
        f.write_str(&self.host)?;
        match self.port {
            0 => Ok(()),
            port => write!(f, ":{port}"),
        }
    }
}

impl std::error::Error for EgressRefused {}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
