//! What a check finds ([`Finding`]): which file, where, what kind of fault, and what a repair would do about it.

use std::path::PathBuf;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fault {
    /// Room in the file that no entry names. It costs room and nothing else: a writer that died leaves some.
    Leak,
    /// Two entries, or an entry and a table, name the same bytes.
    Overlap,
    /// An entry names a place behind the end of the file: what was there is not in this file.
    Outside,
    /// An entry names a place before the first byte of data: header or tables.
    BeforeData,
    /// An entry names a place that is no whole number of units from the first: read by most, refused by some.
    Misaligned,
    /// A table is not where the file says.
    Table,
    /// A packed unit is not where its entry says.
    Packed,
    /// The second copy of a table is not like the first.
    SecondCopy,
    /// A number in the header is not what the tables add up to.
    Counter,
    /// A writer has the image open, or died.
    Unclean,
    /// The image below is missing, or is another one than the image was made over.
    Link,
}

impl Fault {
    /// Its name, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Leak => "leak",
            Fault::Overlap => "overlap",
            Fault::Outside => "outside",
            Fault::BeforeData => "before-data",
            Fault::Misaligned => "misaligned",
            Fault::Table => "table",
            Fault::Packed => "packed",
            Fault::SecondCopy => "second-copy",
            Fault::Counter => "counter",
            Fault::Unclean => "unclean",
            Fault::Link => "link",
        }
    }

    /// Whether the image is good in spite of it: nothing that the guest wrote is at stake.
    pub fn is_harmless(self) -> bool {
        matches!(self, Fault::Leak | Fault::Misaligned)
    }
}

/// What a repair would do about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Remedy {
    /// [`Repair::Safe`](super::Repair::Safe) mends it, without changing a byte that the guest sees.
    Safe,
    /// Only [`Repair::DropLost`](super::Repair::DropLost) mends it: by giving up what is not in the file.
    DropLost,
    /// Nothing does: what is right cannot be known from the image.
    None,
}

impl Remedy {
    /// Its name, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Remedy::Safe => "repair",
            Remedy::DropLost => "drop-lost",
            Remedy::None => "none",
        }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The file that is at fault.
    pub file: PathBuf,
    /// The byte in it where the wrong entry or mark stands, or the leaked room starts.
    pub offset: Option<u64>,
    /// What is wrong.
    pub fault: Fault,
    /// What was found, as one clause.
    pub detail: String,
    /// What a repair would do about it.
    pub remedy: Remedy,
}
