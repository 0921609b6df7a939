use super::Keyword;

/// The options of X-Permitted-Cross-Domain-Policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, rename_all = "camelCase")
)]
#[non_exhaustive]
pub struct CrossDomainConfig {
    /// `permittedPolicies`: `none` (the default), `master-only`, `by-content-type` or `all`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::read::text"))]
    pub permitted_policies: Option<String>,
}

/// X-Permitted-Cross-Domain-Policies: which policy files Adobe's clients may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CrossDomainPolicies {
    All,
    ByContentType,
    MasterOnly,
    None,
}

impl Keyword for CrossDomainPolicies {
    const HEADER: &'static str = "X-Permitted-Cross-Domain-Policies";
    const OPTION: &'static str = "permittedPolicies";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("none", Self::None),
        ("master-only", Self::MasterOnly),
        ("by-content-type", Self::ByContentType),
        ("all", Self::All),
    ];
    const DEFAULT: Self = Self::None;
}
