//! Shares requests out by weight.
//!
//! The n-th request takes the place `n·φ mod 1` on a line on which each target has a section as long as its
//! weight. Such places are spread more evenly than random ones: after n requests every target is within a few
//! requests of its share, at the price of one atomic addition, and without a lock or a list that could drift.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// 2⁶⁴ divided by the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The weights of a strategy's targets, and how many requests were shared out.
#[derive(Debug)]
pub(crate) struct Balance {
    weights: Box<[f64]>,
    count: AtomicU64,
}

impl Balance {
    /// Several hubs with one configuration begin at different places.
    pub(crate) fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        Self::beginning_at(weights, RandomState::new().hash_one(STEP))
    }

    pub(crate) fn beginning_at(weights: impl IntoIterator<Item = f64>, count: u64) -> Self {
        Self {
            weights: weights.into_iter().collect(),
            count: AtomicU64::new(count),
        }
    }

    /// The next request's place.
    pub(crate) fn place(&self) -> Place {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        Place(fraction(count.wrapping_mul(STEP)))
    }

    /// The target at a place, of those that are not in `without` (a bit for each). One of weight 0 is never
    /// picked.
    ///
    /// The place becomes where in that target's section it was. So whoever cannot be served there is shared
    /// out among the others by their weights once more.
    pub(crate) fn pick(&self, place: &mut Place, without: u64) -> Option<usize> {
        let open = |index: usize| index < 64 && without & (1 << index) == 0;
        let sections = || {
            self.weights
                .iter()
                .copied()
                .enumerate()
                .filter(move |(index, weight)| open(*index) && *weight > 0.0)
        };
        // Weights may be too large for their sum.
        let largest = sections().map(|(_, weight)| weight).fold(0.0, f64::max);
        let whole: f64 = sections().map(|(_, weight)| weight / largest).sum();
        let at = place.0 * whole;
        let mut begin = 0.0;
        let mut picked = None;
        for (index, weight) in sections() {
            let length = weight / largest;
            picked = Some(index);
            let within = (at - begin) / length;
            begin += length;
            if at < begin {
                place.0 = within.clamp(0.0, 1.0 - f64::EPSILON);
                return picked;
            }
        }
        // Rounding can leave the very end of the line to nobody.
        place.0 = 0.0;
        picked
    }
}

/// From 0 up to, and without, 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Place(f64);

/// A number as a part of 2⁶⁴; a double holds 53 of its bits.
#[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
pub(crate) fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
#[path = "balance_tests.rs"]
mod tests;
