use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proactions_ai_link::{TargetConfig, Targets};
use proactions_auth_edapi::{AuthConfig, AuthPolicy};
use proactions_body_limit::BodyLimitPolicy;
use proactions_cors::CorsPolicy;
use proactions_edge::{ConfigError, ConfigProblem, ExposeSecret};
use proactions_forward::{EgressPolicy, HttpClientConfig, ProxyConfig, ProxyPolicies};
use proactions_ratelimit::{MemoryCounters, RateLimitPolicy, StoreKind as RateLimitStore};
use proactions_redact_log::{LoggingConfig, LoggingPolicy};
use proactions_redis_client::RedisSettings;
use proactions_secure_headers::SecureHeadersPolicy;
use proactions_session_store::StoreKind as SessionStore;
use proactions_trust_proxy::{TrustProxy, TrustProxyConfig};
use proactions_youtube::{YoutubeAccounts, YoutubeConfig};
use serde::Deserialize;

use crate::sections::{
    HealthConfig, HealthSettings, HubConfig, ListenAddress, ListenerSettings, MetricsConfig,
    TlsSettings, ValidationConfig, is_loopback,
};
use crate::{files, secrets};

/// A whole configuration: exactly what its sources say, with the defaults of what they leave out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Listeners and the layers in front of every route.
    pub hub: HubConfig,
    /// Who may enter.
    pub auth: AuthConfig,
    /// Where `/v1/*` leads.
    pub targets: Vec<TargetConfig>,
    /// Where `/proxy/forward/{id}` leads.
    pub proxies: Vec<ProxyConfig>,
    /// Uploads to YouTube; off unless the section is there.
    pub youtube: Option<YoutubeConfig>,
    /// Logs.
    pub logging: LoggingConfig,
    /// The public probes.
    #[serde(rename = "healthCheck")]
    pub health_check: HealthConfig,
    /// The listener for metrics.
    pub metrics: MetricsConfig,
    /// How strictly the file itself is read.
    pub validation: ValidationConfig,
}

/// A configuration, checked and ready to run: what a hub is composed from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Policies {
    /// Where the public listener is bound.
    pub public: ListenAddress,
    /// Where the internal listener is bound, if there is one.
    pub ailink: Option<ListenAddress>,
    /// Further names under which it may be called.
    pub ailink_hosts: Vec<String>,
    /// Where the metrics are served, if they are.
    pub metrics: Option<ListenAddress>,
    /// Deadlines and caps of connections.
    pub listener: ListenerSettings,
    /// TLS of the public listener, if it is on.
    pub tls: Option<TlsSettings>,
    /// Between the first sign of a stop and the end of accepting.
    pub pre_stop_delay: Duration,
    /// How long requests under way get to finish.
    pub shutdown_timeout: Duration,
    /// The public probes, if they are served.
    pub health: Option<HealthSettings>,
    /// Which proxies in front are believed.
    pub trust_proxy: TrustProxy,
    /// Security headers.
    pub secure_headers: SecureHeadersPolicy,
    /// Who may call from a browser; off without the section.
    pub cors: CorsPolicy,
    /// How often one may call; off without the section.
    pub rate_limit: RateLimitPolicy,
    /// Where limits are counted.
    pub rate_limit_store: RateLimitStore,
    /// How large a body may be.
    pub body_limit: BodyLimitPolicy,
    /// Who may enter, and how sessions are kept; `None` while authentication is off.
    pub auth: Option<AuthPolicy>,
    /// Where sessions are kept.
    pub session_store: SessionStore,
    /// The Redis that sessions or limits are kept in, if they are.
    pub redis: Option<RedisSettings>,
    /// Logs.
    pub logging: LoggingPolicy,
    /// Where `/v1/*` leads.
    pub targets: Targets,
    /// Where `/proxy/forward/{id}` leads.
    pub proxies: ProxyPolicies,
    /// Outgoing calls.
    pub http_client: HttpClientConfig,
    /// Where outgoing calls may go.
    pub egress: EgressPolicy,
    /// Uploads to YouTube.
    pub youtube: Option<YoutubeAccounts>,
}

