use std::ops::RangeInclusive;
use std::time::Duration;

use proactions_edge::ConfigError;
use serde::Deserialize;

/// Section `hub.listener`: deadlines and caps of connections, before any layer sees a request.
///
/// Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[non_exhaustive]
pub struct ListenerConfig {
    /// Open connections in all; 10000 unless set. More are closed at once.
    pub max_connections: u64,
    /// Open connections from one address; 1000 unless set. Behind a proxy that is the proxy's address.
    pub max_connections_per_address: u64,
    /// From accept to the end of the TLS handshake; 10000 unless set.
    pub tls_handshake_timeout: u64,
    /// From accept, or from the end of the handshake, to the first byte; 10000 unless set.
    pub first_byte_timeout: u64,
    /// From the first byte of a request to the end of its head; 15000 unless set.
    pub header_timeout: u64,
    /// Between two pieces of a request's body; 30000 unless set.
    pub body_frame_timeout: u64,
    /// For a whole request body; 3600000 (an hour) unless set.
    pub body_timeout: u64,
    /// Between an answer and the next request of a connection; 75000 unless set.
    pub idle_timeout: u64,
    /// How long a client may take no byte of an answer that waits for it; 60000 unless set.
    pub write_timeout: u64,
    /// Header fields of a request; 100 unless set. More are answered with 431.
    pub max_headers: u64,
    /// Bytes of a request's header; 32768 unless set. More are answered with 431.
    pub max_header_bytes: u64,
    /// Bytes of a request's target; 8192 unless set. More are answered with 414.
    pub max_uri_bytes: u64,
    /// Streams that an HTTP/2 connection may have open; 100 unless set.
    pub h2_max_streams: u64,
    /// Streams of an HTTP/2 connection that the client may have reset and the hub not yet seen; 20 unless
    /// set.
    pub h2_max_pending_resets: u64,
    /// Streams that the hub itself may reset for a client's errors before it closes the connection; 1024
    /// unless set.
    pub h2_max_local_resets: u64,
    /// Bytes of a header list in HTTP/2, as RFC 9113 counts them; 16384 unless set.
    pub h2_max_header_list_bytes: u64,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_address: 1_000,
            tls_handshake_timeout: 10_000,
            first_byte_timeout: 10_000,
            header_timeout: 15_000,
            body_frame_timeout: 30_000,
            body_timeout: 3_600_000,
            idle_timeout: 75_000,
            write_timeout: 60_000,
            max_headers: 100,
            max_header_bytes: 32_768,
            max_uri_bytes: 8_192,
            h2_max_streams: 100,
            h2_max_pending_resets: 20,
            h2_max_local_resets: 1_024,
            h2_max_header_list_bytes: 16_384,
        }
    }
}

/// [`ListenerConfig`], checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerSettings {
    /// Open connections in all.
    pub max_connections: usize,
    /// Open connections from one address.
    pub max_connections_per_address: usize,
    /// From accept to the end of the TLS handshake.
    pub tls_handshake_timeout: Duration,
    /// From accept, or from the end of the handshake, to the first byte.
    pub first_byte_timeout: Duration,
    /// From the first byte of a request to the end of its head.
    pub header_timeout: Duration,
    /// Between two pieces of a request's body.
    pub body_frame_timeout: Duration,
    /// For a whole request body.
    pub body_timeout: Duration,
    /// Between an answer and the next request of a connection.
    pub idle_timeout: Duration,
    /// How long a client may take no byte of an answer that waits for it.
    pub write_timeout: Duration,
    /// Header fields of a request.
    pub max_headers: usize,
    /// Bytes of a request's header.
    pub max_header_bytes: usize,
    /// Bytes of a request's target.
    pub max_uri_bytes: usize,
    /// Streams that an HTTP/2 connection may have open.
    pub h2_max_streams: u32,
    /// Streams that the client may have reset and the hub not yet seen.
    pub h2_max_pending_resets: usize,
    /// Streams that the hub may reset for a client's errors.
    pub h2_max_local_resets: usize,
    /// Bytes of a header list in HTTP/2.
    pub h2_max_header_list_bytes: u32,
}

