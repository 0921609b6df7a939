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
    /// Serve without a file or a provider key: token made at start, echo target, all hardening on.
    Quickstart {
        /// The port on 127.0.0.1; 0 lets the system pick one.
        #[arg(long, default_value_t = 3000)]
        port: u16,
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
