//! What a volume whose files end below a full disk asks of a machine before a start.
//!
//! How a delta is cut is in [`crate::layout`]; that a new head is, in `super::files`.

use stratavm_disk::vmdk::{SparseExtent, check_split, extent_sectors_for};

use super::layer::LayerState;
use super::record::Record;
use crate::chain::{Chain, Family};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// Refuses a kept head that was made on another volume and that this one could not hold once it is
/// full: the guest would meet write errors in the middle of its work.
pub(super) fn check_fits(store: &Store, record: &Record, layer: &LayerState) -> Result<()> {
    let head = &layer.head;
    let Some(most) = store.volume().max_file else {
        return Ok(());
    };
    if head.family != Family::Vmdk || head.extent_sectors.is_some() {
        return Ok(());
    }
    let image = store.image(&layer.current()?.image)?;
    let sectors = image.extents().iter().map(|(_, sectors)| sectors).sum();
    if extent_sectors_for(sectors, Some(most))?.is_none() {
        return Ok(());
    }
    let (machine, name) = (&record.name, layer.name());
    let message = format!(
        "what the guest writes to layer {name} is kept in one file, which can outgrow the {most} bytes \
         that files on this volume may have"
    );
    Err(Error::new(ErrorKind::Unsupported, message)
        .at(store.home())
        .next(format!(
            "stratavm snapshot {machine} {name}: what is written from then on is kept in small files"
        )))
}

/// Refuses a split delta whose descriptor leads to other files than its own extents: products
/// follow it by themselves.
pub(super) fn check_descriptors(chain: &Chain) -> Result<()> {
    for member in &chain.members {
        let (Some(descriptor), false) = (member.path(), member.extents.is_empty()) else {
            continue;
        };
        let extent = |file: &crate::chain::MemberFile| {
            let name = file.path.file_name()?.to_str()?.to_owned();
            Some(SparseExtent {
                file: name,
                sectors: file.sectors,
            })
        };
        let extents: Vec<_> = member.extents.iter().filter_map(extent).collect();
        check_split(descriptor, &extents)?;
    }
    Ok(())
}
