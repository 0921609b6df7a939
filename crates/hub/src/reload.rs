//! Changing the configuration and the certificate of a hub that runs.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proactions_config::{Config, Loaded, Loader, TlsSettings};
use proactions_edge::{ConfigError, ConfigProblem, ExposeSecret as _};
use proactions_ratelimit::StoreKind;
use proactions_redact_log::Logging;

use crate::StartError;
use crate::compose::{self, Kept, Parts};
use crate::listen::TlsSlot;
use crate::pipeline::LivePipeline;
use crate::readiness::Readiness;
use crate::shutdown::Hangups;
use crate::tls::{Identity, Stamp};

/// How often the certificate's files are looked at. A change is taken up when two looks in a row agree, so that a
/// certificate is not read between its own writing and that of its key.
const LOOK: Duration = Duration::from_millis(500);

/// What runs, and can be exchanged.
#[derive(Debug)]
pub(crate) struct Live {
    pipeline: LivePipeline,
    internal: Option<LivePipeline>,
    slot: Option<TlsSlot>,
    /// Where the certificate is read from. Locked for the whole of a change, so that there is one at a time.
    tls: Mutex<Option<TlsSettings>>,
    kept: Kept,
    logging: Logging,
}

impl Live {
    pub(crate) fn new(
        pipeline: LivePipeline,
        internal: Option<LivePipeline>,
        tls: Option<(TlsSlot, TlsSettings)>,
        kept: Kept,
        logging: Logging,
    ) -> Self {
        let (slot, settings) = tls.unzip();
        Self {
            pipeline,
            internal,
            slot,
            tls: Mutex::new(settings),
            kept,
            logging,
        }
    }

    pub(crate) fn pipeline(&self) -> LivePipeline {
        self.pipeline.clone()
    }

    /// The stack of the internal listener, if there is one.
    pub(crate) fn internal(&self) -> Option<LivePipeline> {
        self.internal.clone()
    }

    pub(crate) fn readiness(&self) -> &Readiness {
        &self.kept.readiness
    }

    fn settings(&self) -> MutexGuard<'_, Option<TlsSettings>> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Exchanges the configuration and the certificate of a [`Hub`](crate::Hub) while it runs.
///
/// Requests under way finish as they began. Sessions, rate limit counters, failed logins, connections and, while
/// `hub.http_client` stays as it is, the connections to upstreams live on.
#[derive(Clone, Debug)]
pub struct ReloadHandle(Arc<Live>);

impl ReloadHandle {
    pub(crate) const fn new(live: Arc<Live>) -> Self {
        Self(live)
    }

    /// Serves with this configuration from now on, and with the certificate that its files hold. Reads files.
    ///
    /// Where it listens, how it logs, and whether it speaks TLS or asks for credentials at all stay as they were
    /// at the start.
    ///
    /// # Errors
    /// When it cannot be served; then everything stays as it was.
    pub fn reload(&self, loaded: &Loaded) -> Result<Vec<ConfigProblem>, StartError> {
        let Live {
            pipeline,
            internal,
            slot,
            kept,
            logging,
            ..
        } = &*self.0;
        let mut settings = self.0.settings();
        let policies = &loaded.policies;
        if policies.tls.is_some() != slot.is_some() {
            return Err(needs_restart("hub.tls.enabled").into());
        }
        let identity = crate::tls::identity(policies)?;
        let parts = Parts::new(policies, kept)?;

        // Nothing below can fail, and nothing above changes what serves.
        kept.adopt(policies, &parts);
        let next = compose::pipeline(policies, logging, kept, &parts);
        let next_internal = compose::internal(policies, logging, kept, &parts);
        let mut warnings = Vec::new();
        if let (Some(slot), Some(identity)) = (slot, identity) {
            slot.store(identity.config);
            warnings = identity.warnings;
        }
        *settings = policies.tls.clone();
        pipeline.store(next);
        if let (Some(internal), Some(next)) = (internal, next_internal) {
            internal.store(next);
        }
        Ok(warnings)
    }

    /// Reads the certificate and its key again.
    ///
    /// # Errors
    /// When they cannot be used; then the old ones stay.
    pub fn reload_certificate(&self) -> Result<Vec<ConfigProblem>, StartError> {
        let settings = self.0.settings();
        let (Some(slot), Some(settings)) = (&self.0.slot, settings.as_ref()) else {
            return Ok(Vec::new());
        };
        let Identity {
            config,
            warnings,
            subject,
        } = Identity::load(settings)?;
        slot.store(config);
        tracing::info!(
            target: "security",
            event = "certificate_changed",
            subject = %subject,
            "new connections get the new certificate",
        );
        Ok(warnings)
    }

    /// Takes up the certificate's files whenever they change; for ever.
    pub(crate) async fn watch_certificate(self) {
        if self.0.slot.is_none() {
            return;
        }
        let mut served = self.stamp();
        let mut last = served.clone();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.stamp();
            if now == last && now != served {
                served = now.clone();
                let handle = self.clone();
                let read = tokio::task::spawn_blocking(move || handle.reload_certificate());
                match read.await {
                    Ok(Ok(warnings)) => warn(&warnings),
                    Ok(Err(error)) => refuse("certificate_refused", &error.to_string()),
                    Err(_) => {}
                }
            }
            last = now;
        }
    }

    fn stamp(&self) -> Option<(Stamp, String)> {
        let settings = self.0.settings();
        settings.as_ref().map(|settings| {
            let paths = format!("{:?}", (&settings.cert, &settings.key, &settings.ca));
            (Stamp::of(settings), paths)
        })
    }
}

