use std::sync::Arc;

use http::header::{
    CACHE_CONTROL, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_DNS_PREFETCH_CONTROL,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use proactions_edge::ConfigError;
use proactions_edge::headers::make_room;

use crate::config::{ALIASES, SecureHeadersConfig};
use crate::fingerprints;
use crate::header::cache_control::CacheControl;
use crate::header::csp::ContentSecurityPolicy;
use crate::header::fixed;
use crate::header::hsts::StrictTransportSecurity;
use crate::header::permissions_policy::PermissionsPolicy;
use crate::header::reporting_endpoints::ReportingEndpoints;
use crate::header::{
    CrossDomainPolicies, DnsPrefetchControl, EmbedderPolicy, Keyword, OpenerPolicy, ReferrerPolicy,
    ResourcePolicy, XFrameOptions,
};

/// The headers of every answer: ready to send, cheap to clone.
///
/// It is made of a [`SecureHeadersConfig`] and cannot contradict itself. See the [crate documentation](crate).
#[derive(Clone, Debug)]
pub struct SecureHeadersPolicy {
    rules: Option<Arc<Rules>>,
}

#[derive(Debug)]
struct Rules {
    /// Each name once.
    set: Box<[(HeaderName, HeaderValue)]>,
    /// For answers that bring none of their own.
    cache_control: Option<HeaderValue>,
    /// The other of `Content-Security-Policy` and its `-Report-Only`, if one of them is set: a page has the policy
    /// of this program, not that of an upstream beside it.
    displaced: Option<HeaderName>,
    hide_fingerprints: bool,
}

impl SecureHeadersPolicy {
    /// A policy that leaves answers as they are, so that the layer can always be in the stack.
    #[must_use]
    pub const fn off() -> Self {
        Self { rules: None }
    }

    /// Whether the policy does anything.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.rules.is_some()
    }

    /// The headers that stand on every answer, each once, in the order in which they are set. `Cache-Control` is
    /// not among them, because it depends on the answer.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.rules
            .iter()
            .flat_map(|rules| rules.set.iter().map(|(name, value)| (name, value)))
    }

    /// Makes the headers of an answer what the policy says.
    ///
    /// The layer calls this on every answer that passes it. A server calls it on answers that it gives before a
    /// request reaches the stack.
    pub fn apply(&self, headers: &mut HeaderMap) {
        let Some(rules) = self.rules.as_deref() else {
            return;
        };
        if rules.hide_fingerprints {
            fingerprints::strip(headers);
        }
        if !make_room(headers, rules.set.len() + 1) {
            // Tens of thousands of fields, which no client takes. Ours are the ones to keep.
            headers.clear();
        }
        if let Some(name) = &rules.displaced {
            headers.remove(name);
        }
        for (name, value) in &rules.set {
            headers.insert(name, value.clone());
        }
        if let Some(value) = &rules.cache_control
            && !headers.contains_key(CACHE_CONTROL)
        {
            headers.insert(CACHE_CONTROL, value.clone());
        }
    }
}

impl Default for SecureHeadersPolicy {
    /// helmet's headers with helmet's values.
    fn default() -> Self {
        Self::build(&SecureHeadersConfig::default()).0
    }
}

impl TryFrom<SecureHeadersConfig> for SecureHeadersPolicy {
    type Error = ConfigError;

    fn try_from(config: SecureHeadersConfig) -> Result<Self, ConfigError> {
        let (policy, found) = Self::build(&config);
        // What is switched off may be a draft, but each of its values has to be one.
        let policy = if config.enabled { policy } else { Self::off() };
        ConfigError::check(policy, found)
    }
}

