use std::sync::{Arc, OnceLock};

use crate::Principal;

/// What inner layers tell the access log about the exchange under way.
///
/// The access log stands outside of the layer that finds out who is calling. It inserts an `Exchange` into
/// the request's extensions and keeps a clone; what is noted in one is read from the other.
#[derive(Clone, Debug, Default)]
pub struct Exchange(Arc<Notes>);

impl Exchange {
    /// An exchange without notes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes who is calling. Only the first note counts.
    pub fn note_principal(&self, principal: Principal) {
        let _ = self.0.principal.set(principal);
    }

    /// Who is calling, once that is known.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        self.0.principal.get()
    }
}

#[derive(Debug, Default)]
struct Notes {
    principal: OnceLock<Principal>,
}
