use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, Request, StatusCode};
use proactions_edge::headers::make_room;
use proactions_edge::{Clock, ConfigError, SystemClock};

use crate::addresses::AddressSet;
use crate::config::{KeyOf, OnStoreError, Problems, RateLimitConfig, StoreKind};
use crate::counters::{CounterOutage, CounterStore, MemoryCounters};
use crate::fixed_window::{Decision, Quota, Window};
use crate::headers::{HeaderStyle, Told};
use crate::key::{AddressKey, CounterKey};
use crate::limit::{self, Limit};
use crate::tally::{Counted, Hit, Tally};
use crate::target::TargetRoute;

/// Who may ask how often, ready to run.
///
/// It is cheap to clone, and its clones share their counters: give one to
/// [`RateLimitLayer::by_address`](crate::RateLimitLayer::by_address) and one to
/// [`RateLimitLayer::by_caller`](crate::RateLimitLayer::by_caller).
#[derive(Clone, Debug)]
pub struct RateLimitPolicy(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    /// The general limit first. Empty only when the policy is off; then nothing else counts.
    by_address: Box<[Limit]>,
    by_caller: Box<[Limit]>,
    allowed: AddressSet,
    denied: AddressSet,
    exempt: Box<[Box<str>]>,
    targets: Box<[TargetRoute]>,
    headers: HeaderStyle,
    message: Cow<'static, str>,
    status: StatusCode,
    skip_failed: bool,
    skip_successful: bool,
    ipv6_subnet: Option<u8>,
    counters: Arc<dyn CounterStore>,
    on_store_error: OnStoreError,
    local: Arc<MemoryCounters>,
    clock: Arc<dyn Clock>,
}

impl TryFrom<RateLimitConfig> for RateLimitPolicy {
    type Error = ConfigError;

    /// The policy that a configuration describes, with counters of its own in memory.
    ///
    /// # Errors
    /// Everything that cannot be used as it stands. `store: redis` is refused: counters that processes share
    /// are passed to [`RateLimitPolicy::with_counters`].
    fn try_from(config: RateLimitConfig) -> Result<Self, ConfigError> {
        let mut found = Problems::default();
        if config.enabled && config.store == StoreKind::Redis {
            found.add(
                "store",
                "counters in Redis are not made here; expected memory",
            );
        }
        let policy = found.take(Self::with_counters(config, Arc::new(MemoryCounters::new())));
        found.finish(policy)
    }
}

impl RateLimitPolicy {
    /// A policy that limits nobody, so that the layers can always stand in the stack.
    #[must_use]
    pub fn off() -> Self {
        let counters = Arc::new(MemoryCounters::new());
        Self(Arc::new(Inner {
            by_address: Box::default(),
            by_caller: Box::default(),
            allowed: AddressSet::default(),
            denied: AddressSet::default(),
            exempt: Box::default(),
            targets: Box::default(),
            headers: HeaderStyle::default(),
            message: Cow::Borrowed(""),
            status: StatusCode::TOO_MANY_REQUESTS,
            skip_failed: false,
            skip_successful: false,
            ipv6_subnet: None,
            counters: Arc::clone(&counters) as _,
            on_store_error: OnStoreError::Local,
            local: counters,
            clock: Arc::new(SystemClock::new()),
        }))
    }

