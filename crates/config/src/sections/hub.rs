use std::net::IpAddr;
use std::time::Duration;

use proactions_body_limit::BodyLimitConfig;
use proactions_cors::CorsConfig;
use proactions_edge::ConfigError;
use proactions_forward::{EgressConfig, HttpClientConfig};
use proactions_ratelimit::RateLimitConfig;
use proactions_secure_headers::SecureHeadersConfig;
use proactions_trust_proxy::TrustProxyConfig;
use serde::Deserialize;

use super::{ListenerConfig, TlsConfig};

/// Section `hub`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HubConfig {
    /// The address that the public listener is bound to. Unless set: `0.0.0.0`, and `127.0.0.1` while
    /// authentication is off.
    pub host: Option<String>,
    /// The public listener's port; 3000 unless set. 0 lets the system pick one.
    pub port: u16,
    /// The port of the internal listener; unless set there is none.
    pub ailink_port: Option<u16>,
    /// The address that the internal listener is bound to; `localhost` unless set.
    pub ailink_host: String,
    /// Allows an `ailink_host` that other machines can reach; false unless set.
    pub ailink_allow_external: bool,
    /// Further names under which the internal listener may be called; none unless set.
    pub ailink_hosts: Vec<String>,
    /// TLS of the public listener.
    pub tls: TlsConfig,
    /// Outgoing calls.
    pub http_client: HttpClientConfig,
    /// Where outgoing calls may go; anywhere unless set.
    pub egress: Option<EgressConfig>,
    /// The layers in front of every route.
    pub security: SecurityConfig,
    /// Deadlines and caps of connections.
    pub listener: ListenerConfig,
    /// Milliseconds between the first sign of a stop (`/ready` says 503) and the end of accepting; 0 unless
    /// set.
    #[serde(rename = "preStopDelay")]
    pub pre_stop_delay: u64,
    /// Milliseconds that requests under way get to finish; 30000 unless set.
    #[serde(rename = "shutdownTimeout")]
    pub shutdown_timeout: u64,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            host: None,
            port: 3000,
            ailink_port: None,
            ailink_host: "localhost".to_owned(),
            ailink_allow_external: false,
            ailink_hosts: Vec::new(),
            tls: TlsConfig::default(),
            http_client: HttpClientConfig::default(),
            egress: None,
            security: SecurityConfig::default(),
            listener: ListenerConfig::default(),
            pre_stop_delay: 0,
            shutdown_timeout: 30_000,
        }
    }
}

/// Section `hub.security`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[non_exhaustive]
pub struct SecurityConfig {
    /// Which proxies in front are believed; none unless set.
    pub trust_proxy: TrustProxyConfig,
    /// Security headers; on with their defaults unless set.
    pub helmet: SecureHeadersConfig,
    /// Who may call from a browser; off unless the section is there.
    pub cors: Option<CorsConfig>,
    /// How often one may call; off unless the section is there.
    pub rate_limit: Option<RateLimitConfig>,
    /// How large a body may be.
    pub limits: BodyLimitConfig,
}

/// A host and a port to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenAddress {
    /// An IP address, or a name that the system resolves.
    pub host: String,
    /// The port; 0 lets the system pick one.
    pub port: u16,
}

impl ListenAddress {
    pub(crate) const fn new(host: String, port: u16) -> Self {
        Self { host, port }
    }
}

impl HubConfig {
    pub(crate) fn public_address(&self, auth: bool) -> Result<ListenAddress, ConfigError> {
        let host = self
            .host
            .clone()
            .unwrap_or_else(|| if auth { "0.0.0.0" } else { "127.0.0.1" }.to_owned());
        let found = check_host("host", &host);
        ConfigError::check(ListenAddress::new(host, self.port), found)
    }

    pub(crate) fn ailink_address(&self) -> Result<Option<ListenAddress>, ConfigError> {
        let mut found = Vec::new();
        found.extend(check_host("ailink_host", &self.ailink_host));
        if found.is_empty() && !is_loopback(&self.ailink_host) && !self.ailink_allow_external {
            found.push(ConfigError::new(
                "ailink_host",
                "expected localhost, 127.0.0.1 or ::1: this listener asks for no credentials; \
                 hub.ailink_allow_external: true allows other addresses",
            ));
        }
        found.extend(
            self.ailink_hosts
                .iter()
                .enumerate()
                .filter_map(|(index, name)| check_name(&format!("ailink_hosts[{index}]"), name)),
        );
        if let Some(port) = self.ailink_port.filter(|port| *port != 0)
            && port == self.port
        {
            found.push(ConfigError::new(
                "ailink_port",
                "expected another port than hub.port",
            ));
        }
        let address = self
            .ailink_port
            .map(|port| ListenAddress::new(self.ailink_host.clone(), port));
        ConfigError::check(address, found)
    }