impl Config {
    /// Checks every section by itself and against the others.
    ///
    /// # Errors
    /// Everything that is wrong, with keys from the root.
    pub fn check(&self) -> Result<Policies, ConfigError> {
        let mut check = Check::default();
        let hub = &self.hub;
        let security = &hub.security;
        let public = check.of("hub", hub.public_address(self.auth.enabled));
        let ailink = check.of("hub", hub.ailink_address());
        let stop_times = check.of("hub", hub.stop_times());
        let listener = check.of("hub.listener", ListenerSettings::try_from(hub.listener));
        let tls = check.of("hub.tls", Option::<TlsSettings>::try_from(hub.tls.clone()));
        let metrics = check.of("metrics", self.metrics.address());
        let health = check.of(
            "healthCheck",
            Option::<HealthSettings>::try_from(self.health_check.clone()),
        );
        let trust_proxy = check.of(
            "hub.security.trustProxy",
            TrustProxy::try_from(security.trust_proxy.clone()),
        );
        let secure_headers = check.of(
            "hub.security.helmet",
            SecureHeadersPolicy::try_from(security.helmet.clone()),
        );
        let cors = match &security.cors {
            None => Some(CorsPolicy::off()),
            Some(cors) => check.of("hub.security.cors", CorsPolicy::try_from(cors.clone())),
        };
        let rate_limit = match &security.rate_limit {
            None => Some(RateLimitPolicy::off()),
            Some(limit) => check.of(
                "hub.security.rateLimit",
                // Which counters are used is decided where they are made.
                RateLimitPolicy::with_counters(limit.clone(), Arc::new(MemoryCounters::new())),
            ),
        };
        let redis = self.uses_redis().then(|| {
            let key = "auth.session.redis_client";
            let Some(client) = &self.auth.session.redis_client else {
                check.add(key, "is missing; what is kept in Redis needs its url");
                return None;
            };
            check.of(key, client.settings())
        });
        let body_limit = check.of(
            "hub.security.limits",
            BodyLimitPolicy::try_from(security.limits.clone()),
        );
        let auth = check.of("auth", self.auth.clone().into_policy(self.expects_https()));
        let logging = check.of("logging", LoggingPolicy::try_from(self.logging.clone()));
        let targets = check.of("targets", Targets::try_from(self.targets.clone()));
        check.of("hub.http_client", hub.http_client.check());
        let egress = match &hub.egress {
            None => Some(EgressPolicy::open()),
            Some(egress) => check.of("hub.egress", EgressPolicy::try_from(egress.clone())),
        };
        let proxies = check.of("proxies", ProxyPolicies::try_from(self.proxies.clone()));
        let youtube = self
            .youtube
            .clone()
            .map(|youtube| check.of("youtube", YoutubeAccounts::try_from(youtube)));
        self.check_across(&mut check);

        let policies = (|| {
            let (pre_stop_delay, shutdown_timeout) = stop_times?;
            Some(Policies {
                public: public?,
                ailink: ailink?,
                ailink_hosts: hub.ailink_hosts.clone(),
                metrics: metrics?,
                listener: listener?,
                tls: tls?,
                pre_stop_delay,
                shutdown_timeout,
                health: health?,
                trust_proxy: trust_proxy?,
                secure_headers: secure_headers?,
                cors: cors?,
                rate_limit: rate_limit?,
                rate_limit_store: security
                    .rate_limit
                    .as_ref()
                    .map_or(RateLimitStore::Memory, |limit| limit.store),
                body_limit: body_limit?,
                auth: auth?,
                session_store: self.auth.session.store,
                redis: match redis {
                    None => None,
                    Some(redis) => Some(redis?),
                },
                logging: logging?,
                targets: targets?,
                proxies: proxies?,
                http_client: hub.http_client,
                egress: egress?,
                youtube: match youtube {
                    None => None,
                    Some(youtube) => Some(youtube?),
                },
            })
        })();
        check.into_result(policies)
    }

