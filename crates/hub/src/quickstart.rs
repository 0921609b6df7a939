//! The first minute: a hardened hub without a file, a key or a database.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use proactions_config::Loader;

use crate::LocalAddrs;
use crate::program::{Failure, serve};

const CONFIG: &str = include_str!("quickstart.yaml");
const DEFAULT_PORT: &str = "3000";

/// Serves `quickstart.yaml` with secrets made now, and prints how to use it.
pub(crate) fn run(port: Option<u16>) -> Result<(), Failure> {
    // Compose files pass variables on that are not set as empty ones.
    let variable = || {
        std::env::var("PROACTIONS_HUB_PORT")
            .ok()
            .filter(|port| !port.is_empty())
    };
    let port = port.map(|port| port.to_string()).or_else(variable);
    let port = port.as_deref().unwrap_or(DEFAULT_PORT);
    let (Ok(token), Ok(cookie_secret)) = (random_hex(), random_hex()) else {
        return Err(Failure::to_start(
            "the operating system has no random bytes to give",
        ));
    };
    let loaded = Loader::from_text("quickstart.yaml", CONFIG)
        .env([
            ("QUICKSTART_PORT", port.to_owned()),
            ("QUICKSTART_TOKEN", token.clone()),
            ("QUICKSTART_COOKIE_SECRET", cookie_secret),
        ])
        .load()
        .map_err(Failure::in_config)?;
    serve(&loaded, None, |addrs| print_welcome(addrs, &token)).map_err(|failure| {
        failure.hinting_at_port(format_args!(
            "Port {port} may be taken; choose another one: proactions-hub quickstart --port 3001"
        ))
    })
}

fn random_hex() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

fn print_welcome(addrs: LocalAddrs, token: &str) {
    let base = format!("http://{}", addrs.public);
    let welcome = format!(
        r#"
ProActions Hub quickstart
Serving on {base} with an access token made for this run, sessions in memory and all hardening on.

Try it; the target "echo" answers by itself:

  curl {base}/v1/chat/completions -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d '{{"model":"echo","messages":[{{"role":"user","content":"Hello"}}]}}'

Add "stream":true to see a stream (curl -N).

Next: write a config.yaml with your providers, then
  proactions-hub check --config config.yaml
  proactions-hub serve --config config.yaml

Stop with Ctrl-C. The log follows, one line an exchange.

"#
    );
    let _ = io::stdout().write_all(welcome.as_bytes());
}
