//! What the program does, from its arguments to its exit code.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use proactions_config::{Loaded, Loader};
use proactions_redact_log::{Logging, TracingLayer, install_panic_hook};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::cli::{Cli, Command};
use crate::shutdown::{Hangups, StopSignals};
use crate::{
    Hub, LocalAddrs, StartError, compose, healthcheck, open_files, quickstart, reload, tls,
};

const STOPPED_BADLY: u8 = 1;
const UNHEALTHY: u8 = 1;
const BAD_CONFIG: u8 = 2;

/// Runs the program `proactions-hub` and returns its exit code: 0, 1 if the hub could not start, requests were cut or
/// a health check failed, 2 if the configuration or the command line cannot be used.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Check(file) => load(&file.config).and_then(|loaded| check(&loaded)),
        Command::Healthcheck(args) => healthcheck::run(&args),
        Command::Quickstart { port } => quickstart::run(port),
        Command::Serve(file) => {
            load(&file.config).and_then(|loaded| serve(&loaded, Some(&file.config), |_| ()))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.lines {
                let _ = writeln!(io::stderr(), "{line}");
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Why the program ends before its time.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    lines: Vec<String>,
    /// Whether it was a port that could not be opened.
    unbound: bool,
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "`map_err` hands errors over by value"
)]
impl Failure {
    pub(crate) fn to_start(line: impl ToString) -> Self {
        Self::new(STOPPED_BADLY, line)
    }

    /// Adds a line that tells what may help, if a port could not be opened.
    pub(crate) fn hinting_at_port(mut self, line: impl ToString) -> Self {
        if self.unbound {
            self.lines.push(line.to_string());
        }
        self
    }

    pub(crate) fn unhealthy(line: impl ToString) -> Self {
        Self::new(UNHEALTHY, line)
    }

    pub(crate) fn in_config(report: impl ToString) -> Self {
        Self::new(BAD_CONFIG, report)
    }

    fn new(code: u8, report: impl ToString) -> Self {
        Self {
            code,
            lines: report.to_string().lines().map(str::to_owned).collect(),
            unbound: false,
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(problems) => Self::in_config(problems),
            error => Self {
                unbound: matches!(error, StartError::Bind { .. }),
                ..Self::to_start(error)
            },
        }
    }
}

pub(crate) fn load(path: &Path) -> Result<Loaded, Failure> {
    Loader::new(path)
        .process_env()
        .load()
        .map_err(Failure::in_config)
}

fn check(loaded: &Loaded) -> Result<(), Failure> {
    let identity = tls::identity(&loaded.policies).map_err(Failure::in_config)?;
    compose::check(&loaded.policies).map_err(Failure::in_config)?;
    for warning in &loaded.warnings {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    for warning in identity.iter().flat_map(|identity| &identity.warnings) {
        let _ = writeln!(
            io::stderr(),
            "warning: {}: {}",
            warning.key,
            warning.message
        );
    }
    let _ = writeln!(io::stdout(), "The configuration can be served.");
    Ok(())
}

/// Serves until a signal comes; `started` is called when the ports are open. SIGHUP reads `file` again.
pub(crate) fn serve(
    loaded: &Loaded,
    file: Option<&Path>,
    started: impl FnOnce(LocalAddrs),
) -> Result<(), Failure> {
    let (logging, guard) =
        Logging::start(loaded.policies.logging.clone()).map_err(Failure::to_start)?;
    let events = tracing_subscriber::registry().with(TracingLayer::new(logging.clone()));
    tracing::subscriber::set_global_default(events).map_err(Failure::to_start)?;
    install_panic_hook(&logging);
    // Handles to counters are made from here on.
    crate::metrics::recorder();
    for warning in &loaded.warnings {
        tracing::warn!("{}", reload::line(&warning.to_string()));
    }
    let wanted = loaded.policies.listener.max_connections;
    if let Some(room) = open_files::room_for(open_files::raise_limit(), wanted) {
        tracing::warn!(
            "the limit on open files has room for {room} connections, hub.listener.maxConnections says {wanted}: \
             raise it (`ulimit -n`, `LimitNOFILE=`) or lower the setting"
        );
    }

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::to_start)?;
    let outcome = runtime.block_on(async {
        // A signal during the start is kept for its end; the system's own answer to SIGHUP ends the process.
        let hangups = Hangups::listen().map_err(Failure::to_start)?;
        let mut signals = StopSignals::listen().map_err(Failure::to_start)?;
        let mut further = StopSignals::listen().map_err(Failure::to_start)?;
        let hub = Hub::build(&loaded.policies, &logging).await?;
        let handle = hub.reload_handle();
        tokio::spawn(handle.clone().watch_certificate());
        tokio::spawn(reload::on_hangup(
            hangups,
            handle,
            file.map(Path::to_owned),
            loaded.config.clone(),
        ));
        let addrs = hub.local_addrs();
        tracing::info!(address = %addrs.public, "listening on {}", addrs.public);
        if let Some(address) = addrs.internal {
            tracing::info!(address = %address, "internal listener on {address}");
        }
        if let Some(address) = addrs.metrics {
            tracing::info!(address = %address, "metrics on {address}");
        }
        started(addrs);
        let stop = async {
            let signal = signals.next().await;
            tracing::info!(signal, "asked to stop");
        };
        // The second signal ends the draining that the first one began.
        let at_once = async {
            further.next().await;
            further.next().await;
        };
        Ok(hub.run(stop, at_once).await)
    });
    // Connections that were cut hold tasks; nobody waits for them any more.
    runtime.shutdown_background();
    logging.flush();
    drop(guard);
    match outcome {
        Ok(drained) if drained.cut == 0 => Ok(()),
        Ok(drained) => Err(Failure::to_start(format_args!(
            "{} connections were cut at the end of the grace period",
            drained.cut
        ))),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_port_that_cannot_be_opened_is_hinted_at() {
        let taken = StartError::Bind {
            address: "127.0.0.1:3000".to_owned(),
            source: io::ErrorKind::AddrInUse.into(),
        };
        for (failure, lines) in [
            (Failure::from(taken), 2),
            (Failure::from(StartError::Random), 1),
            (Failure::to_start("1 connections were cut"), 1),
        ] {
            assert_eq!(failure.code, STOPPED_BADLY);
            let failure = failure.hinting_at_port("choose another one");
            assert_eq!(failure.lines.len(), lines, "{failure:?}");
        }
    }
}
