use proactions_edge::ConfigProblem;

use crate::Setting;
use crate::header::csp::ContentSecurityPolicy;
use crate::header::hsts::StrictTransportSecurity;
use crate::header::{
    CacheControlConfig, CrossDomainConfig, CrossOriginConfig, CspConfig, DnsPrefetchConfig,
    FrameguardConfig, HstsConfig, PermissionsPolicyConfig, ReferrerPolicyConfig,
    ReportingEndpointsConfig, kebab, shown,
};
use crate::preset::{Defaults, Preset};

/// The setting `helmet` as it stands in a file. [`SecureHeadersPolicy`](crate::SecureHeadersPolicy) is made of it.
///
/// With the feature `config` it is read from `true`, `false` or a map. The default is `true`: helmet's headers
/// with helmet's values.
///
/// Each field is one key of the map. Where two names are given for a key, the second is helmet's newer one; both
/// at once are an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecureHeadersConfig {
    /// `enabled`: whether the map counts. Default `true`.
    pub enabled: bool,
    /// `preset`: other defaults than helmet's.
    pub preset: Option<Preset>,
    /// `contentSecurityPolicy`.
    pub content_security_policy: Setting<CspConfig>,
    /// `crossOriginEmbedderPolicy`: off unless it is asked for, by key or by preset.
    pub cross_origin_embedder_policy: Setting<CrossOriginConfig>,
    /// `crossOriginOpenerPolicy`.
    pub cross_origin_opener_policy: Setting<CrossOriginConfig>,
    /// `crossOriginResourcePolicy`.
    pub cross_origin_resource_policy: Setting<CrossOriginConfig>,
    /// `originAgentCluster`: `Origin-Agent-Cluster: ?1`. Default `true`.
    pub origin_agent_cluster: bool,
    /// `referrerPolicy`.
    pub referrer_policy: Setting<ReferrerPolicyConfig>,
    /// `hsts`, `strictTransportSecurity`.
    pub hsts: Setting<HstsConfig>,
    /// `noSniff`, `xContentTypeOptions`: `X-Content-Type-Options: nosniff`. Default `true`.
    pub no_sniff: bool,
    /// `dnsPrefetchControl`, `xDnsPrefetchControl`.
    pub dns_prefetch_control: Setting<DnsPrefetchConfig>,
    /// `ieNoOpen`, `xDownloadOptions`: `X-Download-Options: noopen`. Default `true`.
    pub ie_no_open: bool,
    /// `frameguard`, `xFrameOptions`.
    pub frameguard: Setting<FrameguardConfig>,
    /// `permittedCrossDomainPolicies`, `xPermittedCrossDomainPolicies`.
    pub permitted_cross_domain_policies: Setting<CrossDomainConfig>,
    /// `hidePoweredBy`, `xPoweredBy`: whether [`FINGERPRINTS`](crate::FINGERPRINTS) are removed. Default `true`.
    pub hide_powered_by: bool,
    /// `xssFilter`, `xXssProtection`: `X-XSS-Protection: 0`. Default `true`.
    pub xss_filter: bool,
    /// `permissionsPolicy`: off unless it is asked for, by key or by preset.
    pub permissions_policy: Setting<PermissionsPolicyConfig>,
    /// `reportingEndpoints`: off unless it is asked for.
    pub reporting_endpoints: Setting<ReportingEndpointsConfig>,
    /// `cacheControl`: off unless it is asked for, by key or by preset.
    pub cache_control: Setting<CacheControlConfig>,
    /// The keys that were read, so that errors name them as the file does.
    pub(crate) spelled: Vec<&'static str>,
}

impl Default for SecureHeadersConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            preset: None,
            content_security_policy: Setting::Unset,
            cross_origin_embedder_policy: Setting::Unset,
            cross_origin_opener_policy: Setting::Unset,
            cross_origin_resource_policy: Setting::Unset,
            origin_agent_cluster: true,
            referrer_policy: Setting::Unset,
            hsts: Setting::Unset,
            no_sniff: true,
            dns_prefetch_control: Setting::Unset,
            ie_no_open: true,
            frameguard: Setting::Unset,
            permitted_cross_domain_policies: Setting::Unset,
            hide_powered_by: true,
            xss_filter: true,
            permissions_policy: Setting::Unset,
            reporting_endpoints: Setting::Unset,
            cache_control: Setting::Unset,
            spelled: Vec::new(),
        }
    }
}

