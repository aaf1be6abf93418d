//! What people say of revisions and layers: labels, pins, retention. No layer's content changes, so
//! a machine may run meanwhile.

use super::folder::Machine;
use super::record::Record;
use super::retention::Retention;
use crate::error::{Error, Result};
use crate::spec::Name;

/// Longest label, in bytes.
const LONGEST: usize = 1000;

/// Whether a revision is kept whatever retention says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pin {
    /// It is.
    Pinned,
    /// It is not.
    Unpinned,
}

/// What a rule of retention is for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// Every layer without a rule of its own.
    Machine,
    /// This layer.
    Layer(Name),
}

impl Machine {
    /// Says what people call revision `n` of a layer; none takes its label away.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for an unknown layer or revision;
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a label of over 1000 bytes.
    pub fn set_label(&self, layer: &Name, n: u64, label: Option<String>) -> Result<()> {
        check_label(label.as_deref())?;
        self.annotate(|record| record.revision_mut(layer, n, |found| found.label = label))
    }

    /// Says whether revision `n` of a layer is kept whatever retention says.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for an unknown layer or revision.
    pub fn set_pin(&self, layer: &Name, n: u64, pin: Pin) -> Result<()> {
        self.annotate(|record| {
            record.revision_mut(layer, n, |found| found.pinned = pin == Pin::Pinned)
        })
    }

    /// Says which revisions are kept from the next operation on. None: the machine keeps all, a
    /// layer follows the machine's rule.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for an unknown layer.
    pub fn set_retention(&self, scope: &Scope, rule: Option<Retention>) -> Result<()> {
        self.annotate(|record| {
            match scope {
                Scope::Machine => record.retention = rule,
                Scope::Layer(layer) => record.layer_mut(layer)?.retention = rule,
            }
            Ok(())
        })
    }

    /// Changes the record where no file follows it.
    pub(super) fn annotate(&self, change: impl FnOnce(&mut Record) -> Result<()>) -> Result<()> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        change(&mut record)?;
        self.save(&record)
    }
}

impl Record {
    fn revision_mut(
        &mut self,
        layer: &Name,
        n: u64,
        change: impl FnOnce(&mut super::revision::Revision),
    ) -> Result<()> {
        let state = self.layer_mut(layer)?;
        match state.history.find_mut(n) {
            Some(found) => {
                change(found);
                Ok(())
            }
            None => Err(state.history.no_revision(state.name(), n)),
        }
    }
}

/// Refuses labels that nobody can read any more.
pub(super) fn check_label(label: Option<&str>) -> Result<()> {
    match label {
        Some(label) if label.len() > LONGEST => Err(Error::invalid(format!(
            "the label is {} bytes long, at most {LONGEST} are taken",
            label.len()
        ))
        .next("use a shorter one")),
        _ => Ok(()),
    }
}