impl SecureHeadersPolicy {
    fn build(config: &SecureHeadersConfig) -> (Self, Vec<ConfigError>) {
        let defaults = config.defaults();
        let mut draft = Draft::default();
        let mut displaced = None;

        for (older, newer) in ALIASES {
            if config.spelled.contains(&older) && config.spelled.contains(&newer) {
                draft.found.push(ConfigError::new(
                    newer,
                    format!(
                        "the option was specified twice, as `{newer}` and as `{older}`; remove `{older}` to fix this"
                    ),
                ));
            }
        }

        if let Some(options) = config.content_security_policy.options(true) {
            let value = ContentSecurityPolicy::build(&options, defaults.directives)
                .and_then(|policy| policy.value());
            let name = ContentSecurityPolicy::name(options.report_only);
            draft.add("contentSecurityPolicy", name, value);
            displaced = Some(ContentSecurityPolicy::name(!options.report_only));
        }
        let embedder = &config.cross_origin_embedder_policy;
        if let Some(options) = embedder.options(defaults.embedder_policy) {
            let value = EmbedderPolicy::build(options.policy.as_deref()).map(Keyword::value);
            draft.add(
                "crossOriginEmbedderPolicy",
                CROSS_ORIGIN_EMBEDDER_POLICY,
                value,
            );
        }
        if let Some(options) = config.cross_origin_opener_policy.options(true) {
            let value = OpenerPolicy::build(options.policy.as_deref()).map(Keyword::value);
            draft.add("crossOriginOpenerPolicy", CROSS_ORIGIN_OPENER_POLICY, value);
        }
        if let Some(options) = config.cross_origin_resource_policy.options(true) {
            let value = ResourcePolicy::build(options.policy.as_deref()).map(Keyword::value);
            draft.add(
                "crossOriginResourcePolicy",
                CROSS_ORIGIN_RESOURCE_POLICY,
                value,
            );
        }
        draft.add_fixed(config.origin_agent_cluster, fixed::ORIGIN_AGENT_CLUSTER);
        if let Some(options) = config.referrer_policy.options(true) {
            let value = ReferrerPolicy::build(&options).and_then(|policy| policy.value());
            draft.add("referrerPolicy", REFERRER_POLICY, value);
        }
        if let Some(options) = config.hsts.options(true) {
            let value = StrictTransportSecurity::build(&options, defaults.hsts_max_age).value();
            draft.add(config.key("hsts"), STRICT_TRANSPORT_SECURITY, value);
        }
        draft.add_fixed(config.no_sniff, fixed::NO_SNIFF);
        if let Some(options) = config.dns_prefetch_control.options(true) {
            let value = DnsPrefetchControl::build(&options).value();
            draft.set.push((X_DNS_PREFETCH_CONTROL, value));
        }
        draft.add_fixed(config.ie_no_open, fixed::IE_NO_OPEN);
        if let Some(options) = config.frameguard.options(true) {
            let value = XFrameOptions::build(&options, defaults.frame).map(XFrameOptions::value);
            draft.add(config.key("frameguard"), X_FRAME_OPTIONS, value);
        }
        if let Some(options) = config.permitted_cross_domain_policies.options(true) {
            let value = CrossDomainPolicies::build(options.permitted_policies.as_deref())
                .map(Keyword::value);
            let key = config.key("permittedCrossDomainPolicies");
            draft.add(key, X_PERMITTED_CROSS_DOMAIN_POLICIES, value);
        }
        draft.add_fixed(config.xss_filter, fixed::XSS_FILTER);
        let permissions = &config.permissions_policy;
        if let Some(options) = permissions.options(defaults.permissions_policy) {
            let value = PermissionsPolicy::build(&options).map(PermissionsPolicy::into_value);
            draft.add("permissionsPolicy", PermissionsPolicy::NAME, value);
        }
        if let Some(options) = config.reporting_endpoints.options(false) {
            let value = ReportingEndpoints::build(&options).map(ReportingEndpoints::into_value);
            draft.add("reportingEndpoints", ReportingEndpoints::NAME, value);
        }
        let cache_control = config
            .cache_control
            .options(defaults.cache_control)
            .and_then(|options| draft.keep("cacheControl", CacheControl::build(&options)));

        let rules = Rules {
            set: draft.set.into_boxed_slice(),
            cache_control: cache_control.map(CacheControl::into_value),
            displaced,
            hide_fingerprints: config.hide_powered_by,
        };
        let policy = Self {
            rules: Some(Arc::new(rules)),
        };
        (policy, draft.found)
    }
}

/// What has been built so far, and what could not be.
#[derive(Default)]
struct Draft {
    set: Vec<(HeaderName, HeaderValue)>,
    found: Vec<ConfigError>,
}

impl Draft {
    fn keep<T>(&mut self, key: &str, value: Result<T, ConfigError>) -> Option<T> {
        value
            .map_err(|error| self.found.push(error.within(key)))
            .ok()
    }

    fn add(&mut self, key: &str, name: HeaderName, value: Result<HeaderValue, ConfigError>) {
        if let Some(value) = self.keep(key, value) {
            self.set.push((name, value));
        }
    }

    fn add_fixed(&mut self, on: bool, field: fixed::Fixed) {
        if on {
            self.set.push(field);
        }
    }
}

const CROSS_ORIGIN_EMBEDDER_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-embedder-policy");
const CROSS_ORIGIN_OPENER_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-opener-policy");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");
const X_PERMITTED_CROSS_DOMAIN_POLICIES: HeaderName =
    HeaderName::from_static("x-permitted-cross-domain-policies");

#[cfg(test)]
mod tests;