/// helmet's older name of a key, and its newer one.
pub(crate) const ALIASES: [(&str, &str); 8] = [
    ("hsts", "strictTransportSecurity"),
    ("noSniff", "xContentTypeOptions"),
    ("dnsPrefetchControl", "xDnsPrefetchControl"),
    ("ieNoOpen", "xDownloadOptions"),
    ("frameguard", "xFrameOptions"),
    (
        "permittedCrossDomainPolicies",
        "xPermittedCrossDomainPolicies",
    ),
    ("hidePoweredBy", "xPoweredBy"),
    ("xssFilter", "xXssProtection"),
];

impl SecureHeadersConfig {
    /// The key under which the file has what `name` stands for.
    pub(crate) fn key(&self, name: &'static str) -> &'static str {
        ALIASES
            .iter()
            .find(|(older, newer)| *older == name && self.spelled.contains(newer))
            .map_or(name, |(_, newer)| newer)
    }

    /// The defaults that hold, helmet's or those of the preset.
    pub(crate) const fn defaults(&self) -> &'static Defaults {
        Defaults::of(self.preset)
    }

    /// What is legal here and still worth a line in the log at start.
    #[must_use]
    pub fn warnings(&self) -> Vec<ConfigProblem> {
        if !self.enabled {
            return vec![ConfigProblem::new(
                "",
                "security headers are switched off; answers carry only what the inner service sends",
            )];
        }
        let mut found = Vec::new();
        let csp = self.warn_of_csp(&mut found);
        let mut warn = |key: &str, message: &str| found.push(ConfigProblem::new(key, message));
        let framing = csp
            .as_ref()
            .is_some_and(|csp| csp.sources("frame-ancestors").is_some());
        if self.frameguard.is_off() && !framing {
            warn(
                self.key("frameguard"),
                "switched off, and no frameAncestors in contentSecurityPolicy stands in for it: any site may show \
                 the answers in a frame",
            );
        }
        if !self.no_sniff {
            warn(
                self.key("noSniff"),
                "switched off: browsers may take an answer for another type than it says, and run it",
            );
        }
        if let Setting::With(options) = &self.referrer_policy
            && options
                .policy
                .as_ref()
                .is_some_and(|policy| policy.last().is_some_and(|last| last == "unsafe-url"))
        {
            warn(
                "referrerPolicy.policy",
                "`unsafe-url` tells path and query of every page to every other site",
            );
        }
        self.warn_of_hsts(&mut found);
        found
    }

    fn warn_of_hsts(&self, found: &mut Vec<ConfigProblem>) {
        let Setting::With(options) = &self.hsts else {
            return;
        };
        let hsts = StrictTransportSecurity::build(options, self.defaults().hsts_max_age);
        let key = self.key("hsts");
        if hsts.max_age == 0 {
            found.push(ConfigProblem::new(
                format!("{key}.maxAge"),
                "0 makes browsers forget that this host wants HTTPS",
            ));
        } else if hsts.max_age < StrictTransportSecurity::YEAR {
            found.push(ConfigProblem::new(
                format!("{key}.maxAge"),
                format!(
                    "{} seconds are less than a year ({}), which is the least that is recommended",
                    hsts.max_age,
                    StrictTransportSecurity::YEAR
                ),
            ));
        }
        if hsts.preload
            && (hsts.max_age < StrictTransportSecurity::YEAR || !hsts.include_sub_domains)
        {
            found.push(ConfigProblem::new(
                format!("{key}.preload"),
                "the preload list takes only hosts with includeSubDomains and a maxAge of a year or more",
            ));
        }
    }

