use serde::Deserialize;

/// Section `validation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[non_exhaustive]
pub struct ValidationConfig {
    /// Turns unknown keys into warnings; types, ranges and security are checked all the same. False unless
    /// set.
    pub skip_schema_validation: bool,
}
