//! Running a machine: how it is asked for, what happens meanwhile, and what it was.
//!
//! The supervisor's loop is in [`supervise`], what others do to a run in [`control`].

mod control;
mod supervise;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stratavm_disk::{CancelToken, Ctx};

use super::folder::Machine;
use super::golden::EditEnd;
use crate::error::Result;
use crate::hypervisor::{Ended, Endpoint, Hypervisor};
use crate::spec::Name;

/// Takes what happens in a run.
type EventSink = Arc<dyn Fn(&RunEvent) + Send + Sync>;

/// How a machine is run.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct RunOptions {
    /// What a reboot of the guest means.
    pub reboot: OnReboot,
    /// After this time the machine is switched off; none: it may run for ever.
    pub timeout: Option<Duration>,
    /// Layers that keep, whose session is to be one that can be dropped at its end: what they hold
    /// of earlier ones is frozen first.
    pub revertible: Vec<Name>,
    /// The layer to edit, which discards: what is written to it is kept, and becomes a revision when
    /// the guest switches itself off. Under `linux` composition it is the operating system, and
    /// stands alone.
    pub edit: Option<Name>,
    events: Vec<EventSink>,
}

impl RunOptions {
    /// The same options, telling `sink` too what happens, on the supervisor's thread.
    #[must_use]
    pub fn on_event(mut self, sink: impl Fn(&RunEvent) + Send + Sync + 'static) -> Self {
        self.events.push(Arc::new(sink));
        self
    }

    /// The same options with this meaning of a reboot.
    #[must_use]
    pub fn on_reboot(mut self, reboot: OnReboot) -> Self {
        self.reboot = reboot;
        self
    }

    /// The same options with an end after this time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The same options with sessions on these layers that can be dropped.
    #[must_use]
    pub fn revertible(mut self, layers: impl IntoIterator<Item = Name>) -> Self {
        self.revertible = layers.into_iter().collect();
        self
    }

    /// The same options for a run that edits this layer.
    #[must_use]
    pub fn edit(mut self, layer: Name) -> Self {
        self.edit = Some(layer);
        self
    }

    fn tell(&self, event: &RunEvent) {
        for sink in &self.events {
            sink(event);
        }
    }
}

impl std::fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (reboot, timeout) = (&self.reboot, &self.timeout);
        f.debug_struct("RunOptions")
            .field("reboot", reboot)
            .field("timeout", timeout)
            .field("edit", &self.edit)
            .finish()
    }
}

/// What a reboot of the guest means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnReboot {
    /// Start again on fresh heads.
    #[default]
    StartAgain,
    /// The run ends.
    End,
}

/// What happens in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunEvent {
    /// Files are made ready for this boot, counted from 1.
    Preparing(u32),
    /// The product says that the machine runs.
    Running(Endpoint),
    /// The machine ran already, without a supervisor, and was taken over.
    Attached(Endpoint),
    /// The machine goes on from its saved state.
    Resumed(Endpoint),
    /// This boot ended.
    Ended(Ended),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunEnd {
    /// Switched off by the guest or the user.
    PowerOff,
    /// The guest asked for a reset, and [`OnReboot::End`] was set.
    Reboot,
    /// The product or the guest's processor failed; what was seen.
    Crash(String),
    /// The guest switched itself off after saying on its console why it does not boot. A hint
    /// only: the text is the guest's own, with control characters escaped.
    Refused(String),
    /// The time was up; the machine was switched off.
    Timeout,
    /// Its state was saved to disk: the next start goes on with it.
    Suspended,
}

impl RunEnd {
    /// The end as `start --wait` prints it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::PowerOff => "power-off",
            Self::Reboot => "reboot",
            Self::Crash(_) => "crash",
            Self::Refused(_) => "refused",
            Self::Timeout => "timeout",
            Self::Suspended => "suspended",
        }
    }
}

/// What a run was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunReport {
    /// How it ended.
    pub end: RunEnd,
    /// How many times the guest was started.
    pub boots: u32,
    /// The file with what the guest wrote to its first serial port, if the spec asks for it.
    pub console: Option<PathBuf>,
    /// What became of the edit, in a run that was one and is over.
    pub edit: Option<EditEnd>,
}

impl Machine {
    /// Runs the machine on `backend` and supervises it until it ends. A machine whose state was
    /// saved goes on from there, with nothing reset; one that still runs and has lost its supervisor
    /// is taken over as it is.
    ///
    /// Dropping the future asks for an end: the machine is switched off on the supervisor's own
    /// thread and its record is cleared.
    ///
    /// # Errors
    /// [`Busy`](crate::ErrorKind::Busy) if it is supervised already, or runs on another product;
    /// [`NeedsSwitch`](crate::ErrorKind::NeedsSwitch); [`Suspended`](crate::ErrorKind::Suspended)
    /// on another product; [`Mismatch`](crate::ErrorKind::Mismatch) if the machine is not what it
    /// was when its state was saved; what the product says. A start that failed has cost the heads
    /// of layers that discard: every start makes them anew.
    pub async fn run(
        &self,
        backend: Arc<dyn Hypervisor>,
        options: RunOptions,
        ctx: &Ctx,
    ) -> Result<RunReport> {
        let guard = CancelOnDrop(Some(ctx.cancel_token().clone()));
        let (machine, ctx) = (self.clone(), ctx.clone());
        let report = blocking::unblock(move || {
            futures_lite::future::block_on(machine.supervise(backend.as_ref(), &options, &ctx))
        })
        .await;
        guard.disarm();
        report
    }
}

/// Text of a guest or product made safe for a terminal: control characters are escaped.
#[must_use]
pub fn escape(text: &str) -> String {
    let escaped =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().take(2000).fold(String::new(), |mut out, c| {
        if escaped(c) && c != '\t' {
            out.extend(c.escape_unicode())
        } else {
            out.push(c)
        }
        out
    })
}

struct CancelOnDrop(Option<CancelToken>);

impl CancelOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(token) = &self.0 {
            token.cancel();
        }
    }
}
