//! How a machine's last run ended, for whoever comes and looks later.
//!
//! Plain data in `machine.json`; nothing is decided by it.

use serde::{Deserialize, Serialize};

use super::record::RunRecord;
use super::run::{RunEnd, escape};
use crate::error::{ErrorKind, Result};
use crate::format::Unknown;
use crate::hypervisor::Product;
use crate::timestamp::Timestamp;

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct EndRecord {
    /// The product that it ran on.
    pub product: Product,
    /// When the run began: UTC, RFC 3339.
    pub since: Timestamp,
    /// When its end was noticed, which may be long after it: UTC, RFC 3339.
    pub noticed: Timestamp,
    /// How many times the guest was started.
    pub boots: u32,
    /// How it ended.
    pub how: HowEnded,
    /// What was seen, in words that are safe for a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HowEnded {
    /// Switched off by the guest or the user.
    PowerOff,
    /// The guest asked for a reset, and the run was to end with it.
    Reboot,
    /// The product or the guest's processor failed.
    Crash,
    /// The guest switched itself off after saying why it does not boot.
    Refused,
    /// The time was up.
    Timeout,
    /// The caller cancelled it.
    Cancelled,
    /// It could not be started, or not be watched any longer.
    Failed,
    /// Its supervisor was gone without a word: killed, or the host went down.
    Lost,
    /// Its saved state was dropped.
    StateDropped,
}

impl HowEnded {
    /// The end as `status` prints it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PowerOff => "power-off",
            Self::Reboot => "reboot",
            Self::Crash => "crash",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::StateDropped => "state-dropped",
        }
    }
}

impl EndRecord {
    /// The end of `run` as its supervisor saw it.
    pub(super) fn seen(run: &RunRecord, ran: &Result<RunEnd>) -> Self {
        let (how, detail) = match ran {
            Ok(RunEnd::PowerOff) => (HowEnded::PowerOff, None),
            Ok(RunEnd::Reboot) => (HowEnded::Reboot, None),
            Ok(RunEnd::Crash(seen)) => (HowEnded::Crash, Some(escape(seen))),
            Ok(RunEnd::Refused(said)) => (HowEnded::Refused, Some(said.clone())),
            Ok(RunEnd::Timeout) => (HowEnded::Timeout, None),
            // Then the run is not over; who drops the state says so.
            Ok(RunEnd::Suspended) => (HowEnded::StateDropped, None),
            Err(error) if error.kind() == ErrorKind::Cancelled => (HowEnded::Cancelled, None),
            Err(error) => (HowEnded::Failed, Some(escape(&error.to_string()))),
        };
        Self::new(run, how, detail)
    }

    /// The end of `run`, which nobody saw: what the next change of the machine will record.
    #[must_use]
    pub fn lost(run: &RunRecord) -> Self {
        let detail = format!(
            "its supervisor, process {}, ended without a word",
            run.supervisor.pid
        );
        Self::new(run, HowEnded::Lost, Some(detail))
    }

    /// The end of `run` by dropping its saved state.
    pub(super) fn state_dropped(run: &RunRecord) -> Self {
        Self::new(run, HowEnded::StateDropped, None)
    }

    fn new(run: &RunRecord, how: HowEnded, detail: Option<String>) -> Self {
        Self {
            product: run.product.clone(),
            since: run.since,
            noticed: Timestamp::now(),
            boots: run.boots,
            how,
            detail,
            unknown: Unknown::new(),
        }
    }
}
