//! A corpus of secrets in every position that a log has met them in: none may reach an output.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;
use std::fs;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use proactions_edge::{AuthMethod, Exchange, Principal, SystemClock};
use proactions_redact_log::{
    AccessLogLayer, LogFormat, Logging, LoggingConfig, LoggingPolicy, TracingLayer,
};
use tower::{Layer, ServiceExt, service_fn};
use tracing_subscriber::layer::SubscriberExt;

#[derive(Clone, Default)]
struct Console(Arc<Mutex<Vec<u8>>>);

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hands out secrets that differ from each other and from everything else.
#[derive(Default)]
struct Secrets(Vec<String>);

impl Secrets {
    fn next(&mut self) -> String {
        let number = self.0.len();
        let secret = format!("cAnArY{:06x}{number:04}QzX", number * 7919 % 0x00ff_ffff);
        self.0.push(secret.clone());
        secret
    }
}

const NAMES: [&str; 12] = [
    "password",
    "accessToken",
    "access_token",
    "apiKey",
    "x-api-key",
    "azureApiKey",
    "client_secret",
    "sessionId",
    "sessionid",
    "X-Admin-Key",
    "refreshToken",
    "proxy-authorization",
];

/// Texts that hold a secret each.
fn texts(secrets: &mut Secrets) -> Vec<String> {
    let mut texts = Vec::new();
    for name in NAMES {
        for form in 0..12 {
            let secret = secrets.next();
            texts.push(match form {
                0 => format!("{name}={secret}"),
                1 => format!("a=1&{name}={secret}&b=2"),
                2 => format!("{name}: {secret}"),
                3 => format!("failed with {name}: Bearer {secret}, giving up"),
                4 => format!(r#"{{"a":1,"{name}":"{secret}","promptTokens":15}}"#),
                5 => format!(r#"{{"a":{{"b":[{{"{name}":{{"c":["{secret}"]}}}}]}}}}"#),
                6 => format!(r#"{{"a":"{{\"{name}\":\"x\\\"{secret}\"}}"}}"#),
                7 => format!(r#"{{"a":"{{\"b\":\"{{\\\"{name}\\\": \\\"{secret}\\\"}}\"}}"}}"#),
                8 => format!("next=https%3A%2F%2Fhost%2F%3F{name}%3D{secret}%26a%3Db"),
                9 => format!("body=%7B%22{name}%22%3A%22{secret}%22%7D"),
                10 => format!("Cookie: a=b; {name}={secret}; c=d"),
                _ => format!(
                    "Settings {{ {}: Some(\"{secret}\"), n: 1 }}",
                    name.replace('-', "_")
                ),
            });
        }
    }
    for form in 0..60 {
        let secret = secrets.next();
        texts.push(match form % 12 {
            0 => format!("upstream said: Authorization: Bearer {secret}"),
            1 => format!("sent Basic {secret}== to it"),
            2 => format!("key sk-proj-{secret} was refused"),
            3 => format!("AIzaSy{secret}abcdefgh"),
            4 => format!("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{secret}"),
            5 => format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----"),
            6 => format!("-----BEGIN EC PRIVATE KEY-----\\n{secret}"),
            7 => format!("cannot connect to rediss://hub:{secret}@redis:6379/0"),
            8 => format!("https://{secret}@git.example.com/x.git"),
            9 => format!("u=https%3A%2F%2Fme%3A{secret}%40host%2F"),
            10 => format!("s%3A{secret}{secret}.abcdefghijklmnopqrstuvwxyz"),
            _ => format!("ya29.{secret}"),
        });
    }
    texts
}

fn emit(secrets: &mut Secrets) {
    for (index, text) in texts(secrets).into_iter().enumerate() {
        match index % 4 {
            0 => tracing::error!("{text}"),
            1 => {
                tracing::info!(target: "security", event = "login_failed", detail = text, "refused");
            }
            2 => tracing::warn!(target: "aiLink", detail = ?text, "call failed"),
            _ => {
                let error: &(dyn std::error::Error + 'static) = &io::Error::other(text);
                tracing::info!(target: "proxy", error, "broken");
            }
        }
    }
    tracing::info!(target: "tools", password = secrets.next(), apiKey = ?secrets.next(), "named fields");
    tracing::info!(target: "youtube", "{:?}", [("authorization", format!("Bearer {}", secrets.next()))]);
    tracing::info!(target: "aiLink", promptTokens = 15, totalTokens = 20, "done");
}

async fn exchange(logging: &Logging, secrets: &mut Secrets) {
    let user = format!("Bearer {}", secrets.next());
    let service =
        AccessLogLayer::new(logging.clone()).layer(service_fn(move |request: Request<()>| {
            let exchange = request.extensions().get::<Exchange>().unwrap();
            exchange.note_principal(Principal::new(user.as_str(), AuthMethod::Token));
            async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok")))) }
        }));
    for name in NAMES {
        let mut request = Request::new(());
        *request.uri_mut() = format!(
            "/reset/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{}?{name}={}&code={}&promptTokens=15",
            secrets.next(),
            secrets.next(),
            secrets.next(),
        )
        .parse()
        .unwrap();
        let agent = format!("agent ({name}={})", secrets.next());
        request
            .headers_mut()
            .insert(USER_AGENT, agent.parse().unwrap());
        let response = service.clone().oneshot(request).await.unwrap();
        drop(response.collect().await.unwrap());
    }
}

#[tokio::test]
async fn no_secret_reaches_any_output() {
    for format in [LogFormat::Json, LogFormat::Text] {
        let directory = tempfile::tempdir().unwrap();
        let mut config = LoggingConfig::default();
        config.format = format;
        config.text_format =
            "${timestamp} ${module} ${message} ${url} ${detail} ${error} ${userAgent} ${username} ${password} ${promptTokens}".to_owned();
        config.log_directory = directory.path().to_str().unwrap().to_owned();
        for of_type in [
            &mut config.types.access,
            &mut config.types.error,
            &mut config.types.ai_link,
            &mut config.types.proxy,
            &mut config.types.youtube,
            &mut config.types.tools,
            &mut config.types.security,
        ] {
            of_type.file = true;
        }
        let console = Console::default();
        let policy = LoggingPolicy::try_from(config).unwrap();
        let clock = Arc::new(SystemClock::new());
        let (logging, guard) = Logging::start_with(policy, console.clone(), clock).unwrap();
        let subscriber = tracing_subscriber::registry().with(TracingLayer::new(logging.clone()));
        let mut secrets = Secrets::default();
        tracing::subscriber::with_default(subscriber, || emit(&mut secrets));
        exchange(&logging, &mut secrets).await;
        drop(guard);

        let console = String::from_utf8(console.0.lock().unwrap().clone()).unwrap();
        let mut outputs = vec![console];
        for entry in fs::read_dir(directory.path()).unwrap() {
            outputs.push(fs::read_to_string(entry.unwrap().path()).unwrap());
        }
        assert_eq!(outputs.len(), 1 + 7, "console and a file for each type");
        assert!(secrets.0.len() >= 200, "{}", secrets.0.len());
        for output in &outputs {
            for line in output.lines() {
                assert!(!line.contains("cAnArY"), "{line}");
                if format == LogFormat::Json {
                    serde_json::from_str::<serde_json::Value>(line).unwrap();
                }
            }
        }
        let tokens = match format {
            LogFormat::Json => "\"promptTokens\":15",
            _ => "done - - - - - - 15",
        };
        assert!(outputs[0].contains(tokens), "{}", outputs[0]);
        assert!(outputs[0].contains("promptTokens=15"));
        // Every event was written: 204 texts, 3 others, 12 exchanges.
        assert_eq!(
            outputs[0].lines().count(),
            texts(&mut Secrets::default()).len() + 3 + 12
        );
    }
}
