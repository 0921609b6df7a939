//! Servers, clients and processes for the tests of this workspace. A development dependency, never shipped.
//!
//! - [`Upstream`] is an HTTP server in the test's own process. What it answers is a [`Reply`]: a status, headers
//!   and a list of [`Step`]s, so that it can echo, stream, stall, drip, break off or go on for ever. It keeps
//!   every request that it got, and can be asked to wait until something has happened.
//! - [`RawClient`] sends exact bytes and shows what came back, for requests that no proper client would send.
//! - [`HubProcess`] runs a binary and reads its output line by line.
//! - [`RedisServer`] runs a `redis-server`, plain or with TLS, that can be stopped, frozen and started again.
//! - [`Edapi`] stands in for the publisher's service that knows tokens and logins.
//! - [`TlsFront`] puts TLS before a server that speaks none.
//! - [`OutboundProxy`] is an HTTP proxy that can refuse, die, or cut what passes through it.
//! - [`Google`] stands in for Google's OAuth and for YouTube's resumable uploads.
//! - [`TempConfig`] holds a configuration file and what lies beside it.
//!
//! # Time
//!
//! Nothing here needs a sleeping test. A reply that is [gated](Reply::gated) sends its next piece when the test
//! opens the [`Gate`]. An `Upstream` runs on a thread and a run time of its own, so a paused clock in the test does
//! not stop it, and it may be used from a test without a run time too. What a paused clock does do is to fire every
//! deadline of the test's own run time as soon as that waits for nothing but a socket: good for testing time-outs,
//! of no use for anything that is to arrive in time.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use proactions_testkit::{Gate, RawClient, Reply, Upstream};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let gate = Gate::closed();
//! let upstream = Upstream::start(Reply::chat_stream(2).gated(&gate));
//!
//! let mut client = RawClient::connect(upstream.addr()).await.unwrap();
//! client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
//! gate.release(3);
//! let response = client.next_response(Duration::from_secs(10)).await.unwrap();
//! assert_eq!(response.status, 200);
//! assert!(response.body_text().ends_with("data: [DONE]\n\n"));
//! assert_eq!(upstream.requests()[0].body, "{}");
//! # });
//! ```
//!
//! Whatever goes wrong in here panics with a message: the caller is a test.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test kit fails by panicking"
)]

mod edapi;
mod files;
mod google;
mod outbound_proxy;
mod process;
mod raw_client;
mod redis;
mod tls_front;
mod upstream;

pub use edapi::{Edapi, EdapiMode};
pub use files::{ANY_PORT, TempConfig, closed_address};
pub use google::{Google, GoogleCalls, GoogleFault, GoogleVideo};
pub use outbound_proxy::{OutboundMode, OutboundProxy};
pub use process::{HubProcess, raise_open_files_limit};
pub use raw_client::{Ending, RawClient, RawResponse, Transcript};
pub use redis::{RedisServer, RedisServerBuilder, TestCertificates};
pub use tls_front::TlsFront;
pub use upstream::{Connection, Gate, Received, Reply, Step, Upstream, UpstreamBuilder};
