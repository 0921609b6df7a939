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
mod examples;
mod guide;
mod harness;
mod headers;
mod http2;
mod limits;
mod listener;
mod paths;
mod quickstart;
mod sessions;