/// Reads `file` again at each SIGHUP; for ever.
pub(crate) async fn on_hangup(
    mut hangups: Hangups,
    handle: ReloadHandle,
    file: Option<PathBuf>,
    at_start: Config,
) {
    let at_start = Arc::new(at_start);
    while hangups.next().await.is_some() {
        let Some(file) = file.clone() else {
            tracing::warn!("asked to reload, but there is no configuration file");
            continue;
        };
        let (handle, at_start) = (handle.clone(), Arc::clone(&at_start));
        let reload = tokio::task::spawn_blocking(move || reload_file(&file, &handle, &at_start));
        // What went wrong is logged.
        let _ = reload.await;
    }
}

/// Reads the file and serves with it, or tells why not.
fn reload_file(file: &Path, handle: &ReloadHandle, at_start: &Config) -> Result<(), ()> {
    let loaded = Loader::new(file)
        .process_env()
        .load()
        .map_err(|report| refuse("config_refused", &report.to_string()))?;
    if loaded.config.auth.enabled != at_start.auth.enabled {
        // The address that is listened on depends on it.
        let error = needs_restart("auth.enabled");
        refuse("config_refused", &error.to_string());
        return Err(());
    }
    let warnings = handle
        .reload(&loaded)
        .map_err(|error| refuse("config_refused", &error.to_string()))?;
    for warning in &loaded.warnings {
        tracing::warn!("{}", line(&warning.to_string()));
    }
    warn(&warnings);
    for key in changed(at_start, &loaded.config) {
        tracing::warn!(
            key,
            "{key} has changed and needs a restart; the old value stays"
        );
    }
    tracing::info!(target: "security", event = "config_reloaded", "the configuration was reloaded");
    Ok(())
}

fn needs_restart(key: &str) -> ConfigError {
    ConfigError::new(key, "it cannot change while the hub runs; restart it")
}

pub(crate) fn warn(warnings: &[ConfigProblem]) {
    for warning in warnings {
        tracing::warn!("{}", line(&format!("{}: {}", warning.key, warning.message)));
    }
}

/// A problem as a line of a log, where what follows `key:` would be taken for a secret.
pub(crate) fn line(problem: &str) -> String {
    problem.replace(": ", " - ")
}

/// One line for each problem.
fn refuse(event: &'static str, problems: &str) {
    for problem in problems.lines() {
        tracing::error!("{}", line(problem));
    }
    tracing::error!(target: "security", event, "the change was refused, the old one stays");
}

type Setting = (&'static str, fn(&Config) -> String);

/// What a reload does not change.
const AT_START: [Setting; 12] = [
    ("hub.host", |c| format!("{:?}", c.hub.host)),
    ("hub.port", |c| c.hub.port.to_string()),
    ("hub.ailink_port", |c| format!("{:?}", c.hub.ailink_port)),
    ("hub.ailink_host", |c| c.hub.ailink_host.clone()),
    ("hub.listener", |c| format!("{:?}", c.hub.listener)),
    ("hub.preStopDelay", |c| c.hub.pre_stop_delay.to_string()),
    ("hub.shutdownTimeout", |c| {
        c.hub.shutdown_timeout.to_string()
    }),
    ("hub.security.rateLimit.store", |c| {
        let limit = c.hub.security.rate_limit.as_ref();
        format!("{:?}", limit.map_or(StoreKind::Memory, |limit| limit.store))
    }),
    ("auth.session.store", |c| {
        format!("{:?}", c.auth.session.store)
    }),
    ("auth.session.redis_client", |c| {
        // The URLs hold passwords and are not in the text form; a digest tells them apart.
        let redis = c.auth.session.redis_client.as_ref();
        let mut urls = DefaultHasher::new();
        for url in redis.iter().flat_map(|redis| redis.url.as_slice()) {
            url.expose_secret().hash(&mut urls);
        }
        format!("{redis:?} {:x}", urls.finish())
    }),
    ("logging", |c| format!("{:?}", c.logging)),
    ("metrics", |c| format!("{:?}", c.metrics)),
];

/// The keys in which the two differ, and that a reload leaves as they were.
fn changed<'a>(old: &'a Config, new: &'a Config) -> impl Iterator<Item = &'static str> + 'a {
    AT_START
        .into_iter()
        .filter(|(_, value)| value(old) != value(new))
        .map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_told_apart_by_secrets_too() {
        let config = |redis: &str, limit: &str| {
            let text = format!(
                "hub: {{security: {{{limit}}}}}\nauth:\n  enabled: true\n  type: token\n  \
                 tokens: [0123456789abcdef0123456789abcdef]\n  session:\n    store: redis\n    \
                 redis_client: {{url: '{redis}'}}\n    cookie: {{secret: 0123456789abcdef0123456789abcdef}}\n"
            );
            Loader::from_text("hub.yaml", text).load().unwrap().config
        };
        let old = config("redis://:one@localhost", "");
        let keys = |new: &Config| changed(&old, new).collect::<Vec<_>>();
        assert_eq!(keys(&config("redis://:one@localhost", "")), [""; 0]);
        let rotated = config("redis://:two@localhost", "");
        assert_eq!(keys(&rotated), ["auth.session.redis_client"]);
        let limited = config("redis://:one@localhost", "rateLimit: {max: 5}");
        assert_eq!(keys(&limited), [""; 0]);
        let shared = config("redis://:one@localhost", "rateLimit: {store: redis}");
        assert_eq!(keys(&shared), ["hub.security.rateLimit.store"]);
    }
}
