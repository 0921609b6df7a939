use crate::headers::Told;
use crate::key::CounterKey;

/// One limit's counter that a request was counted by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    /// Which of the limits at this place in the stack.
    pub(crate) index: usize,
    pub(crate) key: CounterKey,
}

/// What came of a [`Hit`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) hit: Hit,
    pub(crate) told: Told,
    /// Whether this process counted in place of the store.
    pub(crate) locally: bool,
}

/// What all limits that cover a request said of it.
///
/// The tightest one is all that most header styles need. The others are kept only where something depends on
/// them, so that the usual request allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) tightest: Option<Counted>,
    others: Vec<Counted>,
    /// Set when a limit could not be counted and such requests are to be refused.
    pub(crate) uncounted: bool,
}

impl Tally {
    pub(crate) fn add(&mut self, counted: Counted, keep_every_one: bool) {
        let other = match &mut self.tightest {
            Some(tightest)
                if counted
                    .told
                    .decision
                    .is_tighter_than(&tightest.told.decision) =>
            {
                std::mem::replace(tightest, counted)
            }
            Some(_) => counted,
            None => {
                self.tightest = Some(counted);
                return;
            }
        };
        if keep_every_one {
            self.others.push(other);
        }
    }

    /// Every count that was kept, the tightest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Counted> {
        self.tightest.iter().chain(&self.others)
    }

    /// The limit that refuses the request, if one does.
    pub(crate) fn refusal(&self) -> Option<&Counted> {
        self.tightest
            .as_ref()
            .filter(|counted| !counted.told.decision.allowed)
    }
}
