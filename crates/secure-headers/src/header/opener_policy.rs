use super::Keyword;

/// Cross-Origin-Opener-Policy: which pages share a browsing context group with this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenerPolicy {
    NoopenerAllowPopups,
    SameOrigin,
    SameOriginAllowPopups,
    UnsafeNone,
}

impl Keyword for OpenerPolicy {
    const HEADER: &'static str = "Cross-Origin-Opener-Policy";
    const OPTION: &'static str = "policy";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("same-origin", Self::SameOrigin),
        ("same-origin-allow-popups", Self::SameOriginAllowPopups),
        ("noopener-allow-popups", Self::NoopenerAllowPopups),
        ("unsafe-none", Self::UnsafeNone),
    ];
    const DEFAULT: Self = Self::SameOrigin;
}
