//! Numbers as header values.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;

/// How many numbers have their digits ready.
const READY: usize = 10_000;

/// The decimal digits of 0 to 9999, right-aligned in four bytes each.
#[allow(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which checks it"
)]
static DIGITS: [[u8; 4]; READY] = {
    let mut table = [[b'0'; 4]; READY];
    let mut n = 1;
    while n < READY {
        // The number before, plus one, with carries.
        let mut digits = table[n - 1];
        let mut place = 3;
        while digits[place] == b'9' {
            digits[place] = b'0';
            place -= 1;
        }
        digits[place] += 1;
        table[n] = digits;
        n += 1;
    }
    table
};

/// A number as a header value, such as a `Content-Length`: below 10,000 without an allocation, and hardly ever with one.
#[must_use]
pub fn decimal(n: u64) -> HeaderValue {
    let zeros = match n {
        0..10 => 3,
        10..100 => 2,
        100..1000 => 1,
        _ => 0,
    };
    let ready = usize::try_from(n)
        .ok()
        .and_then(|n| DIGITS.get(n)?.get(zeros..))
        .and_then(|digits| HeaderValue::from_maybe_shared(Bytes::from_static(digits)).ok());
    ready.unwrap_or_else(|| long_number(n))
}

/// The digits of any number, without the formatting machinery.
fn long_number(n: u64) -> HeaderValue {
    let mut digits = [*b"0000"; 5];
    let mut rest = n;
    for four in digits.iter_mut().rev() {
        let ready = usize::try_from(rest % 10_000).unwrap_or_default();
        *four = *DIGITS.get(ready).unwrap_or(b"0000");
        rest /= 10_000;
        if rest == 0 {
            break;
        }
    }
    let digits = digits.as_flattened();
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let digits = digits.get(zeros..).unwrap_or_default();
    // A thread makes room for many numbers at once, which saves an allocation for each.
    let value = SLAB.try_with(|slab| {
        let mut slab = slab.borrow_mut();
        if slab.capacity() < digits.len() {
            *slab = BytesMut::with_capacity(SLAB_LEN);
        }
        slab.extend_from_slice(digits);
        HeaderValue::from_maybe_shared(slab.split().freeze())
    });
    // Digits are always a value, and a thread that ends sends none.
    value
        .ok()
        .and_then(Result::ok)
        .unwrap_or_else(|| HeaderValue::from(n))
}

/// How many bytes of digits a thread makes room for.
const SLAB_LEN: usize = 512;

thread_local! {
    static SLAB: RefCell<BytesMut> = RefCell::default();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_written_in_full(n in prop_oneof![0_u64..20_000, any::<u64>()]) {
            let value = decimal(n);
            prop_assert_eq!(value.to_str().unwrap(), n.to_string());
        }
    }
}
