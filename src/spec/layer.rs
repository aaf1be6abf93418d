//! One layer of a spec. What each role implies is in [`crate::layer`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::choice::choice;
use super::{Controller, Name, Size};

/// One `[[layer]]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LayerSpec {
    /// The layer's name, unique in the machine. `session` is taken by the session disk.
    pub name: Name,
    /// What the layer holds.
    pub role: Role,
    /// Where the layer starts from: a file, relative to the spec's folder or absolute, or
    /// `sha256c:<hex>` of an image in the store. Exactly one of `image` and `size` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The size of a blank layer; a multiple of 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where the layer appears in the guest (`linux` composition). The role's own paths where it
    /// is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// What becomes of writes; only, and always, for `custom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<Writes>,
    /// What `rejuvenate` does; only, and always, for `custom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejuvenate: Option<Rejuvenate>,
    /// Whether the guest may boot without the layer (`apps` and `cache`).
    #[serde(default, skip_serializing_if = "Presence::is_required")]
    pub optional: Presence,
    /// The disk's controller, where it is not the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<Controller>,
    /// The port on the controller; chosen in spec order where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 29))]
    pub slot: Option<u32>,
    /// Carried, never read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl LayerSpec {
    /// What becomes of writes: the role's rule, or what a `custom` layer says.
    #[must_use]
    pub fn effective_writes(&self) -> Writes {
        self.role.writes().or(self.writes).unwrap_or(Writes::Keep)
    }

    /// What `rejuvenate` does: the role's rule, or what a `custom` layer says.
    #[must_use]
    pub fn effective_rejuvenate(&self) -> Rejuvenate {
        self.role
            .rejuvenate()
            .or(self.rejuvenate)
            .unwrap_or(Rejuvenate::Keep)
    }

    /// Where the layer appears in the guest: what the spec says, or the role's default.
    #[must_use]
    pub fn effective_paths(&self) -> Vec<String> {
        match &self.paths {
            Some(paths) => paths.clone(),
            None => self
                .role
                .default_paths()
                .iter()
                .map(|&path| path.to_owned())
                .collect(),
        }
    }
}

choice! {
    /// What a layer holds.
    Role {
        Os = "os" "The operating system; exactly one, clean again at every start.",
        Apps = "apps" "Applications supplied by IT; any number, stacked in spec order.",
        UserApps = "user-apps" "Applications that the user installed.",
        Cache = "cache" "What can be made anew.",
        Identity = "identity"
            "What makes this machine this machine: machine-id, host keys, random seed.",
        UserData = "user-data" "The user's own data and settings.",
        Custom = "custom" "Anything else: says itself what becomes of its writes.",
    }
}
choice! {
    /// What becomes of what the guest writes to a layer.
    Writes {
        Discard = "discard" "Gone at the next start.",
        Keep = "keep" "Kept.",
    }
}
choice! {
    /// What `rejuvenate` does with a layer.
    Rejuvenate {
        Reset = "reset" "The layer goes back to its newest clean revision.",
        Keep = "keep" "The layer stays byte for byte what it is.",
    }
}

/// Whether the guest may boot without a layer: `optional = true` or `false` in a spec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(from = "bool", into = "bool")]
#[schemars(with = "bool")]
#[non_exhaustive]
pub enum Presence {
    /// The guest refuses to boot without it.
    #[default]
    Required,
    /// The guest boots without it and says so.
    Optional,
}

impl Presence {
    /// Whether the layer must be there.
    #[must_use]
    pub fn is_required(&self) -> bool {
        *self == Self::Required
    }
}

impl From<bool> for Presence {
    fn from(optional: bool) -> Self {
        if optional {
            Self::Optional
        } else {
            Self::Required
        }
    }
}

impl From<Presence> for bool {
    fn from(presence: Presence) -> Self {
        presence == Presence::Optional
    }
}
