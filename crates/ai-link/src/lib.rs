//! A gateway service for OpenAI's API: `/v1/*` in, any of the configured providers out.
//!
//! Clients talk to one address with the official SDKs and name a target in the header `x-target`. The provider's
//! address, key and default options stand in the configuration; no request can change the first two.
//!
//! # What happens to a request
//!
//! 1. **Path and method** must be one of [`Endpoint::ALL`], spelt exactly: else 404, or 405 with `Allow`.
//! 2. **The target** is the one that `x-target` names. Without the header it is the only target, if there is
//!    just one. Missing or given twice: 400. Unknown: 404 `Target not found: xyz`.
//! 3. **The body** must be a JSON object (for transcriptions and translations `multipart/form-data`, which passes
//!    unread). Not JSON, a member twice at the top, or compressed: 400. Longer than [`AiLink::max_body`]: 413.
//! 4. **The target's options** are put under it: a member that the request has is left alone, whatever its value;
//!    nothing is merged within a member. The request's own bytes are not written anew, so numbers, escapes and
//!    members unknown to this crate arrive as they were sent. `stream_options` is added to streams only.
//! 5. **The header** loses the client's credentials, cookies, address and page, `x-target`, and everything that
//!    would act as a credential at the provider; it gains the target's. `x-request-id` becomes the request's
//!    [`RequestId`](proactions_edge::RequestId). The query is not passed on.
//! 6. **The answer** passes through, the provider's own 4xx and 5xx included. No connection: 502. No answer in the
//!    target's `requestTimeout`: 504. A redirect is not followed: 502. Cookies, server names, CORS and account
//!    headers are dropped.
//! 7. **Streams** pass piece by piece, byte for byte. When the provider breaks off, the stream of events ends with
//!    `data: {"error":{"message":…,"type":"upstream_error","code":…}}`; any other body is cut.
//! 8. **A client that leaves** ends the provider's call.
//! 9. **One event** with the target `aiLink` is logged when the answer has ended, in whichever way: `target`,
//!    `provider`, `model`, `promptTokens`, `completionTokens`, `totalTokens`, `duration` (ms), `stream`,
//!    `statusCode`, `requestId`, `username`; where it did not end well `outcome` and `error`; `prompt` and
//!    `response` only where asked for. The counts are read from the answer while it passes; nothing is held back.
//!
//! # Example
//!
//! The provider `echo` answers by itself.
//!
//! ```
//! use http::Request;
//! use http_body_util::BodyExt;
//! use proactions_ai_link::{AiLink, TargetConfig, Targets};
//! use proactions_forward::{Body, HttpClient, HttpClientConfig};
//! use tower::ServiceExt;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let targets = Targets::try_from(vec![TargetConfig::new("probe", "echo")])?;
//! let service = AiLink::new(targets, HttpClient::without_tls(&HttpClientConfig::default()));
//!
//! let request = Request::post("/v1/chat/completions")
//!     .header("x-target", "probe")
//!     .header("content-type", "application/json")
//!     .body(Body::from(r#"{"messages":[{"role":"user","content":"Hello"}]}"#))?;
//! let answer = service.oneshot(request).await?;
//!
//! let body = answer.into_body().collect().await?.to_bytes();
//! let body: serde_json::Value = serde_json::from_slice(&body)?;
//! assert_eq!(body["choices"][0]["message"]["content"], "Hello");
//! # Ok::<_, Box<dyn std::error::Error + Send + Sync>>(()) }).unwrap();
//! ```
//!
//! # Configuration
//!
//! [`TargetConfig`] is one entry of a configuration's `targets` (feature `config` reads it with serde).
//! [`Targets`] are ready to be called; every problem of every target is reported at once.
//!
//! ```
//! use proactions_ai_link::{TargetConfig, Targets};
//! use proactions_edge::SecretString;
//!
//! let mut azure = TargetConfig::new("news", "azure-openai");
//! azure.api_key = Some(SecretString::from("…"));
//! azure.azure_resource_name = Some("publisher.example.com#".to_owned());
//! azure.azure_deployment_id = Some("gpt-4.1".to_owned());
//! let problems = Targets::try_from(vec![azure.clone()]).unwrap_err();
//! assert!(problems.to_string().contains("[0].azureResourceName: expected letters, digits and - only"));
//!
//! azure.api_key = Some(SecretString::from("key"));
//! azure.azure_resource_name = Some("publisher".to_owned());
//! assert!(Targets::try_from(vec![azure]).is_ok());
//! ```
//!
//! | provider | needs | goes to |
//! |---|---|---|
//! | `openai`, and every name in the table of compatible providers | `apiKey` (`ollama`: none) | its public address, or `endpoint` |
//! | `workers-ai` | `apiKey`, `workersAiAccountId` | Cloudflare, or `endpoint` |
//! | `azure-openai` | `apiKey`, `azureDeploymentId`, and `azureResourceName`, `azureRegion` or `endpoint` | the deployment |
//! | `custom` | `endpoint`, with `{path}` where the rest of the path belongs | there |
//! | `echo` | nothing | nowhere: for first runs and probes |
//! | `anthropic`, `bedrock`, `vertex-ai`, and `config` with strategies | | checked, not served by this version yet |
//!
//! # Deployment caveats
//!
//! * Put a body limit and authentication before this service: it has neither, beyond its cap on JSON bodies.
//! * Streams carry token counts only if the provider sends them. For OpenAI that takes
//!   `stream_options: {include_usage: true}`, in the request or in the target's options; clients then get one more
//!   event, whose `choices` is empty.
//! * `requestTimeout` also bounds the silence between two parts of an answer. Give targets whose models think for
//!   long a long one.
//! * Whoever may call a target may use every model that its key may use, unless the provider restricts the key.
//! * `logPrompt` and `logResponse` write what people typed into the log.
//! * A provider's 401 or 403 passes through, although it is this program's key that was refused: watch for it in
//!   the log rather than at the clients.
//!
//! # Compared with Portkey's gateway
//!
//! * The upstream comes from the configuration alone. There is no header and no body member that names a host.
//! * No answer waits for a second chunk, and none is parsed and written anew.
//! * A client's headers are not copied to the provider unless they are harmless; `Authorization` never is.
//! * A strategy's `override_params` keep their name; a target's `options` are defaults, which the request overrides.

#![allow(clippy::result_large_err, reason = "a refusal is rare, and moved once")]

mod config;
mod endpoint;
mod merge;
mod meter;
mod providers;
mod service;
mod tally;
mod target;

pub use config::{
    Mode, ModeConfig, NestedTargetConfig, RetryConfig, StrategyConfig, TargetConfig, check_targets,
};
pub use endpoint::{Endpoint, route};
pub use service::{AiLink, AiLinkFuture};
pub use target::Targets;