    /// Everything that is allowed and that an operator should know about, with keys from the root.
    #[must_use]
    pub fn warnings(&self) -> Vec<ConfigProblem> {
        let security = &self.hub.security;
        let mut found = Warnings::default();
        self.warn_about_reach(&mut found);
        found.of("hub.tls", self.hub.tls.warnings());
        if let Some(egress) = &self.hub.egress {
            found.of("hub.egress", egress.warnings());
        }
        found.of("hub.security.trustProxy", security.trust_proxy.warnings());
        found.of("hub.security.helmet", security.helmet.warnings());
        if let Some(cors) = &security.cors {
            found.of("hub.security.cors", cors.warnings());
        }
        if let Some(limit) = &security.rate_limit {
            found.of("hub.security.rateLimit", limit.warnings());
        }
        if self.auth.enabled {
            found.of("auth", self.auth.warnings());
        }
        for (index, target) in self.targets.iter().enumerate() {
            found.of(&format!("targets[{index}]"), target.warnings());
        }
        for (index, proxy) in self.proxies.iter().enumerate() {
            found.of(&format!("proxies[{index}]"), proxy.warnings());
        }
        if let Some(youtube) = &self.youtube {
            found.of("youtube", youtube.warnings());
        }
        found.of("logging", self.logging.warnings());
        found.of("metrics", self.metrics.warnings());
        self.warn_about_keys(&mut found);
        found.0
    }

    /// Ids that are taken by an entry above: its key path, and the second one's.
    pub(crate) fn duplicate_ids(&self) -> Vec<(String, String)> {
        let targets = self.targets.iter().map(|target| target.id.as_str());
        let proxies = self.proxies.iter().map(|proxy| proxy.id.as_str());
        let accounts = self.youtube.iter().flat_map(|youtube| {
            let ids = youtube.accounts.iter();
            ids.map(|account| account.id.as_str())
        });
        let mut found = duplicates("targets", targets);
        found.extend(duplicates("proxies", proxies));
        found.extend(duplicates("youtube.accounts", accounts));
        found
    }

    /// Whether anything is kept in Redis.
    fn uses_redis(&self) -> bool {
        let limit = self.hub.security.rate_limit.as_ref();
        self.auth.enabled && self.auth.session.store == SessionStore::Redis
            || limit.is_some_and(|limit| limit.enabled && limit.store == RateLimitStore::Redis)
    }

    /// Whether clients come over HTTPS, here or at a proxy that is believed when it says so.
    fn expects_https(&self) -> bool {
        self.hub.tls.enabled
            || TrustProxy::try_from(self.hub.security.trust_proxy.clone())
                .is_ok_and(|policy| policy.is_on())
    }

    fn check_across(&self, check: &mut Check) {
        let hub = &self.hub;
        for (_, second) in self.duplicate_ids() {
            check.add(second, "this id is taken by an entry above");
        }
        if self.metrics.enabled && self.metrics.port != 0 {
            let ports = [
                ("hub.port", Some(hub.port)),
                ("hub.ailink_port", hub.ailink_port),
            ];
            for (key, _) in ports
                .into_iter()
                .filter(|(_, port)| *port == Some(self.metrics.port))
            {
                check.add("metrics.port", format!("expected another port than {key}"));
            }
        }
    }

    /// Private keys in files that others can read or write. That of `hub.tls` is judged where it is read.
    fn warn_about_keys(&self, found: &mut Warnings) {
        let redis = self.auth.session.redis_client.as_ref();
        let of_redis = redis.and_then(|redis| redis.tls.key.as_ref());
        let of_proxies = self.proxies.iter().enumerate().map(|(index, proxy)| {
            let at = format!("proxies[{index}].options.ssl.key");
            (at, proxy.options.ssl.key.as_ref())
        });
        let at = "auth.session.redis_client.tls.key".to_owned();
        for (at, key) in of_proxies.chain([(at, of_redis)]) {
            let path = key
                .map(ExposeSecret::expose_secret)
                // PEM text is no path.
                .filter(|key| !key.contains("-----BEGIN "));
            let message = path.and_then(|path| secrets::exposed(files::readers(Path::new(path))));
            if let Some(message) = message {
                found.add(&at, format!("the file {message}"));
            }
        }
    }

