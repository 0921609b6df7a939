//! The snippets of the operators' hardening guide, as they are written there.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may fail")]

use proactions_config::{Loaded, Loader, Report};

const ENV: [(&str, &str); 11] = [
    ("EDAPI_URL", "https://your-edapi-instance/edapi"),
    (
        "PROACTIONS_SESSION_SECRET",
        "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=",
    ),
    (
        "SESSION_SECRET",
        "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=",
    ),
    ("PROACTIONS_REDIS_URL", "redis://localhost:6379"),
    ("REDIS_CA_CERT", "/etc/ssl/certs/redis-ca.pem"),
    ("AUTH_TOKEN_1", "a-strong-random-token-number-1"),
    ("AUTH_TOKEN_2", "a-strong-random-token-number-2"),
    ("TLS_CERT_PATH", "/etc/ssl/certs/proactions.crt"),
    ("TLS_KEY_PATH", "/etc/ssl/private/proactions.key"),
    ("TLS_CA_PATH", "/etc/ssl/certs/ca-bundle.crt"),
    ("TLS_PASSPHRASE", "the-passphrase"),
];

fn load(text: &str) -> Result<Loaded, Report> {
    Loader::from_text("config.yaml", text).env(ENV).load()
}

const TOKEN_AUTH: &str = "
auth:
  enabled: true
  type: token
  tokens:
    - ${AUTH_TOKEN_1}
    - ${AUTH_TOKEN_2}
  session:
    store: memory
    cookie:
      secret: ${PROACTIONS_SESSION_SECRET}
";

const SESSION_COOKIE: &str = "
auth:
  session:
    cookie:
      name: proactions_session # Custom cookie name
      secret: ${SESSION_SECRET} # Strong random secret
      httpOnly: true # Prevent XSS access
      secure: true # HTTPS only
      sameSite: strict # CSRF protection
      maxAge: 86400000 # 24 hours (in ms)
";

const HELMET: &str = "
hub:
  security:
    helmet:
      enabled: true
      contentSecurityPolicy: false # Configure based on needs
      crossOriginEmbedderPolicy: true
      crossOriginOpenerPolicy: true
      crossOriginResourcePolicy: true
      dnsPrefetchControl: true
      frameguard: true
      hidePoweredBy: true
      hsts: true
      ieNoOpen: true
      noSniff: true
      originAgentCluster: true
      permittedCrossDomainPolicies: true
      referrerPolicy: true
      xssFilter: true
";

const HELMET_OPTIONS: &str = r#"
hub:
  security:
    helmet:
      hsts:
        maxAge: 31536000 # 1 year
        includeSubDomains: true
        preload: true
      contentSecurityPolicy:
        directives:
          defaultSrc: ["'self'"]
          scriptSrc: ["'self'", "'unsafe-inline'"]
          styleSrc: ["'self'", "'unsafe-inline'"]
          imgSrc: ["'self'", "data:", "https:"]
      frameguard:
        action: deny # or 'sameorigin'
"#;

const CORS: &str = "
hub:
  security:
    cors:
      enabled: true
      origin: https://your-app.example.com
      methods: GET,POST,PUT,DELETE
      credentials: true
      allowedHeaders: Content-Type,Authorization,x-target
      maxAge: 86400
";

const CORS_LIST: &str = "
hub:
  security:
    cors:
      origin:
        - https://app1.example.com
        - https://app2.example.com
";

const CORS_REFLECT: &str = "
hub:
  security:
    cors:
      enabled: true
      origin: true # Reflects request origin
";

const TRUST_TRUE: &str = "hub:\n  security:\n    trustProxy: true\n";
const TRUST_HOPS: &str = "hub:\n  security:\n    trustProxy: 1 # Trust first proxy only\n";
const TRUST_LIST: &str = "
hub:
  security:
    trustProxy:
      - 10.0.0.0/8
      - 172.16.0.0/12
      - 192.168.0.0/16
";

const RATE_LIMIT: &str = "
hub:
  security:
    trustProxy: true # Required for accurate IP detection
    rateLimit:
      enabled: true
      windowMs: 900000 # 15 minutes
      max: 100 # 100 requests per window per IP
      message: Too many requests from this IP, please try again later.
      standardHeaders: true
      legacyHeaders: false
";

const LIMITS: &str = "
hub:
  security:
    limits:
      json: 50mb # Max JSON payload size
      urlencoded: 10mb # Max URL-encoded payload size
";

const LOGGING: &str = "
logging:
  logTrace: false
  sensitiveData:
    - password
    - token
    - apiKey
    - api_key
    - authorization
    - key
    - secret
    - sessionId
    - cookie
  maxFiles: 365d # 1 year for compliance
  types:
    access:
      enabled: true
      file: true
    aiLink:
      enabled: true
      file: true
    error:
      enabled: true
      file: true
";

