//! What the tests report beside passing and failing: which reader read what, and what was skipped. One line each,
//! `phase TAB reader TAB what TAB ok|skip|blind|count TAB reason`, appended by `tests/common/report.rs`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::exec::Error;
use crate::workspace;

/// The file that tests append to.
pub(crate) struct File(PathBuf);

/// One line of it.
#[derive(Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) phase: String,
    pub(crate) reader: String,
    pub(crate) what: String,
    pub(crate) how: How,
}

/// What became of a reading.
#[derive(Debug, PartialEq)]
pub(crate) enum How {
    Read,
    /// The reader is not there, and why.
    Skipped(String),
    /// The reader cannot see it, and why.
    Blind(String),
    /// So many cases were gone through, drawn from the seed that follows.
    Counted(u64, String),
}

impl File {
    /// An empty one, in the build folder.
    pub(crate) fn create() -> Result<Self, Error> {
        let folder = workspace::target().join("xtask");
        let path = folder.join("report.tsv");
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&path, ""))
            .map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Appends that a tool of the driver's own ran.
    pub(crate) fn ran(&self, phase: &str, reader: &str, what: &str) -> Result<(), Error> {
        let mut file = fs::OpenOptions::new().append(true).open(&self.0);
        file.as_mut()
            .map_err(|error| error.kind().into())
            .and_then(|file| writeln!(file, "{phase}\t{reader}\t{what}\tok\t"))
            .map_err(|error| Error::new(format!("{}: {error}", self.0.display())))
    }

    pub(crate) fn read(&self) -> Result<Vec<Reading>, Error> {
        let text = fs::read_to_string(&self.0)
            .map_err(|error| Error::new(format!("{}: {error}", self.0.display())))?;
        text.lines().map(Reading::parse).collect()
    }
}

impl Reading {
    fn parse(line: &str) -> Result<Self, Error> {
        let [phase, reader, what, how, reason] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(Error::new(format!(
                "a test reported a line that is not one: {line:?}"
            )));
        };
        let how = match how {
            "ok" => How::Read,
            "skip" => How::Skipped(reason.to_owned()),
            "blind" => How::Blind(reason.to_owned()),
            "count" => {
                let (count, seed) = reason.split_once(' ').unwrap_or((reason, ""));
                let count = count
                    .parse()
                    .map_err(|_| Error::new(format!("no count: {line:?}")))?;
                How::Counted(count, seed.to_owned())
            }
            _ => {
                return Err(Error::new(format!(
                    "not ok, skip, blind or count: {line:?}"
                )));
            }
        };
        Ok(Self {
            phase: phase.into(),
            reader: reader.into(),
            what: what.into(),
            how,
        })
    }

    /// In words, when it is a skip.
    pub(crate) fn skipped(&self) -> Option<String> {
        match &self.how {
            How::Skipped(reason) => Some(format!("{} of {}: {reason}", self.reader, self.what)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_is_read_and_a_strange_one_refused() {
        let read = Reading::parse("interop\tvirsh\tvmx\tok\t").unwrap();
        assert_eq!((read.reader.as_str(), &read.how), ("virsh", &How::Read));
        let skipped = Reading::parse("interop\tvirsh\tvmx\tskip\tnot installed").unwrap();
        assert_eq!(skipped.skipped().unwrap(), "virsh of vmx: not installed");
        let counted = Reading::parse("storm\tkill -9\tkills\tcount\t200 seed 7").unwrap();
        assert_eq!(counted.how, How::Counted(200, "seed 7".to_owned()));
        assert!(Reading::parse("storm\tkill -9\tkills\tcount\tmany").is_err());
        assert!(Reading::parse("interop\tvirsh").is_err());
        assert!(Reading::parse("interop\tvirsh\tvmx\tmaybe\t").is_err());
    }
}
