use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use proactions_edge::ManualClock;
use proactions_forward::HttpClientConfig;
use proactions_testkit::{Gate, Reply, Upstream};

use super::*;

/// A key file as Google's console makes it.
pub(crate) fn key_file(token_uri: &str) -> SecretString {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let der = STANDARD.encode(der.as_ref());
    let lines: Vec<_> = der
        .as_bytes()
        .chunks(64)
        .map(|l| str::from_utf8(l).unwrap())
        .collect();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    );
    let file = json!({
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "kid-1",
        "private_key": pem,
        "client_email": "hub@p.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_uri,
        "universe_domain": "googleapis.com",
    });
    SecretString::from(file.to_string())
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn client() -> HttpClient {
    HttpClient::without_tls(&HttpClientConfig::default())
}

fn clock() -> ManualClock {
    ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
}

/// Answers every request with a new token.
fn google(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::serve(move |_| reply(count.fetch_add(1, Ordering::Relaxed)))
}

fn token(number: usize) -> Reply {
    let token = format!("token-{number}");
    Reply::json(
        200,
        &json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer"}),
    )
}

#[tokio::test]
async fn a_signed_statement_is_traded_for_a_token() {
    let google = google(token);
    let account = ServiceAccount::parse(&key_file(&google.url("/token"))).unwrap();
    let header = account.authorization(&client(), &clock()).await.unwrap();
    assert_eq!(header, "Bearer token-0");
    assert!(header.is_sensitive());

    let request = google.last_request();
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/token")
    );
    assert_eq!(
        request.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    let body = String::from_utf8(request.body.to_vec()).unwrap();
    let statement = body
        .strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=")
        .unwrap();
    let parts: Vec<_> = statement.split('.').collect();
    assert_eq!(
        decoded(parts[0]),
        json!({"alg": "RS256", "typ": "JWT", "kid": "kid-1"})
    );
    assert_eq!(
        decoded(parts[1]),
        json!({
            "iss": "hub@p.iam.gserviceaccount.com",
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "aud": "https://oauth2.googleapis.com/token",
            "iat": 1_700_000_000,
            "exp": 1_700_003_600,
        })
    );
    let key = UnparsedPublicKey::new(
        &RSA_PKCS1_2048_8192_SHA256,
        account.0.key.public_key().as_ref(),
    );
    let signed = format!("{}.{}", parts[0], parts[1]);
    let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    key.verify(signed.as_bytes(), &signature).unwrap();
}

#[tokio::test]
async fn however_many_ask_one_fetches() {
    let gate = Gate::closed();
    let held = gate.clone();
    let google = google(move |number| token(number).gated(&held));
    let account = ServiceAccount::parse(&key_file(&google.url("/"))).unwrap();
    let mut tasks = Vec::new();
    for _ in 0..50 {
        let account = account.clone();
        tasks.push(tokio::spawn(async move {
            account.authorization(&client(), &clock()).await
        }));
    }
    tokio::task::yield_now().await;
    gate.open();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), "Bearer token-0");
    }
    assert_eq!(google.request_count(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end() {
    let google = google(token);
    let account = ServiceAccount::parse(&key_file(&google.url("/"))).unwrap();
    let (client, clock) = (client(), clock());
    for (wait, expected) in [
        (0, "Bearer token-0"),
        (3599 - 301, "Bearer token-0"),
        (1, "Bearer token-1"),
        (3600, "Bearer token-2"),
    ] {
        clock.advance(Duration::from_secs(wait));
        let header = account.authorization(&client, &clock).await.unwrap();
        assert_eq!(header, expected);
    }
}

#[tokio::test]
async fn the_old_token_serves_while_google_fails() {
    let google = google(|number| match number {
        0 => token(0),
        _ => Reply::json(503, &json!({})),
    });
    let account = ServiceAccount::parse(&key_file(&google.url("/"))).unwrap();
    let (client, clock) = (client(), clock());
    account.authorization(&client, &clock).await.unwrap();
    clock.advance(Duration::from_secs(3599 - 60));
    for _ in 0..3 {
        let header = account.authorization(&client, &clock).await.unwrap();
        assert_eq!(header, "Bearer token-0");
    }
    // After a failure nobody asks again for a moment.
    assert_eq!(google.request_count(), 2);
    clock.advance(Duration::from_secs(31));
    assert!(account.authorization(&client, &clock).await.is_err());
}

#[tokio::test]
async fn what_google_answers_instead() {
    for (reply, told) in [
        (
            Reply::json(
                400,
                &json!({"error": "invalid_grant", "error_description": "Invalid JWT"}),
            ),
            "status 400 Bad Request invalid_grant Invalid JWT",
        ),
        (Reply::json(200, &json!({})), "there is none in its answer"),
        (
            Reply::bytes(200, "text/html", "<html>"),
            "there is none in its answer",
        ),
        (
            Reply::json(200, &json!({"access_token": "a\nb"})),
            "it cannot stand in a header",
        ),
        (Reply::redirect(302, "https://evil.example/"), "status 302"),
        (Reply::huge(10 * 1024 * 1024), "the body is too large"),
    ] {
        let google = Upstream::start(reply);
        let account = ServiceAccount::parse(&key_file(&google.url("/"))).unwrap();
        let why = account
            .authorization(&client(), &clock())
            .await
            .unwrap_err();
        assert!(why.contains(told), "{why}");
    }
}

#[test]
fn key_files_are_checked_and_never_shown() {
    let good = key_file("https://oauth2.example/token");
    let account = ServiceAccount::parse(&good).unwrap();
    assert_eq!(format!("{account:?}"), "ServiceAccount(..)");
    let mut file: Value = serde_json::from_str(good.expose_secret()).unwrap();
    let key = file["private_key"].as_str().unwrap().to_owned();
    for (member, value, told) in [
        ("client_email", Value::Null, "client_email and private_key"),
        ("private_key", json!("hunter2"), "expected an RSA key"),
        (
            "private_key",
            json!(key.replace("MII", "AAA")),
            "expected an RSA key",
        ),
        ("token_uri", json!("https://a@evil/"), "token_uri"),
    ] {
        let before = std::mem::replace(&mut file[member], value);
        let error = ServiceAccount::parse(&SecretString::from(file.to_string())).unwrap_err();
        assert!(
            error.contains(told) && !error.contains("hunter2"),
            "{error}"
        );
        file[member] = before;
    }
}
