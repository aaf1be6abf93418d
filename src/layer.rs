//! What a layer's role means: the one table that spec, store and guest manifest agree on.
//!
//! The layers themselves are described in [`crate::spec`] and kept in the store.

use crate::spec::{Rejuvenate, Role, Writes};

impl Role {
    /// What a layer of this role starts from.
    #[must_use]
    pub const fn start(self) -> Start {
        match self {
            Self::Os | Self::Apps => Start::Image,
            Self::UserApps | Self::Cache | Self::UserData | Self::Custom => Start::Either,
            Self::Identity => Start::Blank,
        }
    }

    /// What becomes of writes; `None` where the layer itself must say.
    #[must_use]
    pub const fn writes(self) -> Option<Writes> {
        match self {
            Self::Os | Self::Apps => Some(Writes::Discard),
            Self::UserApps | Self::Cache | Self::Identity | Self::UserData => Some(Writes::Keep),
            Self::Custom => None,
        }
    }

    /// What `rejuvenate` does; `None` where the layer itself must say.
    #[must_use]
    pub const fn rejuvenate(self) -> Option<Rejuvenate> {
        match self {
            Self::Os | Self::Apps | Self::Cache => Some(Rejuvenate::Reset),
            Self::UserApps | Self::Identity | Self::UserData => Some(Rejuvenate::Keep),
            Self::Custom => None,
        }
    }

    /// Where the layer appears in the guest (`linux` composition) unless the spec says otherwise.
    /// Empty for roles whose place is fixed by the contract, and for `custom`.
    #[must_use]
    pub const fn default_paths(self) -> &'static [&'static str] {
        match self {
            Self::UserApps => &["/opt", "/usr/local"],
            Self::Cache => &["/var/cache/apt"],
            Self::UserData => &["/home"],
            Self::Os | Self::Apps | Self::Identity | Self::Custom => &[],
        }
    }

    /// Whether a spec may say `paths`.
    #[must_use]
    pub const fn takes_paths(self) -> bool {
        matches!(
            self,
            Self::UserApps | Self::Cache | Self::UserData | Self::Custom
        )
    }

    /// Whether a spec may say `optional`.
    #[must_use]
    pub const fn may_be_optional(self) -> bool {
        matches!(self, Self::Apps | Self::Cache)
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL
            .iter()
            .copied()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// A text that names no [`Role`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role: os, apps, user-apps, cache, identity, user-data or custom")]
pub struct UnknownRole(String);

/// What a layer starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Start {
    /// An image that somebody prepared.
    Image,
    /// A blank disk of a given size.
    Blank,
    /// Either: a blank disk or a seed.
    Either,
}

impl Start {
    /// The keys that say it in a spec.
    #[must_use]
    pub const fn keys(self) -> &'static str {
        match self {
            Self::Image => "an `image`",
            Self::Blank => "a `size`",
            Self::Either => "an `image` or a `size`",
        }
    }
}
