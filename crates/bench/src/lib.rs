//! What each layer costs a request, beside the public crates that do the same.
//!
//! A [`Case`] is a service that answers one kind of request in memory, and can do so any number of times. The
//! binary `bench-layers` (run it through `scripts/bench-layers`) takes the time, the heap allocations and the
//! instructions of each; the test `budgets` holds the allocations of our own layers to their budget.
//!
//! The services behind the layers are the same everywhere: [`Bare`] answers 200 with 600 bytes. What a case costs
//! beyond the bare service on the same request is the cost of its layers.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot be set up has no result"
)]

mod bare;
mod case;
mod ours;
mod peers;

pub use bare::{Bare, Kind};
pub use case::{Case, MEASURED};

use case::block_on;

/// Most allocations that the security stack may add to a request.
pub const STACK_ALLOCATIONS: f64 = 8.0;
/// Most instructions that the security stack may add to a request.
pub const STACK_INSTRUCTIONS: f64 = 11_000.0;
/// Most allocations that an access log line may add to a request.
pub const LOG_LINE_ALLOCATIONS: f64 = 4.0;
/// The name of the case that has every layer of the security stack.
pub const STACK: &str = "security-stack";
/// The name of the case that has the access log.
pub const LOG_LINE: &str = "access-log";

/// Every case: the bare service for each kind of request, our layers, their peers.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = Kind::ALL
        .into_iter()
        .map(|kind| Case::new(kind.baseline(), kind, Bare))
        .collect();
    cases.extend(ours::cases());
    cases.extend(peers::cases());
    cases
}

/// The case of that name.
#[must_use]
pub fn find(name: &str) -> Option<Case> {
    cases().into_iter().find(|case| case.name() == name)
}
