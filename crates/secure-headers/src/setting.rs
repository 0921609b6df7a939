/// What the configuration says about one header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setting<T> {
    /// The key is absent: what the preset says, else helmet.
    #[default]
    Unset,
    /// `false`: the header is not sent, and a copy of the inner service's stays.
    Off,
    /// `true`: on, with the default options.
    On,
    /// A map: on with these options, and the defaults for those that it leaves out.
    With(T),
}

impl<T: Clone + Default> Setting<T> {
    /// The options, or `None` if the header is off.
    pub(crate) fn options(&self, on_when_unset: bool) -> Option<T> {
        match self {
            Self::Unset => on_when_unset.then(T::default),
            Self::Off => None,
            Self::On => Some(T::default()),
            Self::With(options) => Some(options.clone()),
        }
    }
}

impl<T> Setting<T> {
    pub(crate) const fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }
}
