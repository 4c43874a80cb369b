//! Counts that must not be swapped for each other.

use core::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A statement's place in its lane; the first is 1.
    Seq(u64)
}
number! {
    /// An attempt at one place of a lane; the first is 0.
    Round(u32)
}
number! {
    /// A generation of the group key; the founding key is 1.
    KeyEpoch(u32)
}
number! {
    /// How many governors must sign together.
    Threshold(u16)
}
number! {
    /// A period in which one shared root credential is valid; the first is 1.
    Epoch(u64)
}

impl Seq {
    /// The place after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}