#[test]
fn every_snippet_that_this_version_serves_loads() {
    for snippet in [
        TOKEN_AUTH,
        SESSION_COOKIE,
        HELMET,
        HELMET_OPTIONS,
        CORS,
        CORS_LIST,
        CORS_REFLECT,
        TRUST_TRUE,
        TRUST_HOPS,
        TRUST_LIST,
        RATE_LIMIT,
        LIMITS,
        LOGGING,
        "auth:\n  session:\n    store: memory\n",
        "targets:\n  - id: azure-eu\n    provider: azure-openai\n    azureRegion: westeurope\n    azureDeploymentId: gpt\n    apiKey: ${AUTH_TOKEN_1}\n",
    ] {
        if let Err(report) = load(snippet) {
            panic!("{snippet}\n{report}");
        }
    }
}

#[test]
fn the_snippets_for_production_load() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, CA).unwrap();
    for snippet in [
        "
auth:
  enabled: true
  type: edapi
  edapi_url: ${EDAPI_URL}
  session:
    store: redis # Use Redis in production
    cookie:
      secret: ${PROACTIONS_SESSION_SECRET}
      secure: true
      httpOnly: true
      sameSite: strict
      maxAge: 86400000 # 24 hours
    redis_client:
      url: ${PROACTIONS_REDIS_URL}
",
        "
auth:
  enabled: true
  type: token
  tokens: ['${AUTH_TOKEN_1}']
  session:
    store: redis
    cookie:
      secret: ${PROACTIONS_SESSION_SECRET}
    redis_client:
      url: ${PROACTIONS_REDIS_URL}
      # Optional: TLS configuration
      tls:
        rejectUnauthorized: true
        ca: ${REDIS_CA_CERT}
",
        "
hub:
  tls:
    enabled: true
    cert: ${TLS_CERT_PATH}
    key: ${TLS_KEY_PATH}
    ca: ${TLS_CA_PATH}
    passphrase: ${TLS_PASSPHRASE} # If key is encrypted
    rejectUnauthorized: true
    ciphers: TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256
",
        "
hub:
  ailink_port: 3001
  ailink_host: localhost # Bind to localhost only
",
    ] {
        let loader = Loader::from_text("config.yaml", snippet)
            .env(ENV)
            .env([("REDIS_CA_CERT", ca.display().to_string())]);
        if let Err(report) = loader.load() {
            panic!("{snippet}\n{report}");
        }
    }
}

/// An authority that vouches for nobody.
const CA: &str = "-----BEGIN CERTIFICATE-----
MIIBdzCCAR2gAwIBAgIUA8xTMPlCp7ffEawTBiNdrVZbSHkwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGbm9ib2R5MB4XDTI2MTEyMzIxMDAzNVoXDTM2MTEyMDIxMDAz
NVowETEPMA0GA1UEAwwGbm9ib2R5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
5aZfiFu2F+IGUrF2X1EQmI//7SY6wUir4Ie7NcONAwITZVv/FYHVPokauWqeLcbg
QlOrw9NCRgwnWH2wKa9nOqNTMFEwHQYDVR0OBBYEFHcix2VFp1+k9GzSdFVLy/PW
iIZQMB8GA1UdIwQYMBaAFHcix2VFp1+k9GzSdFVLy/PWiIZQMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAK4q7L6XPMG1BAjDDiDMxcvyp2bzxwtw
KPewem7JQX+XAiBh7mLo289co2yNmz+Zkxz0bZm4ggOeWSwDVrBeFg1qLg==
-----END CERTIFICATE-----
";

#[test]
fn the_snippets_fit_into_one_configuration() {
    let text = format!(
        "
hub:
  host: 127.0.0.1
  security:
    trustProxy:
      - 10.0.0.0/8
    helmet:
      enabled: true
      hsts:
        maxAge: 31536000
    cors:
      origin: https://your-app.example.com
      credentials: true
    rateLimit:
      windowMs: 900000
      max: 100
    limits:
      json: 50mb
{TOKEN_AUTH}{LOGGING}
targets:
  - id: echo
    provider: echo
"
    );
    let loaded = load(&text).unwrap();
    assert_eq!(loaded.policies.public.host, "127.0.0.1");
    assert_eq!(loaded.policies.public.port, 3000);
    assert!(loaded.policies.trust_proxy.is_on());
    assert!(loaded.policies.cors.is_on());
    assert_eq!(loaded.policies.targets.ids().collect::<Vec<_>>(), ["echo"]);
    let shown = loaded
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>();
    assert_eq!(
        shown,
        [
            "config.yaml:22: auth.type: static tokens are less secure than edapi: for development and tests"
        ]
    );
}

#[test]
fn dangerous_settings_are_warned_about_where_they_stand() {
    for (text, line, key) in [
        ("hub: {}\n", 1, "auth.enabled"),
        (CORS_REFLECT, 6, "hub.security.cors.origin"),
        (TRUST_TRUE, 3, "hub.security.trustProxy"),
        (
            "metrics: {enabled: true, host: 0.0.0.0}\n",
            1,
            "metrics.host",
        ),
        (
            "auth:\n  enabled: true\n  type: token\n  tokens: ['${AUTH_TOKEN_1}']\n  session:\n    cookie:\n      secret: ${SESSION_SECRET}\n      secure: true\n",
            8,
            "auth.session.cookie.secure",
        ),
    ] {
        let loaded = load(text).unwrap();
        let found = loaded
            .warnings
            .iter()
            .any(|w| w.key == key && w.line.unwrap_or(1) == line);
        assert!(found, "{text}: {:?}", loaded.warnings);
    }
}
