//! The arguments of what goes back and forth: history, labels, pins, points, retention.

use clap::{Args, Subcommand};
use stratavm::spec::Name;

use super::OfLayer;

#[derive(Debug, Args)]
pub(crate) struct Layers {
    /// The machine.
    pub(crate) name: Name,
    /// Show the layers that were removed and can be taken back.
    #[arg(long)]
    pub(crate) removed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// The machine.
    pub(crate) name: Name,
    /// The layer [default: all].
    pub(crate) layer: Option<Name>,
}

#[derive(Debug, Args)]
pub(crate) struct OfRevision {
    #[command(flatten)]
    pub(crate) of: OfLayer,
    /// The revision's number.
    pub(crate) revision: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Label {
    #[command(flatten)]
    pub(crate) of: OfRevision,
    /// What to call it; empty takes its label away.
    pub(crate) text: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Point {
    /// Freeze what the guest wrote and give the state of the layers a name.
    #[command(after_help = "Examples:
  stratavm point create finance before-audit
  stratavm point create finance tools --layer office --layer crm")]
    Create(PointCreate),
    /// List the points.
    #[command(after_help = "Example:\n  stratavm point list finance")]
    List(PointList),
    /// Forget a point; the revisions stay.
    #[command(after_help = "Example:\n  stratavm point remove finance before-audit")]
    Remove(PointRemove),
}

#[derive(Debug, Args)]
pub(crate) struct PointCreate {
    /// The machine.
    pub(crate) name: Name,
    /// The point.
    pub(crate) point: Name,
    /// What to say of it.
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// A layer that it is to hold; may be given several times [default: all].
    #[arg(long = "layer", value_name = "LAYER")]
    pub(crate) layers: Vec<Name>,
}

#[derive(Debug, Args)]
pub(crate) struct PointList {
    /// The machine.
    pub(crate) name: Name,
}

#[derive(Debug, Args)]
pub(crate) struct PointRemove {
    /// The machine.
    pub(crate) name: Name,
    /// The point.
    pub(crate) point: Name,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("none").multiple(false))]
pub(crate) struct Retention {
    /// The machine.
    pub(crate) name: Name,
    /// Only for this layer, instead of the machine's rule.
    #[arg(long)]
    pub(crate) layer: Option<Name>,
    /// Keep the newest revisions, as many as this.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keep_last: Option<u64>,
    /// Keep what is not older than this.
    #[arg(long, value_name = "DAYS")]
    pub(crate) keep_days: Option<u64>,
    /// Keep everything.
    #[arg(long, group = "none", conflicts_with_all = ["keep_last", "keep_days"])]
    pub(crate) off: bool,
    /// Let the layer follow the machine's rule again.
    #[arg(long, group = "none", requires = "layer", conflicts_with_all = ["keep_last", "keep_days"])]
    pub(crate) inherit: bool,
}
