//! Asks a running hub how it is, for the health checks of containers.

use std::error::Error;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use proactions_config::{ClientCertificates, Policies, TlsSettings};
use proactions_edge::{ConfigError, SecretString};
use proactions_forward::{
    BaseUrl, Body, HttpClient, HttpClientConfig, Outgoing, ProxySsl, UpstreamTls,
};
use tokio::time::{sleep, timeout};

use crate::cli::HealthcheckArgs;
use crate::program::{Failure, load};
use crate::tls::{self, ToItself};

/// The hub's answers are much shorter.
const MAX_ANSWER: usize = 16 * 1024;

/// Between two tries while the hub may be about to serve another certificate.
const AGAIN: Duration = Duration::from_millis(250);

/// Asks, and tells on standard error what is wrong.
pub(crate) fn run(args: &HealthcheckArgs) -> Result<(), Failure> {
    let question = match &args.url {
        Some(url) => Question::at(url)?,
        None => Question::to_own(&load(&args.file.config)?.policies, args.ready)?,
    };
    let shown = ShownCertificate::read(args)?;
    let limit = Duration::from_secs(args.timeout);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::unhealthy)?;
    let mut waiting_for = format!("no answer within {} s", args.timeout);
    let asked = runtime.block_on(async {
        timeout(
            limit,
            question.ask_until_sure(shown.as_ref(), &mut waiting_for),
        )
        .await
    });
    // A name that is still being resolved holds a thread.
    runtime.shutdown_background();
    match asked {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Unhealthy::Because(why))) => Err(question.unhealthy(&why)),
        Ok(Err(Unhealthy::CannotAsk(why))) => Err(Failure::in_config(why)),
        Err(_) => Err(question.unhealthy(&waiting_for)),
    }
}

enum Unhealthy {
    Because(String),
    CannotAsk(String),
}

impl From<String> for Unhealthy {
    fn from(why: String) -> Self {
        Self::Because(why)
    }
}

impl From<ConfigError> for Unhealthy {
    fn from(error: ConfigError) -> Self {
        Self::CannotAsk(error.to_string())
    }
}

/// What is asked, and what the answer must be.
struct Question {
    url: String,
    base: BaseUrl,
    /// The member `status` of the answer; somebody else's URL may answer as it likes.
    status: Option<&'static str>,
    /// How the hub speaks TLS, if the URL is this hub's own and it does.
    own_tls: Option<TlsSettings>,
}

impl Question {
    fn at(url: &str) -> Result<Self, Failure> {
        let base = BaseUrl::parse(url)
            .map_err(|error| Failure::in_config(format_args!("--url: {error}")))?;
        Ok(Self {
            url: url.to_owned(),
            base,
            status: None,
            own_tls: None,
        })
    }

    fn to_own(policies: &Policies, ready: bool) -> Result<Self, Failure> {
        let Some(health) = &policies.health else {
            return Err(Failure::in_config(
                "healthCheck.enabled is false, so the hub answers no probe; set it to true, or take the health check \
                 away",
            ));
        };
        let (path, status) = if ready {
            (&health.readiness_path, "ready")
        } else {
            (&health.path, "ok")
        };
        let port = policies.public.port;
        if port == 0 {
            return Err(Failure::in_config(
                "hub.port is 0, so nobody knows which port the system gave the hub; name it with --url",
            ));
        }
        let scheme = if policies.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let host = reachable(&policies.public.host);
        let url = format!("{scheme}://{host}:{port}{path}");
        let base = BaseUrl::parse(&url)
            .map_err(|error| Failure::in_config(format_args!("{url}: {error}")))?;
        Ok(Self {
            url,
            base,
            status: Some(status),
            own_tls: policies.tls.clone(),
        })
    }

    fn unhealthy(&self, why: &str) -> Failure {
        // In TLS 1.3 the alert comes after the client's part of the handshake, and the end of the connection may get
        // ahead of it.
        let refused = ["alert", "closed", "reset"]
            .iter()
            .any(|word| why.contains(word));
        let asks_back = self
            .own_tls
            .as_ref()
            .is_some_and(|tls| tls.client_certificates == ClientCertificates::Required && refused);
        let hint = if asks_back {
            "; the hub asks for a client certificate: name one with --client-cert and --client-key"
        } else {
            ""
        };
        Failure::unhealthy(format_args!("unhealthy: {}: {why}{hint}", self.url))
    }

    /// Asks, and asks again while the hub may be about to serve the certificate that the file holds.
    async fn ask_until_sure(
        &self,
        shown: Option<&ShownCertificate>,
        waiting_for: &mut String,
    ) -> Result<(), Unhealthy> {
        let Some(settings) = &self.own_tls else {
            let client = if self.base.is_https() {
                let tls = tls::client_config()
                    .map_err(|error| Unhealthy::CannotAsk(format!("no TLS: {error}")))?;
                HttpClient::new(
                    &HttpClientConfig::default(),
                    ShownCertificate::put_into(shown, tls)?,
                )
            } else {
                HttpClient::without_tls(&HttpClientConfig::default())
            };
            return Ok(self.ask(&client).await?);
        };
        loop {
            let pinned = ToItself::new(settings);
            if let Ok(to_itself) = &pinned {
                let answer = self.ask_over(to_itself, shown).await?;
                if !to_itself.met_another() {
                    return Ok(answer?);
                }
            }
            if let Some(any) = ToItself::while_refused(settings)? {
                let answer = self.ask_over(&any, shown).await?;
                if answer.is_err() {
                    // What is wrong with the file may be why.
                    pinned?;
                }
                answer?;
                let refused = any.unpinned.unwrap_or_default();
                let _ = writeln!(
                    io::stderr(),
                    "healthy, but with an earlier certificate: {refused}"
                );
                return Ok(());
            }
            *waiting_for = format!(
                "it shows another certificate than {}, so it is another program, or has not read the file yet",
                settings.cert.display()
            );
            sleep(AGAIN).await;
        }
    }

