//! The arguments of what makes goldens: editing one by hand, and publishing it.

use clap::{Args, Subcommand};

use super::{OfLayer, Start};

#[derive(Debug, Subcommand)]
pub(crate) enum Golden {
    /// Start a machine with one layer that discards kept for this run.
    ///
    /// Once its guest has shut down, what it wrote is the layer's current revision, to be published.
    /// Reboots are part of it. An edit that was cut short goes on with the next one; a plain start
    /// sets it aside as a revision.
    #[command(after_help = "Examples:
  stratavm golden edit finance os
  stratavm golden edit finance os --wait && stratavm publish finance os")]
    Edit(GoldenEdit),
}

#[derive(Debug, Args)]
pub(crate) struct GoldenEdit {
    #[command(flatten)]
    pub(crate) of: OfLayer,
    /// The product to run the machine on.
    #[arg(long, default_value = "qemu")]
    pub(crate) product: String,
    /// Stay until the machine is off, instead of leaving it to a supervisor in the background.
    #[arg(long)]
    pub(crate) wait: bool,
    /// A reboot of the guest ends the run too, and the edit goes on with the next one.
    #[arg(long, requires = "wait")]
    pub(crate) once: bool,
    /// Switch the machine off after this many seconds.
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    pub(crate) timeout: Option<u64>,
}

impl GoldenEdit {
    /// How the machine is started for it.
    pub(crate) fn start(&self) -> Start {
        Start {
            name: self.of.name.clone(),
            product: self.product.clone(),
            wait: self.wait,
            once: self.once,
            revertible: Vec::new(),
            timeout: self.timeout,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    pub(crate) of: OfLayer,
    /// The revision to make it of [default: the current one].
    #[arg(long, value_name = "REVISION")]
    pub(crate) rev: Option<u64>,
    /// What to say of the image; kept with it.
    #[arg(long)]
    pub(crate) label: Option<String>,
}
