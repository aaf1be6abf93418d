//! What a revision of a layer shows, opened for reading: its deltas over its image.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use stratavm_disk::{Access, Chain, Format, Gate, Named};

use super::files::Files;
use super::record::Record;
use super::revision::DeltaId;
use crate::chain::{DiskName, Family};
use crate::error::Result;
use crate::image::{ImageDigest, Overlay};
use crate::layout::DeltaFiles;
use crate::resolved::{relative_path, slash_path};

/// Bytes in a sector.
const SECTOR: u64 = 512;

impl Files<'_> {
    /// The chains of `deltas`, the lowest first, over `image`: one, or in the `hds` family one over
    /// each extent of the image. None without deltas: the image is all there is. Nothing but the
    /// files that the record leads to is opened, whatever they name.
    pub(super) fn open_content(
        &self,
        record: &Record,
        disk: &DiskName,
        deltas: &[DeltaId],
        image: &ImageDigest,
    ) -> Result<Vec<Overlay>> {
        let Some(top) = deltas.last() else {
            return Ok(Vec::new());
        };
        let layout = self.layout(record, disk.clone(), top.family);
        let image = self.image(image)?;
        let each = |delta: &DeltaId| layout.delta_files((*delta).into(), &image);
        let above = deltas.iter().map(each).collect::<Result<Vec<_>>>()?;
        let extents = image.extents.iter().map(|(path, _)| path.clone());
        let own = above.iter().flat_map(DeltaFiles::all);
        let gate = Only(extents.chain(own.map(|file| file.path.clone())).collect());
        if top.family == Family::Vmdk {
            let base = layout.base_path(&image.digest);
            let mut members = vec![(base.as_path(), Format::VmdkDescriptor)];
            for files in &above {
                let format = match files.extents.is_empty() {
                    true => Format::VmdkSparse,
                    false => Format::VmdkDescriptor,
                };
                members.extend(files.files.iter().map(|file| (file.path.as_path(), format)));
            }
            let chain = Chain::open_all(&members, Access::Read, &gate)?;
            return Ok(vec![Overlay { start: 0, chain }]);
        }
        let mut overlays = Vec::new();
        let mut start = 0;
        for (n, (path, sectors)) in image.extents.iter().enumerate() {
            let parts = above.iter().filter_map(|files| files.files.get(n));
            let mut members = vec![(path.as_path(), Format::Raw)];
            members.extend(parts.map(|file| (file.path.as_path(), Format::Hds)));
            let chain = Chain::open_all(&members, Access::Read, &gate)?;
            overlays.push(Overlay { start, chain });
            start += sectors * SECTOR;
        }
        Ok(overlays)
    }
}

/// Opens these files, by the names that descriptors of the store give them, and no others.
struct Only(BTreeSet<PathBuf>);

impl Gate for Only {
    fn allow(&self, named: &Named<'_>) -> stratavm_disk::Result<PathBuf> {
        let folder = named.by.parent().unwrap_or(Path::new(""));
        let is_named = |path: &&PathBuf| {
            relative_path(folder, path) == named.name || slash_path(path) == named.name
        };
        let found = self.0.iter().find(is_named).cloned();
        found.ok_or_else(|| {
            let what = format!("it names {:?}, which is not part of its layer", named.name);
            let kind = stratavm_disk::ErrorKind::Mismatch;
            stratavm_disk::Error::new(kind, what).at_path(named.by)
        })
    }
}