    /// The policy itself, if it is on and good.
    fn warn_of_csp(&self, found: &mut Vec<ConfigProblem>) -> Option<ContentSecurityPolicy> {
        const KEY: &str = "contentSecurityPolicy";
        let Some(options) = self.content_security_policy.options(true) else {
            found.push(ConfigProblem::new(
                KEY,
                "switched off: nothing keeps injected scripts from running in a page of this origin; a service \
                 without pages is best off with `preset: api`",
            ));
            return None;
        };
        let csp = ContentSecurityPolicy::build(&options, self.defaults().directives).ok()?;
        let mut warn = |directive: &str, message: String| {
            let given = options
                .directives
                .items
                .iter()
                .find(|(given, _)| kebab(given) == directive);
            let key = given.map_or_else(
                || KEY.to_owned(),
                |(given, _)| format!("{KEY}.directives.{given}"),
            );
            found.push(ConfigProblem::new(key, message));
        };
        for (directive, sources) in csp.directives() {
            if !KNOWN_DIRECTIVES.contains(&directive) {
                warn(
                    directive,
                    format!("browsers know no directive {}", shown(directive)),
                );
            }
            if sources.len() > 1 && sources.iter().any(|source| source == "'none'") {
                warn(
                    directive,
                    "'none' counts only where it stands alone; the other sources are allowed"
                        .to_owned(),
                );
            }
            if sources.iter().any(|source| source.starts_with("'nonce-")) {
                warn(
                    directive,
                    "a nonce that is the same on every answer protects nothing; it has to be new on each".to_owned(),
                );
            }
            let runs_scripts = match directive {
                "script-src" | "script-src-elem" => true,
                "default-src" => csp.sources("script-src").is_none(),
                _ => false,
            };
            if runs_scripts {
                for danger in dangers(sources) {
                    warn(directive, danger);
                }
            }
        }
        if let Some(group) = csp.sources("report-to").and_then(<[String]>::first)
            && !self.has_endpoint(group)
        {
            warn(
                "report-to",
                format!(
                    "no endpoint {} stands in reportingEndpoints, so no report is sent",
                    shown(group)
                ),
            );
        }
        if options.report_only {
            found.push(ConfigProblem::new(
                format!("{KEY}.reportOnly"),
                "browsers report what breaks the policy and stop nothing",
            ));
            return None;
        }
        Some(csp)
    }

    fn has_endpoint(&self, name: &str) -> bool {
        matches!(&self.reporting_endpoints, Setting::With(config)
            if config.endpoints.iter().any(|(known, _)| known == name))
    }
}

/// What makes a list of script sources let injected scripts in.
fn dangers(sources: &[String]) -> Vec<String> {
    let has = |wanted: &str| {
        sources
            .iter()
            .any(|source| source.eq_ignore_ascii_case(wanted))
    };
    let guarded = has("'strict-dynamic'")
        || sources
            .iter()
            .any(|source| source.starts_with("'nonce-") || source.starts_with("'sha"));
    let mut dangers = Vec::new();
    if has("'unsafe-inline'") && !guarded {
        dangers.push(
            "'unsafe-inline' lets injected scripts run, which is what this header is for"
                .to_owned(),
        );
    }
    if has("'unsafe-eval'") {
        dangers.push("'unsafe-eval' lets scripts turn text into code".to_owned());
    }
    for wide in ["*", "data:", "http:", "https:"] {
        if has(wide) && !has("'strict-dynamic'") {
            dangers.push(format!("{wide} lets scripts in from anywhere"));
        }
    }
    dangers
}

const KNOWN_DIRECTIVES: [&str; 31] = [
    "base-uri",
    "block-all-mixed-content",
    "child-src",
    "connect-src",
    "default-src",
    "fenced-frame-src",
    "font-src",
    "form-action",
    "frame-ancestors",
    "frame-src",
    "img-src",
    "manifest-src",
    "media-src",
    "object-src",
    "plugin-types",
    "prefetch-src",
    "report-to",
    "report-uri",
    "require-sri-for",
    "require-trusted-types-for",
    "sandbox",
    "script-src",
    "script-src-attr",
    "script-src-elem",
    "style-src",
    "style-src-attr",
    "style-src-elem",
    "trusted-types",
    "upgrade-insecure-requests",
    "webrtc",
    "worker-src",
];

#[cfg(feature = "config")]
mod read;
#[cfg(feature = "config")]
#[cfg(test)]
mod tests;
