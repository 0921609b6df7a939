use http::HeaderValue;

/// The options of X-DNS-Prefetch-Control.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct DnsPrefetchConfig {
    /// `allow`: whether browsers may look up names before a link is followed. Default `false`.
    #[cfg_attr(
        feature = "config",
        serde(deserialize_with = "crate::read::optional_boolean")
    )]
    pub allow: Option<bool>,
}

/// X-DNS-Prefetch-Control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DnsPrefetchControl {
    Off,
    On,
}

impl DnsPrefetchControl {
    pub(crate) fn build(config: &DnsPrefetchConfig) -> Self {
        if config.allow == Some(true) {
            Self::On
        } else {
            Self::Off
        }
    }

    pub(crate) const fn value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Off => "off",
            Self::On => "on",
        })
    }
}