const DAY: u64 = 86_400_000;
const MIB: u64 = 1024 * 1024;

impl TryFrom<ListenerConfig> for ListenerSettings {
    type Error = ConfigError;

    fn try_from(config: ListenerConfig) -> Result<Self, ConfigError> {
        let mut check = Check::default();
        let settings = Self {
            max_connections: check.count("maxConnections", config.max_connections, 1..=1_000_000),
            max_connections_per_address: check.count(
                "maxConnectionsPerAddress",
                config.max_connections_per_address,
                1..=1_000_000,
            ),
            tls_handshake_timeout: check.time("tlsHandshakeTimeout", config.tls_handshake_timeout),
            first_byte_timeout: check.time("firstByteTimeout", config.first_byte_timeout),
            header_timeout: check.time("headerTimeout", config.header_timeout),
            body_frame_timeout: check.time("bodyFrameTimeout", config.body_frame_timeout),
            body_timeout: check.time("bodyTimeout", config.body_timeout),
            idle_timeout: check.time("idleTimeout", config.idle_timeout),
            write_timeout: check.time("writeTimeout", config.write_timeout),
            max_headers: check.count("maxHeaders", config.max_headers, 10..=1_000),
            max_header_bytes: check.count("maxHeaderBytes", config.max_header_bytes, 4_096..=MIB),
            max_uri_bytes: check.count("maxUriBytes", config.max_uri_bytes, 256..=65_534),
            h2_max_streams: check.count("h2MaxStreams", config.h2_max_streams, 1..=10_000),
            h2_max_pending_resets: check.count(
                "h2MaxPendingResets",
                config.h2_max_pending_resets,
                1..=10_000,
            ),
            h2_max_local_resets: check.count(
                "h2MaxLocalResets",
                config.h2_max_local_resets,
                1..=100_000,
            ),
            h2_max_header_list_bytes: check.count(
                "h2MaxHeaderListBytes",
                config.h2_max_header_list_bytes,
                4_096..=MIB,
            ),
        };
        if config.max_connections_per_address > config.max_connections {
            check.found.push(ConfigError::new(
                "maxConnectionsPerAddress",
                "expected at most maxConnections",
            ));
        }
        if config.body_frame_timeout > config.body_timeout {
            check.found.push(ConfigError::new(
                "bodyFrameTimeout",
                "expected at most bodyTimeout",
            ));
        }
        ConfigError::check(settings, check.found)
    }
}

#[derive(Default)]
struct Check {
    found: Vec<ConfigError>,
}

impl Check {
    fn time(&mut self, key: &str, millis: u64) -> Duration {
        if !(1..=DAY).contains(&millis) {
            let message = format!("expected between 1 and {DAY} (milliseconds)");
            self.found.push(ConfigError::new(key, message));
        }
        Duration::from_millis(millis)
    }

    fn count<T: TryFrom<u64> + Default>(
        &mut self,
        key: &str,
        value: u64,
        range: RangeInclusive<u64>,
    ) -> T {
        match T::try_from(value) {
            Ok(count) if range.contains(&value) => count,
            _ => {
                let message = format!("expected between {} and {}", range.start(), range.end());
                self.found.push(ConfigError::new(key, message));
                T::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_order_and_every_excess_is_told() {
        let settings = ListenerSettings::try_from(ListenerConfig::default()).unwrap();
        assert_eq!(settings.idle_timeout, Duration::from_secs(75));
        let config = ListenerConfig {
            max_connections: 0,
            header_timeout: 0,
            max_uri_bytes: 100_000,
            body_frame_timeout: 4_000_000,
            ..ListenerConfig::default()
        };
        let error = ListenerSettings::try_from(config).unwrap_err();
        let keys: Vec<_> = error.problems().iter().map(|p| p.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "maxConnections",
                "headerTimeout",
                "maxUriBytes",
                "maxConnectionsPerAddress",
                "bodyFrameTimeout"
            ]
        );
    }
}
