use proactions_edge::JsonRejection;
use tower_layer::Layer;

use crate::policy::{Place, RateLimitPolicy};
use crate::service::RateLimit;

/// Applies a [`RateLimitPolicy`] to the services that it wraps. See the [crate documentation](crate).
#[derive(Clone, Debug)]
#[must_use]
pub struct RateLimitLayer<R = JsonRejection> {
    policy: RateLimitPolicy,
    place: Place,
    renderer: R,
}

impl RateLimitLayer {
    /// The limits by address: the deny list, the general limit and the rules with `by: ip`.
    ///
    /// It stands outside of the entry check, which it protects against guessing.
    pub const fn by_address(policy: RateLimitPolicy) -> Self {
        Self::new(policy, Place::Address)
    }

    /// The limits by caller: the rules with `by: user` and `by: target`.
    ///
    /// It stands inside of the entry check, which inserts the
    /// [`Principal`](proactions_edge::Principal).
    pub const fn by_caller(policy: RateLimitPolicy) -> Self {
        Self::new(policy, Place::Caller)
    }

    const fn new(policy: RateLimitPolicy, place: Place) -> Self {
        Self {
            policy,
            place,
            renderer: JsonRejection,
        }
    }
}

impl<R> RateLimitLayer<R> {
    /// Renders refusals with `renderer` instead of as JSON.
    pub fn rendering<Other>(self, renderer: Other) -> RateLimitLayer<Other> {
        RateLimitLayer {
            policy: self.policy,
            place: self.place,
            renderer,
        }
    }
}

impl<S, R: Clone> Layer<S> for RateLimitLayer<R> {
    type Service = RateLimit<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit::new(
            inner,
            self.policy.clone(),
            self.place,
            self.renderer.clone(),
        )
    }
}
