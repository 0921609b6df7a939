//! The section `logging` as it stands in a file.

use proactions_edge::ConfigProblem;

use crate::Level;

#[cfg(feature = "config")]
mod read;

/// Section `logging`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, rename_all = "camelCase")
)]
#[non_exhaustive]
pub struct LoggingConfig {
    /// One JSON object a line (default), or text after [`Self::text_format`].
    pub format: LogFormat,
    /// The line of [`LogFormat::Text`]: `${name}` stands for `timestamp`, `level`, `module`, `message` or any
    /// field of the event, `-` if it has none. Default: `${timestamp} [${level}] [${module}]: ${message}`.
    #[cfg_attr(feature = "config", serde(rename = "text_format"))]
    pub text_format: String,
    /// The least grave level that is written, where a type says nothing else. Default: `info`.
    pub default_log_level: Level,
    /// The directory of the files. Default: `logs`.
    pub log_directory: String,
    /// What the names of the files begin with. Default: `proactions-hub`.
    pub file_prefix: String,
    /// Whether files are cut by day and size, compressed and deleted. Default: `true`; `daily` means the same.
    /// With `false` a type has one file, `{prefix}-{type}.log`, that is only added to.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::rotation"))]
    pub file_rotation: bool,
    /// The size at which a file is cut. Default: `10m`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::present"))]
    pub max_file_size: Option<FileSize>,
    /// How long or how many files of a type are kept. Default: `14d`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::present"))]
    pub max_files: Option<Retention>,
    /// Names whose values are filtered, added to the built-in ones; see [`crate::Redactor::new`] for how they
    /// are compared.
    pub sensitive_data: Vec<String>,
    /// Whether stack traces are written. Default: `false`.
    pub log_trace: bool,
    /// What is written of each type of event, and where.
    pub types: TypesConfig,
}

impl Default for LoggingConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            text_format: Self::DEFAULT_TEXT_FORMAT.to_owned(),
            default_log_level: Level::Info,
            log_directory: "logs".to_owned(),
            file_prefix: "proactions-hub".to_owned(),
            file_rotation: true,
            max_file_size: None,
            max_files: None,
            sensitive_data: Vec::new(),
            log_trace: false,
            types: TypesConfig::default(),
        }
    }
}

impl LoggingConfig {
    /// The line of [`LogFormat::Text`] unless the configuration has another.
    pub const DEFAULT_TEXT_FORMAT: &str = "${timestamp} [${level}] [${module}]: ${message}";

    /// Settings that are allowed and that an operator should know about.
    #[must_use]
    pub fn warnings(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        let mut warn = |key: String, message: &str| found.push(ConfigProblem::new(key, message));
        if self.log_trace {
            warn(
                "logTrace".to_owned(),
                "stack traces show the inside of the process; switch them off in production",
            );
        }
        if !self.file_rotation {
            for (key, is_set) in [
                ("maxFileSize", self.max_file_size.is_some()),
                ("maxFiles", self.max_files.is_some()),
            ] {
                if is_set {
                    warn(key.to_owned(), "has no effect while fileRotation is false");
                }
            }
        }
        for (name, of_type) in self.types.iter() {
            let is_ai_link = name == "aiLink";
            for (key, is_set) in [
                ("logPrompt", of_type.log_prompt),
                ("logResponse", of_type.log_response),
            ] {
                if is_set {
                    warn(
                        format!("types.{name}.{key}"),
                        if is_ai_link {
                            "what users write and read is personal data and will stand in the log"
                        } else {
                            "has an effect under aiLink only"
                        },
                    );
                }
            }
            if !of_type.enabled && matches!(name, "access" | "error" | "security") {
                warn(
                    format!("types.{name}.enabled"),
                    "without these events there is no audit trail",
                );
            } else if of_type.enabled && !of_type.console && !of_type.file {
                warn(
                    format!("types.{name}"),
                    "neither console nor file is on: the events are written nowhere",
                );
            }
        }
        found
    }
}

/// Key `format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// `json`: one object a line.
    #[default]
    Json,
    /// `text`: a line after a template.
    Text,
}

/// Section `types`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, rename_all = "camelCase")
)]
#[non_exhaustive]
pub struct TypesConfig {
    /// One line an exchange.
    pub access: TypeConfig,
    /// Warnings and errors of everything that has no type of its own.
    pub error: TypeConfig,
    /// Calls of AI providers.
    pub ai_link: TypeConfig,
    /// Forwarded requests.
    pub proxy: TypeConfig,
    /// Uploads to YouTube.
    pub youtube: TypeConfig,
    /// Tools.
    pub tools: TypeConfig,
    /// Failed logins, refused requests, changed keys.
    pub security: TypeConfig,
}

impl TypesConfig {
    /// Every type with its key.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &TypeConfig)> {
        [
            ("access", &self.access),
            ("error", &self.error),
            ("aiLink", &self.ai_link),
            ("proxy", &self.proxy),
            ("youtube", &self.youtube),
            ("tools", &self.tools),
            ("security", &self.security),
        ]
        .into_iter()
    }
}

/// What is written of one type of event, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, rename_all = "camelCase")
)]
#[non_exhaustive]
pub struct TypeConfig {
    /// Whether the events are written at all. Default: `true`.
    pub enabled: bool,
    /// Whether they go to standard output. Default: `true`.
    pub console: bool,
    /// Whether they go to a file. Default: `false`.
    pub file: bool,
    /// The least grave level that is written. Default: `defaultLogLevel`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::present"))]
    pub level: Option<Level>,
    /// Under `aiLink`: whether prompts are written. Default: `false`.
    pub log_prompt: bool,
    /// Under `aiLink`: whether answers are written. Default: `false`.
    pub log_response: bool,
}

impl Default for TypeConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            console: true,
            file: false,
            level: None,
            log_prompt: false,
            log_response: false,
        }
    }
}

/// A size in bytes: `500k`, `10m`, `1g` (powers of 1024) or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileSize(u64);

impl FileSize {
    /// This many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Reads `500k`, `10m` or `1g`, in either letter case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let unit = text.chars().last()?.to_ascii_lowercase();
        let factor = match unit {
            'k' => 1 << 10,
            'm' => 1 << 20,
            'g' => 1 << 30,
            _ => return None,
        };
        digits(text.get(..text.len() - 1)?)?
            .checked_mul(factor)
            .map(Self)
    }
}

/// How long or how many files are kept: `14d` or a number of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retention {
    /// The newest files of a type, the one that is being written included.
    Count(u32),
    /// The files of today and of this many days before.
    Days(u32),
}

impl Retention {
    /// Reads `14d`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let days = text.strip_suffix(['d', 'D'])?;
        u32::try_from(digits(days)?).ok().map(Self::Days)
    }
}

fn digits(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests;
