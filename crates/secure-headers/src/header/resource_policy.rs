use super::Keyword;

/// Cross-Origin-Resource-Policy: which pages may load this answer without CORS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResourcePolicy {
    CrossOrigin,
    SameOrigin,
    SameSite,
}

impl Keyword for ResourcePolicy {
    const HEADER: &'static str = "Cross-Origin-Resource-Policy";
    const OPTION: &'static str = "policy";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("same-origin", Self::SameOrigin),
        ("same-site", Self::SameSite),
        ("cross-origin", Self::CrossOrigin),
    ];
    const DEFAULT: Self = Self::SameOrigin;
}
