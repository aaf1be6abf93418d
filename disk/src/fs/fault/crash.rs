//! Bringing a folder into a state that a disk may have after the power was cut.

use super::content::write_sparse;
use super::journal::{Id, Journal, Kind, Names, Pending, Place, ROOT};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

/// What of the changes that were not flushed is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lost {
    /// Nothing: all of it had reached the disk.
    Nothing,
    /// All of it.
    Unflushed,
    /// Names from some point on, as a journaling file system loses them; of each file's content all, nothing, or single
    /// sectors. Drawn from this seed.
    Later(u64),
    /// The changes of each name from some point on, whatever becomes of others, and single sectors of each file. Drawn
    /// from this seed.
    Any(u64),
}

/// Puts what is left at `root`.
pub(super) fn bring_about(root: &Path, mut journal: Journal, lost: Lost) -> io::Result<()> {
    let pending = std::mem::take(&mut journal.pending);
    let kept = match lost {
        Lost::Nothing => return Ok(()),
        Lost::Unflushed => Vec::new(),
        Lost::Later(seed) => later(pending, &mut Draw(seed)),
        Lost::Any(seed) => any(pending, &mut Draw(seed)),
    };
    kept.iter().for_each(|pending| journal.apply(pending));
    let mut aside = root.as_os_str().to_owned();
    aside.push(".cut");
    let aside = PathBuf::from(aside);
    std::fs::rename(root, &aside)?;
    let mut there = HashMap::new();
    paths(&journal.seen, ROOT, &aside, &mut there);
    build(&journal, ROOT, root, &there)?;
    std::fs::remove_dir_all(&aside)
}

/// Where every file and folder is now.
fn paths(seen: &HashMap<Id, Names>, id: Id, path: &Path, there: &mut HashMap<Id, PathBuf>) {
    for (name, inner) in seen.get(&id).into_iter().flatten() {
        let path = path.join(name);
        paths(seen, *inner, &path, there);
        there.insert(*inner, path);
    }
}

fn build(journal: &Journal, id: Id, path: &Path, there: &HashMap<Id, PathBuf>) -> io::Result<()> {
    let node = &journal.nodes[id];
    match &node.kind {
        Kind::Folder(names) => {
            std::fs::create_dir(path)?;
            for (name, inner) in names {
                build(journal, *inner, &path.join(name), there)?;
            }
        }
        Kind::File(content) => write_sparse(path, content)?,
        Kind::Untouched => match there.get(&id) {
            Some(now) => std::fs::hard_link(now, path)?,
            None => return Err(io::ErrorKind::NotFound.into()),
        },
    }
    std::fs::set_permissions(path, node.permissions.clone())
}

/// Names up to some point; of each file's content all, nothing, or some sectors.
fn later(pending: Vec<Pending>, draw: &mut Draw) -> Vec<Pending> {
    let names = pending.iter().filter(|p| !p.places().is_empty()).count();
    let mut left = draw.below(names + 1);
    let mut fates = HashMap::new();
    let mut kept = Vec::new();
    for pending in pending {
        if let Pending::Edit { id, .. } | Pending::Mode { id, .. } = pending {
            let fate = *fates.entry(id).or_insert_with(|| draw.below(3));
            match fate {
                0 => kept.push(pending),
                1 => {}
                _ => kept.extend(torn(pending, draw)),
            }
        } else if left > 0 {
            left -= 1;
            kept.push(pending);
        }
    }
    kept
}

/// Each change by itself, but that a name's later changes go with its earlier ones.
fn any(pending: Vec<Pending>, draw: &mut Draw) -> Vec<Pending> {
    let mut lost: HashSet<Place> = HashSet::new();
    let mut kept = Vec::new();
    for pending in pending {
        let places = pending.places();
        if places.is_empty() {
            kept.extend(torn(pending, draw));
        } else if draw.below(2) == 0 || places.iter().any(|place| lost.contains(place)) {
            lost.extend(places.into_iter().cloned());
        } else {
            kept.push(pending);
        }
    }
    kept
}

/// Some sectors of a write.
fn torn(pending: Pending, draw: &mut Draw) -> Vec<Pending> {
    let parts = match pending {
        Pending::Edit { id, edit } => {
            let parts = edit.sectors().into_iter();
            parts.map(|edit| Pending::Edit { id, edit }).collect()
        }
        other => vec![other],
    };
    parts.into_iter().filter(|_| draw.below(2) == 0).collect()
}

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z % n.max(1) as u64) as usize
    }
}
