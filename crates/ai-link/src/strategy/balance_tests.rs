use proptest::prelude::*;

use super::*;

fn shares(weights: &[f64], begin: u64, requests: usize, without: u64) -> Vec<usize> {
    let balance = Balance::beginning_at(weights.iter().copied(), begin);
    let mut counts = vec![0; weights.len()];
    for _ in 0..requests {
        let mut place = balance.place();
        let mut avoided = 0;
        // As a walk does it: that one is not available is found out after it was picked.
        while let Some(index) = balance.pick(&mut place, avoided) {
            if without & (1 << index) == 0 {
                counts[index] += 1;
                break;
            }
            avoided |= 1 << index;
        }
    }
    counts
}

#[test]
fn ten_thousand_requests_follow_the_weights() {
    for weights in [
        &[0.7, 0.3][..],
        &[1.0, 1.0, 1.0],
        &[98.0, 1.0, 1.0],
        &[0.0, 5.0, 0.0, 15.0],
        &[1.0],
        &[1e308, 1e308],
    ] {
        let whole: f64 = weights.iter().map(|weight| weight / 2.0).sum();
        let counts = shares(weights, 12345, 10_000, 0);
        assert_eq!(counts.iter().sum::<usize>(), 10_000);
        for (weight, count) in weights.iter().zip(&counts) {
            let due = weight / 2.0 / whole * 10_000.0;
            let off = (*count as f64 - due).abs();
            assert!(off <= 0.02 * due, "{weights:?}: {counts:?}");
            assert!(*weight > 0.0 || *count == 0);
        }
    }
}

#[test]
fn the_share_of_one_that_is_not_there_goes_to_the_others_by_weight() {
    let counts = shares(&[4.0, 3.0, 3.0], 9, 10_000, 0b001);
    assert_eq!(counts[0], 0);
    assert!(counts[1].abs_diff(5_000) < 100, "{counts:?}");
    assert_eq!(counts[1] + counts[2], 10_000);
    assert_eq!(shares(&[1.0, 1.0], 0, 10, 0b11), [0, 0]);
    assert_eq!(shares(&[1.0, 0.0], 0, 10, 0b01), [0, 0]);
}

proptest! {
    #[test]
    fn shares_follow_any_weights(
        weights in prop::collection::vec(prop_oneof![Just(0.0), 0.01..100.0], 1..8),
        begin: u64,
    ) {
        let whole: f64 = weights.iter().sum();
        let counts = shares(&weights, begin, 10_000, 0);
        for (weight, count) in weights.iter().zip(&counts) {
            let due = if whole > 0.0 { weight / whole * 10_000.0 } else { 0.0 };
            // A few requests of ten thousand.
            prop_assert!((*count as f64 - due).abs() <= 20.0, "{weights:?}: {counts:?}");
            prop_assert!(*weight > 0.0 || *count == 0);
        }
    }

    #[test]
    fn a_pick_is_one_that_may_be_picked(
        weights in prop::collection::vec(prop_oneof![Just(0.0), 0.0..f64::MAX], 0..70),
        begin: u64,
        without: u64,
    ) {
        let balance = Balance::beginning_at(weights.iter().copied(), begin);
        let mut place = balance.place();
        match balance.pick(&mut place, without) {
            Some(index) => {
                prop_assert!(weights[index] > 0.0 && without & (1 << index) == 0);
                prop_assert!((0.0..1.0).contains(&place.0));
            }
            None => prop_assert!(weights.iter().take(64).enumerate().all(
                |(index, weight)| *weight <= 0.0 || without & (1 << index) != 0
            )),
        }
    }
}
