//! The hub as its users meet it: the binary, over real sockets. One file a promise.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod ai_link;
mod bad_config;
mod canaries;
mod drain;
mod edapi;
mod egress;
mod examples;
mod floods;
mod forward;
mod forward_messages;
mod guide;
mod harness;
mod headers;
mod healthcheck;
mod http2;
mod internal;
mod limits;
mod listener;
mod metrics;
mod paths;
mod providers;
mod quickstart;
mod redis;
mod reload;
mod sessions;
mod smuggling;
mod strategies;
mod tls;
mod youtube;
