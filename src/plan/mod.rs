//! A plan: what a backend makes of a resolved machine, as inert data.
//!
//! A plan can be printed (its `Display`), compared, hashed and applied ([`Plan::apply`]); making one
//! needs no product and touches nothing.

mod apply;
mod display;
mod gap;

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

pub use apply::Applied;
pub use gap::{Gap, Grade};

use crate::chain::{Chain, DiskName};
use crate::hypervisor::Product;
use crate::spec::Controller;

/// What a backend makes of a resolved machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The product it is for.
    pub product: Product,
    /// The lowest version of the product that takes it, such as `VirtualBox 5.0`.
    pub needs: String,
    /// The file that the product opens, one of `files`; written last. `None` for a product that
    /// takes everything as arguments.
    pub entry: Option<PathBuf>,
    /// The product's program and its arguments, as control starts it. Never a shell's line.
    pub argv: Vec<String>,
    /// The product's files.
    pub files: Vec<PlanFile>,
    /// The disks, in attachment order.
    pub disks: Vec<PlanDisk>,
    /// What the product does not do, or not by itself.
    pub gaps: Vec<Gap>,
    /// Anything a person should know, such as that ids are previews.
    pub notes: Vec<String>,
}

impl Plan {
    /// An empty plan for `product`, which needs at least the version named by `needs`.
    #[must_use]
    pub fn new(product: Product, needs: impl Into<String>) -> Self {
        Self {
            product,
            needs: needs.into(),
            entry: None,
            argv: Vec::new(),
            files: Vec::new(),
            disks: Vec::new(),
            gaps: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// SHA-256 of the printed plan, in hexadecimal: two plans with one digest do the same.
    #[must_use]
    pub fn digest(&self) -> String {
        Sha256::digest(self.to_string())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// One file of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanFile {
    /// Where it goes.
    pub path: PathBuf,
    /// What is in it.
    pub content: Content,
    /// Whose it is.
    pub kind: FileKind,
}

impl PlanFile {
    /// A text file of ours, overwritten freely.
    #[must_use]
    pub fn text(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            content: Content::Text(text.into()),
            kind: FileKind::Ours,
        }
    }

    /// A binary file of ours, overwritten freely.
    #[must_use]
    pub fn binary(path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            content: Content::Binary(bytes.into()),
            kind: FileKind::Ours,
        }
    }

    /// A part of the machine that starts as a copy of `from` and is kept from then on.
    #[must_use]
    pub fn kept_copy(path: impl Into<PathBuf>, from: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            content: Content::CopyOf(from.into()),
            kind: FileKind::Kept,
        }
    }
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// UTF-8 text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// A copy of this file of the host, such as a product's NVRAM template.
    CopyOf(PathBuf),
}

/// Whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// Ours: written anew whenever the plan is applied.
    Ours,
    /// A part of the machine: made where it is missing, never overwritten.
    Kept,
}

/// One disk of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanDisk {
    /// Which disk it is.
    pub name: DiskName,
    /// The controller it is attached to; never [`Controller::Auto`].
    pub controller: Controller,
    /// The port on that controller.
    pub slot: u32,
    /// How the product names that place, such as `sata0:1` or `AHCI port 1`.
    pub place: String,
    /// The files it is made of.
    pub chain: Chain,
}

impl PlanDisk {
    /// A disk from its parts.
    #[must_use]
    pub fn new(
        name: DiskName,
        controller: Controller,
        slot: u32,
        place: impl Into<String>,
        chain: Chain,
    ) -> Self {
        Self {
            name,
            controller,
            slot,
            place: place.into(),
            chain,
        }
    }
}
