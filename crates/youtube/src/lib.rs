//! Configuration of the YouTube routes: accounts, and where their tokens are kept.
//!
//! [`YoutubeConfig`] is exactly what the section `youtube` of a file says. [`YoutubeAccounts`] is the same,
//! checked: it cannot hold two accounts of one id, a redirect that Google would refuse, or a token file
//! outside of its directory.
//!
//! # What is checked
//!
//! 1. `accounts` holds at least one account, and no two with the same `id`. An id is 1 to 64 of
//!    `A-Z a-z 0-9 . _ -` and not dots alone, because it becomes part of a file's name.
//! 2. `client_id` and `client_secret` are not empty.
//! 3. `redirect_uri` is an absolute `https` URL without a fragment; `http` is allowed for `localhost`,
//!    `127.0.0.1` and `[::1]`, as it is at Google.
//! 4. `scope` is not empty. Unless set it is the least that an upload needs,
//!    `https://www.googleapis.com/auth/youtube.upload`.
//! 5. `token_storage_file` is a file's name without a directory, and holds `{id}`, so that each account has
//!    a file of its own.
//! 6. `endpoints` are absolute `https` URLs (`http` for the same three hosts).
//!
//! # Example
//!
//! ```
//! use proactions_youtube::{YoutubeAccount, YoutubeAccounts, YoutubeConfig};
//!
//! let mut account = YoutubeAccount::default();
//! account.id = "main".into();
//! account.client_id = "1234.apps.googleusercontent.com".into();
//! account.client_secret = "a secret".into();
//! account.redirect_uri = "https://hub.example.com/youtube/auth/google/callback".into();
//! let mut config = YoutubeConfig::default();
//! config.accounts.push(account);
//!
//! let accounts = YoutubeAccounts::try_from(config).unwrap();
//! assert_eq!(
//!     accounts.token_file("main").unwrap().to_str(),
//!     Some("./tokens/youtube_token_main.json")
//! );
//! ```
//!
//! # Deployment caveats
//!
//! The directory of the token files holds refresh tokens, which act for the account until they are revoked.
//! Give it to the user that runs the service and to nobody else.

mod accounts;
mod config;

pub use accounts::YoutubeAccounts;
pub use config::{YoutubeAccount, YoutubeConfig, YoutubeEndpoints};
