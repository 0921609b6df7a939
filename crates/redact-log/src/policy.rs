use std::path::{Path, PathBuf};
use std::sync::Arc;

use proactions_edge::ConfigError;

use crate::config::{FileSize, LogFormat, LoggingConfig, Retention};
use crate::line::LineFormat;
use crate::sink::FilePolicy;
use crate::{Level, Redactor};

/// What is logged, how and where: checked and ready to run.
#[derive(Clone, Debug)]
pub struct LoggingPolicy(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    redactor: Redactor,
    format: LineFormat,
    traces: bool,
    prompts: bool,
    responses: bool,
    routes: [Route; Category::COUNT],
    files: FilePolicy,
}

/// Where the events of one category go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// The least grave level that is written; none if nothing is.
    pub(crate) level: Option<Level>,
    pub(crate) console: bool,
    pub(crate) file: bool,
}

/// The kinds of events that are switched one by one, and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Category {
    Access,
    Error,
    AiLink,
    Proxy,
    Youtube,
    Tools,
    Security,
    /// Whatever is below a warning and has no type of its own.
    General,
}

impl Category {
    pub(crate) const COUNT: usize = 8;

    const ALL: [Self; Self::COUNT] = [
        Self::Access,
        Self::Error,
        Self::AiLink,
        Self::Proxy,
        Self::Youtube,
        Self::Tools,
        Self::Security,
        Self::General,
    ];

    /// The key in the configuration and the type in a file's name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Error => "error",
            Self::AiLink => "aiLink",
            Self::Proxy => "proxy",
            Self::Youtube => "youtube",
            Self::Tools => "tools",
            Self::Security => "security",
            Self::General => "general",
        }
    }

    /// The category that an event names by its target.
    pub(crate) fn of_target(target: &str) -> Option<Self> {
        match target {
            "security" => Some(Self::Security),
            "aiLink" => Some(Self::AiLink),
            "proxy" => Some(Self::Proxy),
            "youtube" => Some(Self::Youtube),
            "tools" => Some(Self::Tools),
            "access" => Some(Self::Access),
            _ => None,
        }
    }
}

impl LoggingPolicy {
    /// The redactor with the configured names.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.0.redactor
    }

    /// Whether prompts may be written: `types.aiLink.logPrompt`.
    #[must_use]
    pub fn prompt_logged(&self) -> bool {
        self.0.prompts && self.ai_link_logged()
    }

    /// Whether answers of models may be written: `types.aiLink.logResponse`.
    #[must_use]
    pub fn response_logged(&self) -> bool {
        self.0.responses && self.ai_link_logged()
    }

    /// Whether anything is written about calls of models: `types.aiLink.enabled`.
    #[must_use]
    pub fn ai_link_logged(&self) -> bool {
        self.route(Category::AiLink).level.is_some()
    }

    /// Whether stack traces are written: `logTrace`.
    #[must_use]
    pub fn trace_logged(&self) -> bool {
        self.0.traces
    }

    /// The least grave level that any type of event is written at.
    #[must_use]
    pub fn most_verbose_level(&self) -> Level {
        self.0
            .routes
            .iter()
            .filter_map(|route| route.level)
            .max()
            .unwrap_or(Level::Error)
    }

    pub(crate) fn format(&self) -> &LineFormat {
        &self.0.format
    }

    pub(crate) fn route(&self, category: Category) -> Route {
        let none = Route {
            level: None,
            console: false,
            file: false,
        };
        *self.0.routes.get(category as usize).unwrap_or(&none)
    }

    pub(crate) fn files(&self) -> &FilePolicy {
        &self.0.files
    }

    /// The categories that are written to files.
    pub(crate) fn filed(&self) -> impl Iterator<Item = Category> {
        Category::ALL
            .into_iter()
            .filter(|category| self.route(*category).file)
    }
}

impl TryFrom<LoggingConfig> for LoggingPolicy {
    type Error = ConfigError;