    /// The policy that a configuration describes, on counters that are there already: those of the policy that
    /// it replaces, or those that several processes share. The configuration's `store` is not looked at.
    ///
    /// # Errors
    /// Everything that cannot be used as it stands.
    pub fn with_counters(
        config: RateLimitConfig,
        counters: Arc<dyn CounterStore>,
    ) -> Result<Self, ConfigError> {
        let mut found = Problems::default();
        let general = found.take(config.quota());
        let window = general.map_or(Duration::from_secs(60), Quota::window);
        let rules = found.take(limit::rules(&config, window));
        let allowed = found.take(AddressSet::parse("allowlist", &config.allowlist));
        let denied = found.take(AddressSet::parse("denylist", &config.denylist));
        let status = StatusCode::from_u16(config.status_code)
            .ok()
            .filter(|status| status.is_client_error() || status.is_server_error());
        if status.is_none() {
            found.add("statusCode", "expected a status from 400 to 599");
        }
        if config
            .ipv6_subnet
            .is_some_and(|bits| !(32..=64).contains(&bits))
        {
            found.add(
                "ipv6Subnet",
                "expected a number of bits from 32 to 64, or false",
            );
        }
        if config
            .identifier
            .as_deref()
            .is_some_and(|name| !is_name(name))
        {
            found.add(
                "identifier",
                "expected 1 to 64 printable ASCII characters without `\"` and `\\`",
            );
        }
        let parts = general.zip(rules).zip(allowed.zip(denied)).zip(status);
        let (((general, rules), (allowed, denied)), status) = found.finish(parts)?;
        if !config.enabled {
            return Ok(Self::off());
        }
        let general = Limit::general(general, config.identifier.as_deref());
        let (by_address, by_caller): (Vec<_>, Vec<_>) =
            rules.into_iter().partition(|rule| rule.by == KeyOf::Ip);
        Ok(Self(Arc::new(Inner {
            by_address: std::iter::once(general).chain(by_address).collect(),
            by_caller: by_caller.into(),
            allowed,
            denied,
            exempt: Box::default(),
            targets: Box::default(),
            headers: HeaderStyle {
                standard: config.standard_headers,
                legacy: config.legacy_headers,
                reset: config.reset_format,
            },
            message: Cow::Owned(config.message),
            status,
            skip_failed: config.skip_failed_requests,
            skip_successful: config.skip_successful_requests,
            ipv6_subnet: config.ipv6_subnet,
            counters,
            on_store_error: config.on_store_error,
            local: Arc::new(MemoryCounters::new()),
            clock: Arc::new(SystemClock::new()),
        })))
    }

