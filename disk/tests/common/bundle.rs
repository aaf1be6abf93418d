//! New `.hdd` bundles for tests: made as a converter makes them, and filled level by level.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use stratavm_disk::hdd::{Content, LEAF_GUID, NewBundle, open_snapshot};
use stratavm_disk::{Access, Below, Chain, Durability, Volume, create};
use uuid::Uuid;

/// Makes the bundle's folder in `folder`, and gives its path.
pub(crate) fn make(folder: &Path, bundle: &NewBundle) -> PathBuf {
    let path = folder.join(format!("{}.hdd", bundle.name));
    fs::create_dir(&path).unwrap();
    for file in bundle.files().unwrap() {
        let to = path.join(&file.name);
        match &file.content {
            Content::Bytes(bytes) => fs::write(to, bytes).unwrap(),
            Content::Image(spec) => {
                create(&to, spec, &Volume::default(), Durability::Unsynced).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    path
}

/// A bundle of this many levels, each split at `split` sectors.
pub(crate) fn of(name: &str, sectors: u64, levels: usize, split: Option<u64>) -> NewBundle {
    NewBundle {
        name: name.to_owned(),
        uid: Uuid::from_u128(0xd15c),
        sectors,
        snapshots: (1..levels).map(id).collect(),
        split,
    }
}

/// The id of level `n` below the writable one, the root is 1.
pub(crate) fn id(n: usize) -> Uuid {
    Uuid::from_u128(0xabc0 + n as u128)
}

/// The ids of the levels of a bundle, the root first.
pub(crate) fn ids(bundle: &NewBundle) -> Vec<Uuid> {
    bundle
        .snapshots
        .iter()
        .copied()
        .chain([LEAF_GUID])
        .collect()
}

/// What is written to one level: bytes of one value at a place, or zeros for the value 0.
pub(crate) struct Write {
    pub(crate) level: usize,
    pub(crate) at: u64,
    pub(crate) len: u64,
    pub(crate) with: u8,
}

/// Writes to the levels in order, the root first. What each of them then reads as.
pub(crate) fn fill(path: &Path, bundle: &NewBundle, writes: &[Write]) -> Vec<Vec<u8>> {
    let mut now = vec![0; usize::try_from(bundle.sectors * 512).unwrap()];
    let mut contents = Vec::new();
    for (level, id) in ids(bundle).into_iter().enumerate() {
        let chain = snapshot(path, id, Access::Write);
        for write in writes.iter().filter(|w| w.level == level) {
            let range = write.at as usize..(write.at + write.len) as usize;
            match write.with {
                0 => chain.zero(write.at, write.len).unwrap(),
                with => chain.write_at(&vec![with; range.len()], write.at).unwrap(),
            }
            now[range].fill(write.with);
        }
        chain.close(Durability::Unsynced).unwrap();
        contents.push(now.clone());
    }
    contents
}

pub(crate) fn snapshot(path: &Path, id: Uuid, access: Access) -> Chain {
    open_snapshot(path, id, access, &Below::beside(path).unwrap()).unwrap()
}

pub(crate) fn content(chain: &Chain) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(chain.size()).unwrap()];
    chain.read_at(&mut all, 0).unwrap();
    all
}
