//! Machines: one user's VM in the store, made of layers that change alone.
//!
//! `machine.json` ([`record`]) is the only truth; every operation writes new files, makes them
//! durable, and then replaces that one file by a rename. Killed at any point it leaves the old
//! state or the new one. Running a machine is in `run`.

mod adopt;
mod annotate;
mod batch;
mod carry;
mod change;
mod content;
mod create;
mod discard;
mod edit;
pub mod ended;
mod expire;
mod files;
mod flush;
mod folder;
mod freeze;
mod golden;
pub(crate) mod inspect;
pub mod last;
pub mod layer;
mod operations;
mod place;
pub mod points;
mod publish;
pub mod record;
mod recover;
mod repair;
pub mod retention;
pub mod revision;
mod run;
mod session;
mod split;
pub mod staged;
mod start;
mod strays;
mod undo;
mod upgrade;
mod usage;

pub(crate) use adopt::ADOPTING;
pub use adopt::{AdoptOptions, Adopted, Adoption};
pub use annotate::{Pin, Scope};
pub use create::CreateOptions;
pub(crate) use create::{blank, check_ids, digest_of, medium};
pub use folder::{Console, Machine};
pub use golden::EditEnd;
pub use operations::{Operation, When};
pub use publish::{PublishOptions, Published};
pub use recover::Recovered;
pub use run::{OnReboot, RunEnd, RunEvent, RunOptions, RunReport, escape};
pub use staged::Kept;
pub(crate) use start::{Freshness, manifest_line};
pub(crate) use strays::{Strays, is_unfinished};