    /// Never limits `GET` and `HEAD` of these exact paths, such as those of health checks. Other methods on
    /// them are limited, or guesses at credentials could be sent there.
    #[must_use]
    pub fn exempt<P: Into<Box<str>>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        Arc::make_mut(&mut self.0).exempt = paths.into_iter().map(Into::into).collect();
        self
    }

    /// Tells rules with `by: target` which targets there are. Without it, and on paths below none of these
    /// prefixes, such rules count users.
    #[must_use]
    pub fn with_targets(mut self, routes: impl IntoIterator<Item = TargetRoute>) -> Self {
        Arc::make_mut(&mut self.0).targets = routes.into_iter().collect();
        self
    }

    /// Counts in `counters` instead: those of the policy that this one replaces, or those that several processes
    /// share.
    #[must_use]
    pub fn counting_in(mut self, counters: Arc<dyn CounterStore>) -> Self {
        Arc::make_mut(&mut self.0).counters = counters;
        self
    }

    /// Reads the time from `clock` instead of the operating system.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        Arc::make_mut(&mut self.0).clock = clock;
        self
    }

    /// The counters, for the policy that replaces this one.
    #[must_use]
    pub fn counters(&self) -> Arc<dyn CounterStore> {
        Arc::clone(&self.0.counters)
    }

    /// Whether requests are refused while the counters are out of reach ([`OnStoreError::Closed`]).
    #[must_use]
    pub fn closes_on_store_error(&self) -> bool {
        self.0.on_store_error == OnStoreError::Closed
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.0.clock.now()
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.0.status
    }

    pub(crate) fn message(&self) -> Cow<'static, str> {
        self.0.message.clone()
    }

    pub(crate) fn headers(&self) -> HeaderStyle {
        self.0.headers
    }

    pub(crate) fn counter_store(&self) -> &dyn CounterStore {
        &*self.0.counters
    }

    pub(crate) fn denies(&self, ip: IpAddr) -> bool {
        !self.0.denied.is_empty() && self.0.denied.contains(ip)
    }

    /// Whether this request is not limited, whatever its client did before.
    pub(crate) fn passes_unlimited<B>(&self, request: &Request<B>, ip: Option<IpAddr>) -> bool {
        let allowed = &self.0.allowed;
        let probe = || {
            let path = request.uri().path();
            matches!(*request.method(), Method::GET | Method::HEAD)
                && self.0.exempt.iter().any(|exempt| **exempt == *path)
        };
        probe() || (!allowed.is_empty() && ip.is_some_and(|ip| allowed.contains(ip)))
    }

    pub(crate) fn limits(&self, place: Place) -> &[Limit] {
        match place {
            Place::Address => &self.0.by_address,
            Place::Caller => &self.0.by_caller,
        }
    }

    /// Whether answers can change what was counted.
    pub(crate) fn refunds(&self) -> bool {
        self.0.skip_failed || self.0.skip_successful
    }

    /// Whether more than the tightest limit must be remembered until the answer is there.
    fn keeps_every_count(&self) -> bool {
        self.refunds() || self.0.headers.shows_every_limit()
    }

    /// Takes the request back out of its counters if answers like this one are not to count.
    pub(crate) fn settle(&self, tally: &Tally, succeeded: bool) {
        let skip = if succeeded {
            self.0.skip_successful
        } else {
            self.0.skip_failed
        };
        if !skip {
            return;
        }
        let now = self.now();
        for Counted { hit, told, locally } in tally.all() {
            let store: &dyn CounterStore = if *locally {
                &*self.0.local
            } else {
                &*self.0.counters
            };
            store.refund(&hit.key, told.ends_at, now);
        }
    }

    /// The counter of `limit` that this request goes to.
    pub(crate) fn key<B>(
        &self,
        limit: &Limit,
        request: &Request<B>,
        ip: Option<IpAddr>,
    ) -> CounterKey {
        limit.key(
            request,
            ip.map(|ip| AddressKey::new(ip, self.0.ipv6_subnet)),
            &self.0.targets,
        )
    }

    /// Adds one limit's answer to the tally, counting it here where the store could not.
    pub(crate) fn tally(
        &self,
        tally: &mut Tally,
        limit: &Limit,
        hit: Hit,
        result: Result<Window, CounterOutage>,
        now: SystemTime,
    ) {
        let locally = result.is_err();
        let window = match (result, self.0.on_store_error) {
            (Ok(window), _) => window,
            (Err(_), OnStoreError::Local) => self.0.local.count(&hit.key, limit.quota, now),
            (Err(_), OnStoreError::Closed) => {
                tally.uncounted = true;
                return;
            }
            (Err(_), OnStoreError::Open) => return,
        };
        let told = Told {
            decision: Decision::of(window, limit.quota, now),
            ends_at: window.ends_at,
        };
        let counted = Counted { hit, told, locally };
        tally.add(counted, self.keeps_every_count());
    }

    /// Writes the fields of a tally. With `inner_wrote`, those of a layer further in are there already: the
    /// tighter limit of the two stays.
    pub(crate) fn write_headers(
        &self,
        headers: &mut HeaderMap,
        place: Place,
        tally: &Tally,
        inner_wrote: bool,
    ) {
        let style = self.0.headers;
        style.strip(headers, !inner_wrote);
        let Some(tightest) = tally.tightest.as_ref().filter(|_| !style.is_off()) else {
            return;
        };
        let limits = self.limits(place);
        let remaining = tightest.told.decision.remaining;
        let inner_is_tighter = inner_wrote
            && style
                .remaining_in(headers)
                .is_some_and(|inner| inner < remaining);
        if !make_room(headers, style.field_count()) {
            // A map that is full is not worth failing for.
            return;
        }
        if let Some(limit) = limits.get(tightest.hit.index).filter(|_| !inner_is_tighter) {
            style.set(headers, &limit.headers, &tightest.told);
        }
        if style.shows_every_limit() {
            for (nth, counted) in tally.all().enumerate() {
                if let Some(limit) = limits.get(counted.hit.index) {
                    let append = inner_wrote || nth > 0;
                    style.list(
                        headers,
                        &limit.headers,
                        &counted.told,
                        &counted.hit.key,
                        append,
                    );
                }
            }
        }
    }
}

/// Where in the stack a limit is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Outside: by address, before anybody is known.
    Address,
    /// Inside of the entry check: by user and by target.
    Caller,
}

/// Whether a name can stand in the quoted string of a structured field (RFC 9651) as it is.
fn is_name(name: &str) -> bool {
    let plain = |b: u8| (b == b' ' || b.is_ascii_graphic()) && !matches!(b, b'"' | b'\\');
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}
