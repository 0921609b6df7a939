use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// ProActions Hub, the hardened gateway between editors' tools and AI providers.
#[derive(Debug, Parser)]
#[command(name = "proactions-hub", version, about, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a configuration and exit: 0 if it can be served, 2 if not.
    Check(ConfigFile),
    /// Ask the running hub how it is and exit: 0 if it is well, 1 if not, 2 if it cannot be asked like this.
    Healthcheck(HealthcheckArgs),
    /// Serve without a file or a provider key: token made at start, echo target, all hardening on.
    Quickstart {
        /// The port on 127.0.0.1; 0 lets the system pick one. `PROACTIONS_HUB_PORT`, or else 3000, unless given.
        #[arg(long)]
        port: Option<u16>,
    },
    /// Serve what a configuration says.
    Serve(ConfigFile),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ConfigFile {
    /// The configuration.
    #[arg(
        long,
        value_name = "FILE",
        env = "PROACTIONS_HUB_CONFIG",
        default_value = "config.yaml"
    )]
    pub(crate) config: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct HealthcheckArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Ask whether requests can be served, not only whether the process serves.
    #[arg(long, conflicts_with = "url")]
    pub(crate) ready: bool,
    /// Ask this URL, of any hub; no configuration is read.
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// How long the answer may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) timeout: u64,
    /// The certificate to show to a hub that asks for one.
    #[arg(
        long,
        value_name = "FILE",
        env = "PROACTIONS_HUB_HEALTHCHECK_CERT",
        requires = "client_key"
    )]
    pub(crate) client_cert: Option<PathBuf>,
    /// The private key of that certificate.
    #[arg(
        long,
        value_name = "FILE",
        env = "PROACTIONS_HUB_HEALTHCHECK_KEY",
        requires = "client_cert"
    )]
    pub(crate) client_key: Option<PathBuf>,
}
