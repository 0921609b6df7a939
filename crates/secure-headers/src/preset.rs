use crate::header::XFrameOptions;
use crate::header::csp::Directive;

/// Another set of defaults than helmet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Preset {
    /// For services that serve no pages: nothing may be loaded, framed or kept.
    Api,
}

/// What stands for a key that is absent or `true`, and for an option that a map leaves out.
#[derive(Debug)]
pub(crate) struct Defaults {
    pub(crate) directives: &'static [Directive],
    pub(crate) embedder_policy: bool,
    /// Seconds.
    pub(crate) hsts_max_age: u64,
    pub(crate) frame: XFrameOptions,
    pub(crate) permissions_policy: bool,
    pub(crate) cache_control: bool,
}

impl Defaults {
    pub(crate) const fn of(preset: Option<Preset>) -> &'static Self {
        match preset {
            None => &HELMET,
            Some(Preset::Api) => &API,
        }
    }
}

const HELMET: Defaults = Defaults {
    directives: &[
        ("default-src", &["'self'"]),
        ("base-uri", &["'self'"]),
        ("font-src", &["'self'", "https:", "data:"]),
        ("form-action", &["'self'"]),
        ("frame-ancestors", &["'self'"]),
        ("img-src", &["'self'", "data:"]),
        ("object-src", &["'none'"]),
        ("script-src", &["'self'"]),
        ("script-src-attr", &["'none'"]),
        ("style-src", &["'self'", "https:", "'unsafe-inline'"]),
        ("upgrade-insecure-requests", &[]),
    ],
    embedder_policy: false,
    hsts_max_age: 31_536_000,
    frame: XFrameOptions::SameOrigin,
    permissions_policy: false,
    cache_control: false,
};

const API: Defaults = Defaults {
    directives: &[
        ("default-src", &["'none'"]),
        ("base-uri", &["'none'"]),
        ("form-action", &["'none'"]),
        ("frame-ancestors", &["'none'"]),
        ("object-src", &["'none'"]),
    ],
    embedder_policy: true,
    hsts_max_age: 63_072_000,
    frame: XFrameOptions::Deny,
    permissions_policy: true,
    cache_control: true,
};
