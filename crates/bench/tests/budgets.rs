//! The allocations that our layers may add to a request, counted without valgrind. Instructions and times are in
//! `scripts/bench-layers`.

#![allow(clippy::panic, reason = "a test")]

use proactions_bench::{Case, LOG_LINE, LOG_LINE_ALLOCATIONS, STACK, STACK_ALLOCATIONS, find};

const ITERATIONS: u32 = 500;

fn case(name: &str) -> Case {
    find(name).unwrap_or_else(|| panic!("no case {name}"))
}

/// Allocations of one request of a case, on its own thread.
fn allocations(name: &str) -> f64 {
    let case = case(name);
    case.warm_up(50);
    let counted = allocation_counter::measure(|| case.run(ITERATIONS));
    counted.count_total as f64 / f64::from(ITERATIONS)
}

fn added(name: &str) -> f64 {
    allocations(name) - allocations(case(name).baseline())
}

#[test]
fn the_security_stack_keeps_its_budget() {
    let added = added(STACK);
    assert!(added <= STACK_ALLOCATIONS + 0.05, "{added} allocations");
}

#[test]
fn an_access_log_line_keeps_its_budget() {
    let added = added(LOG_LINE);
    assert!(added <= LOG_LINE_ALLOCATIONS + 0.05, "{added} allocations");
}

#[test]
fn the_bare_service_is_measured_too() {
    assert!(allocations("bare") > 0.0);
}
