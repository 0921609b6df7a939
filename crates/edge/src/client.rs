use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::HeaderValue;

/// The other end of the connection: what the listener knows before any header is believed.
///
/// The listener inserts it into the extensions of every request. A service that takes one layer out of this
/// workspace inserts it itself, from whatever its server calls the remote address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Address and port of the socket's other end.
    pub addr: SocketAddr,
    /// [`Scheme::Https`] when the listener itself ended TLS.
    pub scheme: Scheme,
}

impl Peer {
    /// A peer at `addr`, on a connection of this scheme.
    #[must_use]
    pub const fn new(addr: SocketAddr, scheme: Scheme) -> Self {
        Self { addr, scheme }
    }
}

/// The scheme that the client used, as far as it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Whether this is [`Scheme::Https`].
    #[must_use]
    pub const fn is_https(self) -> bool {
        matches!(self, Self::Https)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who is calling, resolved through the trusted proxies in between.
///
/// Without a trusted proxy these are the facts of the connection itself; no header changes them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientInfo {
    /// The client's address; an IPv4-mapped IPv6 address is folded to IPv4.
    pub ip: IpAddr,
    /// The scheme that the client spoke to the outermost trusted hop.
    pub scheme: Scheme,
    /// The authority that the client asked for: `X-Forwarded-Host` from a trusted peer, else `Host`.
    pub host: Option<HeaderValue>,
    /// How many proxies between the client and this process were believed.
    pub trusted_hops: usize,
}

impl ClientInfo {
    /// A client that is directly connected: no proxy was believed.
    #[must_use]
    pub fn direct(peer: Peer, host: Option<HeaderValue>) -> Self {
        Self::new(peer.addr.ip(), peer.scheme, host, 0)
    }

    /// A client at `ip`, seen through `trusted_hops` proxies.
    #[must_use]
    pub fn new(ip: IpAddr, scheme: Scheme, host: Option<HeaderValue>, trusted_hops: usize) -> Self {
        Self {
            ip: ip.to_canonical(),
            scheme,
            host,
            trusted_hops,
        }
    }

    /// The host as text, if there is one and it is ASCII.
    #[must_use]
    pub fn host_str(&self) -> Option<&str> {
        self.host.as_ref().and_then(|host| host.to_str().ok())
    }
}

/// Marks a request whose `Origin` the CORS policy names as allowed.
///
/// `cors` inserts it; `auth-edapi` lets a cookie, or user and password, act on an unsafe cross-site request only when
/// it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AllowedOrigin;

impl AllowedOrigin {
    /// The mark.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

/// Marks a request whose `Origin` the CORS policy allows to read answers, though not with credentials.
///
/// `cors` inserts it; where nobody is asked for credentials, `auth-edapi` lets such a page act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadableOrigin;

impl ReadableOrigin {
    /// The mark.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}
