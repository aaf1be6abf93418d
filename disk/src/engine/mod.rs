//! The engine below every format: traits that a driver implements, and what drivers share (tables of blocks, ranges of
//! files, images in parts). Which bytes of a file mean what is the formats' affair, in their own folders.

mod blocks;
mod concat;
mod driver;
mod flat;
mod table;

pub(crate) use blocks::{Blocks, Entry, Layout, Use};
pub(crate) use concat::Concat;
pub(crate) use driver::{Allocate, Map, Mapping, Place, Room};
pub(crate) use flat::{Flat, Zeros};
pub(crate) use table::{PER_PAGE, PageAt};
