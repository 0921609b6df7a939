//! The sections that no layer owns.

mod health;
mod hub;
mod listener;
mod metrics;
mod tls;
mod validation;

pub use health::{HealthConfig, HealthSettings};
pub(crate) use hub::is_loopback;
pub use hub::{HubConfig, ListenAddress, SecurityConfig};
pub use listener::{ListenerConfig, ListenerSettings};
pub use metrics::MetricsConfig;
pub use tls::{
    ClientCertificates, KeyPermissions, TlsConfig, TlsConfigVersion, TlsSettings, TlsSuite,
};
pub use validation::ValidationConfig;