    async fn ask_over(
        &self,
        to_itself: &ToItself,
        shown: Option<&ShownCertificate>,
    ) -> Result<Result<(), String>, Unhealthy> {
        let tls = ShownCertificate::put_into(shown, to_itself.config.clone())?;
        let client = HttpClient::new(&HttpClientConfig::default(), tls);
        Ok(self.ask(&client).await)
    }

    /// Asks once.
    async fn ask(&self, client: &HttpClient) -> Result<(), String> {
        let question = Outgoing::new(Method::GET, &self.base, "", None);
        let question = question.map_err(|error| error.to_string())?;
        let answer = client
            .send(question)
            .await
            .map_err(|error| deepest(&error))?;
        let (head, body) = answer.into_parts();
        let body = Body::from(body).collect_up_to(MAX_ANSWER).await;
        let body = body.map_err(|error| deepest(&error))?;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        if head.status != StatusCode::OK {
            return Err(format!("answered {}{}", head.status.as_u16(), down(&body)));
        }
        match self.status {
            Some(status) if body.get("status").and_then(|s| s.as_str()) != Some(status) => Err(
                "answered 200, but not as a hub does; another program seems to listen there"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }
}

/// The certificate that is shown to a hub that asks for one.
struct ShownCertificate(UpstreamTls);

impl ShownCertificate {
    fn read(args: &HealthcheckArgs) -> Result<Option<Self>, Failure> {
        let (Some(cert), Some(key)) = (&args.client_cert, &args.client_key) else {
            return Ok(None);
        };
        let text = |path: &Path| path.display().to_string();
        let mut ssl = ProxySsl::default();
        ssl.cert = Some(text(cert));
        ssl.key = Some(SecretString::from(text(key)));
        let read = UpstreamTls::read(&ssl, true).map_err(|error| {
            let lines = error.problems().iter();
            let lines =
                lines.map(|problem| format!("--client-{}: {}", problem.key, problem.message));
            Failure::in_config(lines.collect::<Vec<_>>().join("\n"))
        })?;
        Ok(Some(Self(read)))
    }

    fn put_into(
        shown: Option<&Self>,
        tls: rustls::ClientConfig,
    ) -> Result<rustls::ClientConfig, Unhealthy> {
        match shown {
            None => Ok(tls),
            Some(shown) => shown.0.derive(&tls).map_err(|error| {
                Unhealthy::CannotAsk(format!("--client-key does not fit --client-cert: {error}"))
            }),
        }
    }
}

/// How a program on the same machine reaches who listens on `host`.
fn reachable(host: &str) -> String {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse() {
        Ok(IpAddr::V4(ip)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        Ok(IpAddr::V6(ip)) if ip.is_unspecified() => format!("[{}]", Ipv6Addr::LOCALHOST),
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host.to_owned(),
    }
}

/// What is down, as `/ready` tells it. Only plain names are repeated: it may be another program that answers.
fn down(answer: &serde_json::Value) -> String {
    let plain = |name: &&String| {
        name.len() <= 32
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    let checks = answer.get("checks").and_then(|checks| checks.as_object());
    let mut names: Vec<_> = checks
        .into_iter()
        .flat_map(serde_json::Map::keys)
        .filter(plain)
        .take(8)
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    if names.is_empty() {
        String::new()
    } else {
        format!(" (down: {})", names.join(", "))
    }
}

/// What was in the way, without the words of those that only passed it on.
fn deepest(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    loop {
        let io = error.downcast_ref::<io::Error>();
        let inner = match io {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        };
        match (inner, io) {
            (Some(inner), _) => error = inner,
            (None, Some(io)) => return io.kind().to_string(),
            (None, None) => return error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listener_is_reached_from_its_own_machine() {
        for (host, url) in [
            ("0.0.0.0", "127.0.0.1"),
            ("::", "[::1]"),
            ("[::]", "[::1]"),
            ("::1", "[::1]"),
            ("[fd00::7]", "[fd00::7]"),
            ("10.0.0.7", "10.0.0.7"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(reachable(host), url);
        }
    }

    #[test]
    fn only_plain_names_are_repeated() {
        for (answer, told) in [
            (
                serde_json::json!({"checks": {"redis": "down", "edapi": "down"}}),
                " (down: edapi, redis)",
            ),
            (
                serde_json::json!({"checks": {"\u{1b}[31m": 1, "a b": 1}}),
                "",
            ),
            (serde_json::json!({"checks": ["redis"]}), ""),
            (serde_json::json!(null), ""),
        ] {
            assert_eq!(down(&answer), told);
        }
    }
}