    pub(crate) fn stop_times(&self) -> Result<(Duration, Duration), ConfigError> {
        const HOUR: u64 = 3_600_000;
        let times = [
            ("preStopDelay", self.pre_stop_delay),
            ("shutdownTimeout", self.shutdown_timeout),
        ];
        let found = times
            .into_iter()
            .filter(|(_, millis)| *millis > HOUR)
            .map(|(key, _)| {
                ConfigError::new(key, format!("expected at most {HOUR} (milliseconds)"))
            });
        let times = (
            Duration::from_millis(self.pre_stop_delay),
            Duration::from_millis(self.shutdown_timeout),
        );
        ConfigError::check(times, found)
    }
}

/// Whether nobody but programs on the same machine can reach the host.
pub(crate) fn is_loopback(host: &str) -> bool {
    match bare(host).parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

pub(crate) fn check_host(key: &str, host: &str) -> Option<ConfigError> {
    (!is_name(host) && bare(host).parse::<IpAddr>().is_err()).then(|| {
        ConfigError::new(
            key,
            "expected an IP address such as 0.0.0.0 or ::1, or a host name, without a port",
        )
    })
}

fn check_name(key: &str, name: &str) -> Option<ConfigError> {
    (!is_name(name)).then(|| {
        ConfigError::new(
            key,
            "expected a host name such as proactions-hub, whole and without a port; \
             addresses need not be listed",
        )
    })
}

fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    host.len() <= 253
        && host.split('.').all(label)
        // What looks like an address must be one.
        && !host.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// An IPv6 address without its brackets.
fn bare(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (host, good, loopback) in [
            ("localhost", true, true),
            ("LOCALHOST", true, true),
            ("127.0.0.1", true, true),
            ("127.8.9.1", true, true),
            ("::1", true, true),
            ("[::1]", true, true),
            ("::ffff:127.0.0.1", true, true),
            ("0.0.0.0", true, false),
            ("::", true, false),
            ("10.0.0.1", true, false),
            ("hub.internal", true, false),
            ("localhost.example.com", true, false),
            ("127.0.0.1.example.com", true, false),
            ("", false, false),
            ("1.2.3", false, false),
            ("300.1.1.1", false, false),
            ("127.0.0.1:3000", false, false),
            ("http://x", false, false),
            ("a b", false, false),
            ("a..b", false, false),
        ] {
            assert_eq!(check_host("host", host).is_none(), good, "{host}");
            assert_eq!(is_loopback(host), loopback, "{host}");
        }
    }

    #[test]
    fn the_internal_listener_stays_inside() {
        let mut hub = HubConfig {
            ailink_port: Some(3001),
            ..HubConfig::default()
        };
        assert_eq!(
            hub.ailink_address().unwrap(),
            Some(ListenAddress::new("localhost".into(), 3001))
        );
        hub.ailink_host = "0.0.0.0".into();
        let error = hub.ailink_address().unwrap_err();
        assert_eq!(error.problems()[0].key, "ailink_host");
        hub.ailink_allow_external = true;
        assert!(hub.ailink_address().is_ok());
        hub.ailink_port = Some(3000);
        let error = hub.ailink_address().unwrap_err();
        assert_eq!(error.problems()[0].key, "ailink_port");
    }

    #[test]
    fn names_of_the_internal_listener_are_whole_names() {
        for (name, good) in [
            ("proactions-hub", true),
            ("hub.default.svc.cluster.local", true),
            ("Hub_1", true),
            ("", false),
            ("*", false),
            ("*.internal", false),
            ("hub:3001", false),
            ("http://hub", false),
            ("hub.", false),
            ("10.0.0.1", false),
            ("::1", false),
            ("caf\u{e9}", false),
        ] {
            let hub = HubConfig {
                ailink_port: Some(3001),
                ailink_hosts: vec!["first".into(), name.into()],
                ..HubConfig::default()
            };
            match hub.ailink_address() {
                Ok(_) => assert!(good, "{name}"),
                Err(error) => {
                    assert!(!good, "{name}: {error}");
                    assert_eq!(error.problems()[0].key, "ailink_hosts[1]");
                }
            }
        }
    }

    #[test]
    fn without_authentication_only_this_machine_is_served() {
        let mut hub = HubConfig::default();
        assert_eq!(hub.public_address(false).unwrap().host, "127.0.0.1");
        assert_eq!(hub.public_address(true).unwrap().host, "0.0.0.0");
        hub.host = Some("10.0.0.1".into());
        assert_eq!(hub.public_address(false).unwrap().host, "10.0.0.1");
    }
}
