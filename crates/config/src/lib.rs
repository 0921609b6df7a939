//! The configuration of ProActions Hub: one YAML file, read, expanded and checked.
//!
//! [`Loader`] reads the file with everything around it and gives back either a [`Loaded`] configuration that
//! can be served, or a [`Report`] of every problem that it has. [`Config`] is exactly what the sources say;
//! [`Policies`] is the same, checked and ready to run. Each section's type belongs to the crate that uses it,
//! with its defaults and its checks; this crate puts them together, and owns the sections that no layer
//! owns: listeners, TLS, probes, metrics.
//!
//! # What is decided, in this order
//!
//! 1. `.env` beside the file is read. It never overrides a variable of the environment. Of several lines
//!    with one name the last counts.
//! 2. The file is parsed: one document, no tags, no key twice, at most 50000 values (those that aliases
//!    repeat included) and 48 levels. A plain scalar is a number if it is written in plain decimal digits,
//!    a boolean if it is `true` or `false`, else text: `yes`, `010`, `0x10` and `1e3` are text. Quoted ones are
//!    text always.
//! 3. A key without a value is a problem, but for directives of a content security policy, which `null` takes
//!    out of the defaults, and for the parameters that are handed on to providers.
//! 4. The environment's overrides are put over the file by figment: `PROACTIONS_HUB_PORT`,
//!    `PROACTIONS_HUB_AILINK_PORT`, `PROACTIONS_SKIP_SCHEMA_VALIDATION`. An empty one counts as not set. figment
//!    merges keys and places in a table, never values, so its errors have no value to show.
//! 5. `${NAME}`, `${NAME-default}` and `${NAME:-default}` are expanded, in values only and once; `$${` is a
//!    literal `${`. If `NAME` is not set and `NAME_FILE` is, the value is that file's content less one
//!    newline at its end. A plain scalar is typed again by rule 2 after that, except that an empty one is
//!    empty text. `logging.text_format` is left alone.
//! 6. The tree becomes a [`Config`]. A value that came out of a variable and looks like a number or a
//!    boolean is text where text is wanted (a token `12345`); one that stands in the file as it is must be
//!    quoted there.
//! 7. A value that does not fit is noted and taken out, and the rest is read again, so that every
//!    problem is found in one go, at most 200. What could only be wrong because of a value that was
//!    taken out is not told.
//! 8. Unknown keys are problems; with `validation.skipSchemaValidation` they are warnings. Nothing else is
//!    ever skipped.
//! 9. Every section is checked by itself and against the others: ids that are taken, ports, hosts, paths. A
//!    feature that is configured and not available in this version is a problem.
//!
//! A [`Problem`] knows the key, the line and what was expected. It never holds a value that came out of a
//! variable or that stands where a secret belongs: types and checks are written so that they do not repeat
//! values, and what they say is searched for such values once more.
//!
//! # Example
//!
//! ```
//! use proactions_config::Loader;
//!
//! let text = "
//! hub:
//!   port: ${PORT-3000}
//! targets:
//!   - id: probe
//!     provider: echo
//! ";
//! let loaded = Loader::from_text("config.yaml", text).env([("PORT", "8080")]).load()?;
//! assert_eq!(loaded.policies.public.port, 8080);
//! // Authentication is off, so only this machine is served, and a warning says so.
//! assert_eq!(loaded.policies.public.host, "127.0.0.1");
//! assert!(loaded.warnings.iter().any(|warning| warning.key == "auth.enabled"));
//! # Ok::<(), proactions_config::Report>(())
//! ```
//!
//! From a file, with the environment of the process:
//!
//! ```
//! use proactions_config::Loader;
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("config.yaml");
//! # std::fs::write(&path, "hub:\n  port: '80'\n")?;
//! match Loader::new(&path).process_env().load() {
//!     Ok(loaded) => println!("read {:?}", loaded.files_read),
//!     Err(report) => eprintln!("{report}"),
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Deployment caveats
//!
//! - The environment of a process does not change while it runs. A secret that is to be rotated without a
//!   restart belongs into `.env` or into a file that `NAME_FILE` names; [`Loader::load`] reads both anew.
//! - Files with secrets in them should be readable by their owner alone. A `.env` or a private key that others can
//!   read, and a configuration that others can read and that holds a secret in clear text, are warned about and not
//!   refused: the mode of a read-only mount often cannot be changed. The key of `hub.tls` is the hub's to judge.
//! - A relative path in `NAME_FILE` starts at the working directory of the process, not at the file.
//! - What stands in a variable is a secret to this crate, whatever it is used for: `[hidden]` stands in
//!   messages where another crate's words repeat it.
//!
//! # Compared with ProActions Hub on Node
//!
//! | there | here |
//! |---|---|
//! | a variable that is not set becomes empty | a problem, unless a default is given |
//! | a missing cookie secret becomes a random one | a problem |
//! | `${NAME}` and `${NAME-default}` | `${NAME:-default}`, `$${` and `NAME_FILE` as well |
//! | an empty section (`hub:`) is allowed | a problem, as for every key without a value |
//! | a number in quotes is converted in some places and misread in others | a problem with the mend |
//! | `50m`, `frameguard: deny` and misspelt options are misread or passed over | problems |

mod config;
mod de;
mod env_file;
mod expand;
mod files;
mod loader;
mod node;
mod problem;
mod secrets;
mod sections;
mod sources;
mod typed;
mod yaml;

pub use config::{Config, Policies};
pub use loader::{Loaded, Loader};
pub use problem::{Problem, Report};
pub use sections::{
    ClientCertificates, HealthConfig, HealthSettings, HubConfig, KeyPermissions, ListenAddress,
    ListenerConfig, ListenerSettings, MetricsConfig, SecurityConfig, TlsConfig, TlsConfigVersion,
    TlsSettings, TlsSuite, ValidationConfig,
};