    fn try_from(config: LoggingConfig) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        let format = match config.format {
            LogFormat::Json => LineFormat::Json,
            LogFormat::Text => LineFormat::text(&config.text_format).unwrap_or_else(|problem| {
                found.push(ConfigError::new("text_format", problem));
                LineFormat::Json
            }),
        };
        for (index, name) in config.sensitive_data.iter().enumerate() {
            if !name.chars().any(char::is_alphanumeric) {
                found.push(ConfigError::new(
                    format!("sensitiveData[{index}]"),
                    "a name with at least one letter or digit was expected",
                ));
            }
        }
        if config.log_directory.trim().is_empty() || config.log_directory.contains('\0') {
            found.push(ConfigError::new(
                "logDirectory",
                "the path of a directory was expected",
            ));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if config.file_prefix.is_empty()
            || config.file_prefix.starts_with('.')
            || !config.file_prefix.chars().all(is_plain)
        {
            found.push(ConfigError::new(
                "filePrefix",
                "the beginning of a file name was expected: letters, digits, -, _ and ., not . first",
            ));
        }
        let max_size = config.max_file_size.unwrap_or(DEFAULT_MAX_FILE_SIZE);
        if max_size < MIN_FILE_SIZE {
            found.push(ConfigError::new(
                "maxFileSize",
                format!("at least {} bytes were expected", MIN_FILE_SIZE.bytes()),
            ));
        }
        let retention = config.max_files.unwrap_or(DEFAULT_MAX_FILES);
        if matches!(retention, Retention::Count(0) | Retention::Days(0)) {
            found.push(ConfigError::new(
                "maxFiles",
                "at least 1 file or 1d was expected",
            ));
        }

        let default_level = config.default_log_level;
        let mut routes = [Route {
            level: Some(default_level),
            console: true,
            file: false,
        }; Category::COUNT];
        // The configuration lists the types in the order of the categories.
        for (route, (_, of_type)) in routes.iter_mut().zip(config.types.iter()) {
            *route = Route {
                level: of_type
                    .enabled
                    .then(|| of_type.level.unwrap_or(default_level)),
                console: of_type.enabled && of_type.console,
                file: of_type.enabled && of_type.file,
            };
        }
        let inner = Inner {
            redactor: Redactor::new(config.sensitive_data.iter().map(String::as_str)),
            format,
            traces: config.log_trace,
            prompts: config.types.ai_link.log_prompt,
            responses: config.types.ai_link.log_response,
            routes,
            files: FilePolicy {
                directory: PathBuf::from(config.log_directory),
                prefix: config.file_prefix,
                rotation: config.file_rotation,
                max_size: max_size.bytes(),
                retention,
            },
        };
        ConfigError::check(Self(Arc::new(inner)), found)
    }
}

impl LoggingPolicy {
    /// The directory of the log files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0.files.directory
    }
}

const DEFAULT_MAX_FILE_SIZE: FileSize = FileSize::from_bytes(10 << 20);
const DEFAULT_MAX_FILES: Retention = Retention::Days(14);
const MIN_FILE_SIZE: FileSize = FileSize::from_bytes(1024);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported() {
        let config = LoggingConfig {
            format: LogFormat::Text,
            text_format: "${message".to_owned(),
            sensitive_data: vec!["key".to_owned(), " - ".to_owned()],
            log_directory: " ".to_owned(),
            file_prefix: "../x".to_owned(),
            max_file_size: Some(FileSize::from_bytes(10)),
            max_files: Some(Retention::Days(0)),
            ..LoggingConfig::default()
        };
        let error = LoggingPolicy::try_from(config).unwrap_err();
        let keys: Vec<_> = error
            .problems()
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        assert_eq!(
            keys,
            [
                "text_format",
                "sensitiveData[1]",
                "logDirectory",
                "filePrefix",
                "maxFileSize",
                "maxFiles"
            ]
        );
    }

    #[test]
    fn configured_names_are_added_to_the_built_in_ones() {
        let config = LoggingConfig {
            sensitive_data: vec!["apiKey".to_owned(), "iban".to_owned()],
            ..LoggingConfig::default()
        };
        let policy = LoggingPolicy::try_from(config).unwrap();
        for name in ["iban", "apiKey", "password", "cookie"] {
            assert!(policy.redactor().is_sensitive(name), "{name}");
        }
    }

    #[test]
    fn types_are_switched_one_by_one() {
        let mut config = LoggingConfig::default();
        config.types.security.level = Some(Level::Verbose);
        config.types.security.file = true;
        config.types.tools.enabled = false;
        config.types.tools.file = true;
        config.types.ai_link.log_prompt = true;
        let policy = LoggingPolicy::try_from(config).unwrap();
        assert_eq!(policy.route(Category::Security).level, Some(Level::Verbose));
        assert_eq!(policy.route(Category::Access).level, Some(Level::Info));
        assert_eq!(policy.route(Category::Tools).level, None);
        assert_eq!(policy.filed().collect::<Vec<_>>(), [Category::Security]);
        assert_eq!(policy.most_verbose_level(), Level::Verbose);
        assert!(policy.ai_link_logged() && policy.prompt_logged() && !policy.response_logged());
    }

    #[test]
    fn what_is_off_logs_no_prompts_and_no_answers() {
        let mut config = LoggingConfig::default();
        config.types.ai_link.enabled = false;
        config.types.ai_link.log_prompt = true;
        config.types.ai_link.log_response = true;
        let policy = LoggingPolicy::try_from(config).unwrap();
        assert!(!policy.ai_link_logged() && !policy.prompt_logged() && !policy.response_logged());
    }

    #[test]
    fn categories_stand_in_the_order_of_the_configuration() {
        let config = LoggingConfig::default();
        for ((name, _), category) in config.types.iter().zip(Category::ALL) {
            assert_eq!(name, category.as_str());
        }
    }
}
