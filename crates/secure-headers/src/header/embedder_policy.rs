use super::Keyword;

/// Cross-Origin-Embedder-Policy: what a page may embed from other origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EmbedderPolicy {
    Credentialless,
    RequireCorp,
    UnsafeNone,
}

impl Keyword for EmbedderPolicy {
    const HEADER: &'static str = "Cross-Origin-Embedder-Policy";
    const OPTION: &'static str = "policy";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("require-corp", Self::RequireCorp),
        ("credentialless", Self::Credentialless),
        ("unsafe-none", Self::UnsafeNone),
    ];
    const DEFAULT: Self = Self::RequireCorp;
}
