//! YouTube accounts for a service: consent at Google (OAuth 2.0 with PKCE), token files, resumable uploads.
//!
//! [`YoutubeConfig`] is exactly what the section `youtube` of a file says. [`YoutubeAccounts`] is the same,
//! checked. [`YouTube`] is the service at [`Endpoint::ALL`]. It asks nobody for credentials: put it behind
//! something that does, and let only [`Endpoint::Callback`] through without.
//!
//! # What happens to a request
//!
//! 1. **The account** is the one that `x-target` names, or the only one. Missing or given twice: 400. Unknown: 404.
//! 2. **`GET /youtube/auth/google`** answers `{"authUrl":"…"}` and sets a cookie. The URL holds a `state` of 256
//!    random bits and a PKCE challenge (RFC 7636, S256). State, cookie and verifier live for ten minutes, the first
//!    two as keyed digests.
//! 3. **`GET /youtube/auth/google/callback`** needs the state and the cookie of the browser that began. Missing,
//!    wrong, used, expired, from another browser, or with `error`: 400, and Google is not called. A state is used
//!    up by whoever shows it first. Then the code is exchanged, with the verifier and the exact `redirect_uri`.
//!    The answer is a page without scripts where `Accept` names `text/html`, else JSON.
//! 4. **The cookie** is `__Host-proactions_oauth`, `Secure`, `HttpOnly`, `SameSite=Lax`. A browser does not take it
//!    over plain HTTP, so a request that is known to have come that way gets `proactions_oauth` without `Secure`.
//!    A request without a [`ClientInfo`](proactions_edge::ClientInfo) counts as HTTPS.
//! 5. **Tokens** are in one file for each account, `access_token`, `refresh_token`, `scope`, `token_type` and
//!    `expiry_date` (ms). It is created with mode 600 under another name in a directory of mode 700 and then
//!    renamed, so nobody else can read it at any moment, and nobody ever finds a part. Members that are not
//!    known stay. A file that others can read is closed to them, with an event, and so is the directory if it
//!    is this program's own and not sticky.
//! 6. **Renewal** comes 60 s before the end, once for all requests that wait for it. `invalid_grant` deletes the file:
//!    the account is not connected any more.
//! 7. **`GET /youtube/auth/status`** answers `{"authenticated":true,"target":"main"}` from the file alone.
//! 8. **`POST /youtube/auth/logout`** revokes at Google, then deletes the file, also when Google does not answer; the
//!    answer's `revoked` tells. A damaged file is deleted and `revoked` is false, with a `message`; one that cannot be
//!    read stays, and the answer is 500.
//! 9. **`POST /youtube/upload`** takes `multipart/form-data`: the fields of the video first, each by its name in the
//!    YouTube Data API (`title`, `description`, `tags`, `categoryId`, `privacyStatus`, `publishAt`, …) or all of them as
//!    JSON in `metadata`; then `video`, and before or after it `thumbnail` (JPEG or PNG, 2 MiB). `title` is required,
//!    `privacyStatus` is `private` unless set. The answer is `{"id":…,"target":…,"thumbnail":"set","video":{…}}`.
//! 10. **The video** is sent on in chunks of 8 MiB, which is what an upload holds in memory. A chunk that fails is sent
//!     again from where YouTube says that it got to; after five failures in a row the answer is 502 or 504. The last
//!     chunk is sent when the whole form is there and good, so a broken upload never becomes a video.
//! 11. **Hosts** come from the configuration. The URL that YouTube gives for an upload must stay on the API's own
//!     scheme, host and port: else 502.
//! 12. **One event** with the target `youtube` is logged for each request: `action`, `target`, `outcome`, `duration` (ms),
//!     `bytes`, `requestId`, `username`, `statusCode` and `error` where it failed. A refused callback is an event
//!     `oauth_state_refused` with the target `security`.
//!
//! # Example
//!
//! ```
//! use http::Request;
//! use http_body_util::BodyExt;
//! use proactions_forward::{Body, HttpClient, HttpClientConfig};
//! use proactions_youtube::{YouTube, YoutubeAccount, YoutubeAccounts, YoutubeConfig};
//! use tower::ServiceExt;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let mut account = YoutubeAccount::default();
//! account.id = "main".into();
//! account.client_id = "1234.apps.googleusercontent.com".into();
//! account.client_secret = "a secret".into();
//! account.redirect_uri = "https://hub.example.com/youtube/auth/google/callback".into();
//! let mut config = YoutubeConfig::default();
//! config.accounts.push(account);
//! # config.token_storage_path = "/nonexistent".into();
//!
//! let accounts = YoutubeAccounts::try_from(config)?;
//! let service = YouTube::new(accounts, HttpClient::without_tls(&HttpClientConfig::default()))?;
//!
//! let request = Request::get("/youtube/auth/status").body(Body::empty())?;
//! let answer = service.oneshot(request).await?.into_body().collect().await?.to_bytes();
//! assert_eq!(answer, r#"{"authenticated":false,"target":"main"}"#);
//! # Ok::<_, Box<dyn std::error::Error + Send + Sync>>(()) }).unwrap();
//! ```
//!
//! # Configuration
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
//! ```
//! use proactions_youtube::{YoutubeAccounts, YoutubeConfig};
//!
//! let mut config = YoutubeConfig::default();
//! config.token_storage_file = "../{id}.json".into();
//! let problems = YoutubeAccounts::try_from(config).unwrap_err();
//! assert_eq!(problems.problems()[0].key, "accounts");
//! assert_eq!(problems.problems()[1].key, "token_storage_file");
//! ```
//!
//! # Deployment caveats
//!
//! * The directory of the token files holds refresh tokens, which act for the account until they are revoked.
//!   Give it to the user that runs the service and to nobody else. One that is there and open to others is closed to
//!   them, unless it belongs to another user or is sticky, as `/tmp` is: then there is only a warning.
//! * States live in memory: the browser has to come back to the process that it began with.
//! * The page that asks for `authUrl` has to be of the same site as this service and to send and take cookies
//!   (`fetch` with `credentials: "include"`): browsers drop the cookie of another site's answer. A browser has one
//!   consent under way at a time; beginning another one replaces it.
//! * Whoever may call the service may upload to every account, connect it and log it out.
//! * Put a body limit before it; it takes videos of any length. Each upload under way holds 8 MiB of its video
//!   and up to 2 MiB of its thumbnail.
//! * Whatever fits into an upload's URL acts for that upload. It is never logged.
//!
//! # Compared with an upload through Google's Node library
//!
//! * The video is never stored on this machine, neither as a file nor in memory as a whole.
//! * `state` and the cookie are checked, and PKCE is always on.
//! * A consent without a refresh token does not keep the one from before, which may belong to another channel.

#![allow(clippy::result_large_err, reason = "a refusal is rare, and moved once")]

mod accounts;
mod config;
mod endpoint;
mod event;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod google;
mod metadata;
mod multipart;
mod service;
mod state;
mod tokens;
mod upload;

pub use accounts::YoutubeAccounts;
pub use config::{YoutubeAccount, YoutubeConfig, YoutubeEndpoints};
pub use endpoint::Endpoint;
pub use service::{YouTube, YouTubeFuture};
