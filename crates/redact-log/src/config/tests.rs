use super::*;

#[test]
fn sizes_and_retentions() {
    for (text, bytes) in [
        ("500k", Some(500 << 10)),
        ("10m", Some(10 << 20)),
        ("1G", Some(1 << 30)),
        ("10", None),
        ("10mb", None),
        ("m", None),
        ("-1m", None),
        ("1.5m", None),
        ("99999999999999999999g", None),
        ("\u{e9}", None),
    ] {
        assert_eq!(FileSize::parse(text).map(FileSize::bytes), bytes, "{text}");
    }
    assert_eq!(Retention::parse("365d"), Some(Retention::Days(365)));
    for text in ["", "d", "14", "14 d", "-1d", "2w"] {
        assert_eq!(Retention::parse(text), None, "{text}");
    }
}

#[test]
fn dangerous_settings_are_named() {
    let mut config = LoggingConfig::default();
    assert_eq!(config.warnings(), []);
    config.log_trace = true;
    config.file_rotation = false;
    config.max_files = Some(Retention::Days(3));
    config.types.ai_link.log_prompt = true;
    config.types.proxy.log_response = true;
    config.types.security.enabled = false;
    config.types.tools.console = false;
    let keys: Vec<_> = config
        .warnings()
        .into_iter()
        .map(|problem| problem.key)
        .collect();
    assert_eq!(
        keys,
        [
            "logTrace",
            "maxFiles",
            "types.aiLink.logPrompt",
            "types.proxy.logResponse",
            "types.tools",
            "types.security.enabled"
        ]
    );
}

#[cfg(feature = "config")]
mod reading {
    use super::*;

    fn read(json: &str) -> Result<LoggingConfig, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_is_read() {
        let config = read(
            r#"{"format":"text","text_format":"${message}","defaultLogLevel":"verbose","logDirectory":"/var/log/x",
            "filePrefix":"p","fileRotation":"daily","maxFileSize":"1g","maxFiles":"365d","sensitiveData":["apiKey","api_key"],
            "logTrace":true,"types":{"access":{"enabled":true,"file":true},"error":{"console":false},
            "aiLink":{"level":"silly","logPrompt":true,"logResponse":true},"proxy":{},"youtube":{},"tools":{},"security":{}}}"#,
        )
        .unwrap();
        assert_eq!(config.format, LogFormat::Text);
        assert_eq!(config.text_format, "${message}");
        assert_eq!(config.default_log_level, Level::Verbose);
        assert_eq!(config.max_file_size, Some(FileSize::from_bytes(1 << 30)));
        assert_eq!(config.max_files, Some(Retention::Days(365)));
        assert_eq!(config.types.ai_link.level, Some(Level::Silly));
        assert!(config.types.access.file && config.types.access.console);
        assert!(!config.types.error.console);
        assert!(config.file_rotation && config.log_trace);
        assert_eq!(read("{}").unwrap(), LoggingConfig::default());
        let numbers = read(r#"{"maxFileSize":4096,"maxFiles":7}"#).unwrap();
        assert_eq!(numbers.max_file_size, Some(FileSize::from_bytes(4096)));
        assert_eq!(numbers.max_files, Some(Retention::Count(7)));
    }

    #[test]
    fn misreadings_are_refused() {
        for (json, expected) in [
            (r#"{"level":"info"}"#, "unknown field `level`"),
            (r#"{"types":{"acess":{}}}"#, "unknown field `acess`"),
            (
                r#"{"types":{"access":{"path":"x"}}}"#,
                "unknown field `path`",
            ),
            (r#"{"types":null}"#, "null"),
            (r#"{"types":{"access":null}}"#, "null"),
            (r#"{"types":{"access":{"level":null}}}"#, "expected a level"),
            (r#"{"maxFiles":null}"#, "expected a number of days"),
            (r#"{"maxFiles":"14"}"#, "a number of files without quotes"),
            (r#"{"maxFileSize":"10mb"}"#, "a size such as 500k"),
            (r#"{"maxFileSize":-1}"#, "a size such as 500k"),
            (r#"{"defaultLogLevel":"warning"}"#, "error, warn, info"),
            (r#"{"fileRotation":"hourly"}"#, "true, false or daily"),
            (r#"{"format":"xml"}"#, "json or text"),
            (r#"{"logTrace":"true"}"#, "a boolean"),
            (r#"{"sensitiveData":"key"}"#, "a sequence"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
