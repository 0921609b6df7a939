# The scripts do the work; these are short names for them.

default:
    @just --list

# Serve without a file or a provider key.
quickstart:
    cargo run --release -- quickstart

test:
    scripts/test

# Unit, property, documentation and black-box tests, without the SDKs.
test-quick:
    scripts/test --quick

# The official openai SDKs and curl against a running hub.
e2e:
    scripts/e2e

# Sessions that express-session on Node and the layer here read from each other.
interchange:
    scripts/interchange

# The deployments in examples/containers: nginx, HAProxy and Redis in front of and beside a running hub, and lints.
check-examples:
    scripts/check-examples

# testssl.sh against the hub's TLS: a few minutes.
testssl:
    scripts/testssl

ci:
    .ci/run

bench-layers:
    scripts/bench-layers

# Each fuzz target for a minute, or those named; FUZZ_SECONDS changes the time.
fuzz *targets:
    scripts/fuzz {{targets}}

# The hub end to end beside its peers.
bench-hub:
    scripts/bench-hub

fmt:
    cargo fmt --all

lint:
    cargo clippy --workspace --all-targets --all-features -- -D warnings

doc:
    cargo doc --workspace --all-features --no-deps

# Needs `cargo install cargo-deny`.
deny:
    cargo deny check bans licenses sources
