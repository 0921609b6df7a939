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
//!    unread), in UTF-8, with or without a byte order mark, as it is or in one of `gzip` and `deflate`. Another
//!    `charset` or coding: 415. Not JSON, or a member twice at the top: 400. Longer than [`AiLink::max_body`], or
//!    than 10 MiB when decompressed: 413.
//! 4. **The target's options** are put under it: a member that the request has is left alone, whatever its value;
//!    nothing is merged within a member. The request's own bytes are not written anew, so numbers, escapes and
//!    members unknown to this crate arrive as they were sent, but for chats that are translated (see below).
//!    `stream_options` is added to streams only.
//! 5. **The header** loses the client's credentials, cookies, address and page, `x-target`, and everything that
//!    would act as a credential at the provider; it gains the target's. `x-request-id` becomes the request's
//!    [`RequestId`](proactions_edge::RequestId). The query travels with `GET /v1/models` alone, to providers that speak
//!    OpenAI's protocol and without what would act as a credential there.
//! 6. **The answer** passes through, the provider's own 4xx and 5xx included. No connection: 502. No answer in the
//!    target's `requestTimeout`: 504, or 408 where the client is what is waited for. A redirect is not followed: 502.
//!    Cookies, server names, CORS and account headers are dropped.
//! 7. **Streams** pass piece by piece, byte for byte. When the provider breaks off, the stream of events ends with
//!    `data: {"error":{"message":…,"type":"upstream_error","code":…}}`; any other body is cut.
//! 8. **A client that leaves** ends the provider's call.
//! 9. **One event** with the target `aiLink` is logged when the answer has ended, in whichever way: `target`,
//!    `provider`, `model`, `promptTokens`, `completionTokens`, `totalTokens`, `duration` (ms), `stream`,
//!    `statusCode`, `requestId`, `username`; where it did not end well `outcome` and `error`; `prompt` and
//!    `response` only where asked for. The counts are read from the answer while it passes; nothing is held back.
//!
//! 10. **A strategy** in the place of a provider makes a target a tree. `single` takes the first, `fallback` the next
//!     one when there is no answer or one with a failing status, `loadbalance` each by its weight. Before each call
//!     the provider's options go under the request and its `override_params` over it. Only the head of an answer is
//!     judged: nothing is tried again once it was passed on, and a form only while nothing of it was sent. When
//!     none is left, the last answer counts. Each attempt but the last leaves an event of its own; all have
//!     `targetPath` (`main/1`, counted from 0) and `attempt` (from 1).
//! 11. **Retries**, where configured: 250 to 500 ms later, then twice as long each time up to 8 s; `Retry-After` is
//!     kept to, up to 60 s. All attempts at a provider have to fit into its `requestTimeout`; only sending a long JSON
//!     body, or a form, may take the last one longer.
//! 12. **A circuit breaker** guards each provider ([`BreakerConfig`]): after five failures in a row it gets no calls for
//!     ten seconds, then one as a probe, and another one where a probe takes longer than ten seconds. Until then: the
//!     next target, or 503 with `Retry-After`. A client that stalls says nothing about a provider. [`Breakers`] keep
//!     their state when a new configuration takes over. Gauge `hub_ailink_breaker_state{target}`: 0 closed, 1 probing,
//!     2 open.
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
//! | `azure-openai` | `apiKey`, and `azureResourceName`, `azureRegion` or `endpoint` | the deployment that `azureDeploymentId` or the model names |
//! | `custom` | `endpoint`, with `{path}` where the rest of the path belongs | there |
//! | `echo` | nothing | nowhere: for first runs and probes |
//! | `anthropic` | `apiKey` | Anthropic's Messages API, or `endpoint` |
//! | `bedrock` | `awsRegion`, and `awsAccessKeyId` with `awsSecretAccessKey`, or `apiKey` | Bedrock's Converse API, or `endpoint` |
//! | `vertex-ai` | `vertexProjectId`, `vertexRegion`, and `vertexServiceAccountJson`, or `apiKey` with an access token | Vertex AI, or `endpoint` |
//!
//! # Providers with a protocol of their own
//!
//! Chats for `anthropic`, for `bedrock` and for Anthropic's models at `vertex-ai` are translated, and so are their
//! answers. Where this happens:
//!
//! 1. Only `/v1/chat/completions` is served, and `/v1/models` for `anthropic`. Anything else is a 400 that says so.
//! 2. No field of the client's header travels. The provider gets its own credential, its version and the target's
//!    `headers`.
//! 3. Turns of one role in a row become one, system and developer messages become the system prompt, results of
//!    tools become a user's turn, empty texts are left out.
//! 4. A member that the provider has no word for is left out if it only tunes the answer (`seed`), and refused with
//!    400 if the answer would be another one (`n`, audio, `json_object`).
//! 5. `max_tokens` is 4096 where Anthropic's API needs one and neither request nor target names it.
//! 6. Images are passed on, never fetched: `data:` URLs everywhere, `https:` URLs where the provider fetches them.
//! 7. Streams are translated piece by piece. An error in the middle ends the stream with one event; so does a stream
//!    without its proper end, or with a wrong checksum.
//! 8. Token counts contain what was read from and written to the provider's cache.
//! 9. Errors keep their status; the body becomes `{"error": {"message", "type", …}}`. A 200 that cannot be read is a 502.
//! 10. Bedrock's requests are signed with AWS Signature Version 4; a model's name is one segment of the path,
//!     whatever it holds.
//! 11. A chat, the arguments of its calls included, may hold 100,000 values: more is a 400, and in an answer a 502. That
//!     holds for `echo` too, as these alone make a tree of what they read.
//! 12. A service account's access token is fetched once for all, five minutes before the old one ends. While Google
//!     does not answer, the old one serves until its last half minute; without one the answer is 502.
//!
//! # Deployment caveats
//!
//! * Put a body limit and authentication before this service: it has neither, beyond its cap on JSON bodies.
//! * Streams carry token counts only if the provider sends them. For OpenAI that takes
//!   `stream_options: {include_usage: true}`, in the request or in the target's options; clients then get one more
//!   event, whose `choices` is empty.
//! * `requestTimeout` also bounds the silence between two parts of an answer; to send a long JSON body a second for each
//!   256 KiB is added. Give targets whose models think for long a long one.
//! * Whoever may call a target may use every model that its key may use, unless the provider restricts the key.
//! * A call that failed may have been done, and charged for, at the provider: `retry` and `fallback` may do it twice.
//! * One client's requests can open a breaker for all clients, if nobody else's succeed in between. A target that
//!   many use for odd requests may want more `failures`.
//! * `override_params` do not reach into forms (transcriptions, translations): these pass unread.
//! * `logPrompt` and `logResponse` write what people typed into the log.
//! * A provider's 401 or 403 passes through, although it is this program's key that was refused: watch for it in
//!   the log rather than at the clients.
//!
//! # Compared with Portkey's gateway
//!
//! * The upstream comes from the configuration alone. There is no header and no body member that names a host.
//! * No answer waits for a second chunk, and none is written anew that is OpenAI's already.
//! * A client's headers are not copied to the provider unless they are harmless; `Authorization` never is.
//! * A strategy's `override_params` keep their name; a target's `options` are defaults, which the request overrides.

#![allow(clippy::result_large_err, reason = "a refusal is rare, and moved once")]

mod call;
mod config;
mod endpoint;
mod event_stream;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gcp_token;
mod merge;
mod meter;
mod providers;
mod service;
mod sigv4;
mod strategy;
mod tally;
mod target;
mod translate;
mod tree;

pub use config::{
    BreakerConfig, Mode, ModeConfig, NestedTargetConfig, RetryConfig, StrategyConfig, TargetConfig,
    check_targets,
};
pub use endpoint::{Endpoint, route};
pub use service::{AiLink, AiLinkFuture};
pub use strategy::breaker::Breakers;
pub use target::Targets;
