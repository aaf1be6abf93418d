//! The layered VM spec: plain serde data, without any I/O.
//!
//! Here live the data types, their reading from TOML and JSON ([`VmSpec::from_toml`],
//! [`VmSpec::from_json`], [`VmSpec::from_path`]), the rules that a spec as a whole follows
//! ([`VmSpec::validate`]) and the [`schema`]. What a layer's role means is in [`crate::layer`].

pub(crate) mod choice;
mod collect;
mod extensions;
mod fault;
mod guest;
mod hardware;
mod json;
mod layer;
mod name;
mod near;
mod parse;
mod policy;
mod read;
mod schema;
mod size;
mod toml;
mod tree;
mod validate;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use fault::{Fault, Faults, Position};
pub use guest::{Arch, Composition, Guest, GuestOs};
pub use hardware::{
    Audio, BootDevice, Cdrom, Clock, Console, Controller, Display, Firmware, Hardware, MacAddress,
    MacAddressError, Network, NetworkMode, SecureBoot, Tpm,
};
pub use layer::{LayerSpec, Presence, Rejuvenate, Role, Writes};
pub use name::{MAX_LEN as NAME_MAX_LEN, Name, NameError};
pub use parse::MAX_TEXT;
pub use policy::{Direction, Policy, Switch};
pub use schema::schema;
pub use size::{MIB, Size, SizeError};

/// The version of the spec's format that this library reads and writes.
pub const SPEC_VERSION: u32 = 1;

/// One virtual machine, described as layers.
///
/// Deserialising checks each value's form only; [`VmSpec::from_toml`] and its like check the
/// whole, and so does [`VmSpec::validate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(transform = schema::only_extensions)]
pub struct VmSpec {
    /// Version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub stratavm: u32,
    /// The machine's name: file names and identifiers are made of it.
    pub name: Name,
    /// Free text for windows and lists; the name where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What runs in the machine.
    pub guest: Guest,
    /// The virtual hardware.
    #[serde(default)]
    pub hardware: Hardware,
    /// The layers, in order: slots and the stacking of applications follow it.
    #[serde(rename = "layer")]
    #[schemars(length(min = 1, max = 64))]
    pub layers: Vec<LayerSpec>,
    /// What the user may do.
    #[serde(default)]
    pub policy: Policy,
    /// Carried, never read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Tables named `x-NAME`, with that name: carried, never read.
    #[serde(flatten, deserialize_with = "extensions::deserialize")]
    #[schemars(skip)]
    pub extensions: BTreeMap<String, serde_json::Value>,
}

impl VmSpec {
    /// The text for windows: the title, or the name where there is none.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.title.as_deref().unwrap_or(self.name.as_str())
    }

    /// The layer called `name`.
    #[must_use]
    pub fn layer(&self, name: &Name) -> Option<&LayerSpec> {
        self.layers.iter().find(|layer| layer.name == *name)
    }
}