    fn warn_about_reach(&self, found: &mut Warnings) {
        let hub = &self.hub;
        if !self.auth.enabled {
            let reach = match &hub.host {
                Some(host) if !is_loopback(host) => "everybody who reaches this port",
                _ => "every program on this machine",
            };
            found.add(
                "auth.enabled",
                format!("authentication is off: {reach} can use every target without credentials"),
            );
        }
        let https = self.expects_https();
        let host = hub.host.as_deref().unwrap_or("0.0.0.0");
        if self.auth.enabled && !https && !is_loopback(host) {
            found.add(
                "hub.tls.enabled",
                "neither hub.tls nor hub.security.trustProxy is set: credentials and answers travel unencrypted",
            );
        }
        let cookie = &self.auth.session.cookie;
        if self.auth.enabled && cookie.secure == Some(true) && !https {
            found.add(
                "auth.session.cookie.secure",
                "no request counts as HTTPS without hub.tls or hub.security.trustProxy, so the session cookie is never sent",
            );
        }
        if hub.ailink_port.is_some() && !is_loopback(&hub.ailink_host) {
            found.add(
                "hub.ailink_host",
                "the internal listener asks for no credentials and other machines can reach it",
            );
        }
        if hub.ailink_port.is_none() && !hub.ailink_hosts.is_empty() {
            found.add(
                "hub.ailink_hosts",
                "it has no effect without hub.ailink_port",
            );
        }
        let counted = hub.security.rate_limit.as_ref().is_some_and(|l| l.enabled);
        if counted
            && matches!(hub.security.trust_proxy, TrustProxyConfig::Hops(hops) if hops > 0)
            && !is_loopback(host)
        {
            found.add(
                "hub.security.trustProxy",
                "whoever reaches this port past the proxies chooses the address that is limited; a list of the proxies' addresses prevents that",
            );
        }
    }
}

/// Pairs of entries with the same id, the first of them and each later one.
fn duplicates<'a>(key: &str, ids: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut found = Vec::new();
    for (index, id) in ids.enumerate().filter(|(_, id)| !id.is_empty()) {
        match seen.get(id) {
            Some(first) => found.push((format!("{key}[{first}].id"), format!("{key}[{index}].id"))),
            None => {
                seen.insert(id, index);
            }
        }
    }
    found
}

/// Collects what is wrong, section by section.
#[derive(Default)]
struct Check {
    found: Vec<ConfigProblem>,
}

impl Check {
    fn of<T>(&mut self, section: &str, result: Result<T, ConfigError>) -> Option<T> {
        result
            .map_err(|error| self.found.extend(error.within(section).into_problems()))
            .ok()
    }

    fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        let problem = ConfigProblem::new(key, message);
        if self.found.iter().all(|known| known.key != problem.key) {
            self.found.push(problem);
        }
    }

    fn into_result<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        let found = self
            .found
            .into_iter()
            .map(|problem| ConfigError::new(problem.key, problem.message));
        match value {
            Some(value) => ConfigError::check(value, found),
            None => {
                ConfigError::check((), found)?;
                Err(ConfigError::new("", "a section could not be checked"))
            }
        }
    }
}

#[derive(Default)]
struct Warnings(Vec<ConfigProblem>);

impl Warnings {
    fn of(&mut self, section: &str, warnings: Vec<ConfigProblem>) {
        for warning in warnings {
            let problem = ConfigError::new(warning.key, warning.message).within(section);
            self.0.extend(problem.into_problems());
        }
    }

    fn add(&mut self, key: &str, message: impl Into<String>) {
        self.0.push(ConfigProblem::new(key, message));
    }
}
