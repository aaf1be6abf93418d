//! What images say about themselves and about the image below, and whether two of them belong together.

use super::Level;
use crate::info::Format;
use crate::vmdk::Cid;
use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;
use uuid::Uuid;

/// The ids that a child knows an image by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// VMDK's content id.
    pub cid: Option<Cid>,
    /// VMDK's `ddb.uuid.image`, VDI's creation UUID, the GUID of an image in a Parallels bundle.
    pub uuid: Option<Uuid>,
}

/// What an image says about the one below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// Where it is, as written.
    pub hint: Option<String>,
    /// Its format, where the image says so.
    pub format: Option<Format>,
    /// Its content id.
    pub cid: Option<Cid>,
    /// Its UUID.
    pub uuid: Option<Uuid>,
}

/// Refuses images that are of different size, or that name another one as their parent.
pub(super) fn check(levels: &[Level]) -> Result<()> {
    faults(levels)
        .next()
        .map_or(Ok(()), |error| Err(error.during("open chain")))
}

/// Every image that does not lie on the one below; the base, if it lies on another one, comes last.
pub(super) fn faults(levels: &[Level]) -> impl Iterator<Item = Error> {
    let pairs = levels.windows(2).filter_map(|pair| {
        let [parent, child] = pair else { return None };
        let why = stranger(parent, child)?;
        let what = format!("it does not lie on {:?}: {why}", parent.path);
        Some(Error::mismatch(what).at_path(&child.path))
    });
    let base = levels.first();
    let base = base.and_then(|base| Some((base, base.link.as_ref()?)));
    let missing = base.map(|(base, link)| {
        let why = match link.uuid.filter(|_| link.hint.is_none()) {
            Some(uuid) => format!(
                "it lies on the image with UUID {uuid}, whose file it does not name: name all images, the base first"
            ),
            None => "the image below it is missing".to_owned(),
        };
        Error::new(ErrorKind::NotFound, why).at_path(&base.path)
    });
    pairs.chain(missing)
}

/// Refuses a chain in which a file stands twice: what is written to one image would change another.
pub(super) fn check_files(levels: &[Level]) -> Result<()> {
    let mut seen = HashMap::new();
    let mut found = Ok(());
    for (n, level) in levels.iter().enumerate() {
        level.map.files(&mut |file| {
            let identity = match file.identity() {
                Ok(identity) => identity,
                Err(error) => return found = Err(error),
            };
            let other = *seen.entry(identity).or_insert(n);
            if other != n {
                found = Err(Error::new(
                    ErrorKind::Mismatch,
                    format!("it is part of {:?} too", levels[other].path),
                )
                .at_path(file.path())
                .during("open chain"));
            }
        });
    }
    found
}

/// Why the child does not lie on the parent; `None` if it does, as far as the two say.
fn stranger(parent: &Level, child: &Level) -> Option<String> {
    let (below, above) = (parent.map.size(), child.map.size());
    if below != above {
        return Some(format!("one holds {below} bytes, the other {above}"));
    }
    let Some(link) = &child.link else {
        return match child.format {
            // Nothing in such a file could say it.
            Format::Raw | Format::Hds => None,
            _ => Some("it has no parent".to_owned()),
        };
    };
    if let (Some(want), Some(have)) = (link.cid, parent.identity.cid)
        && want != have
    {
        return Some(format!(
            "it was made over CID {want}, and that one has {have}"
        ));
    }
    if let (Some(want), Some(have)) = (link.uuid, parent.identity.uuid)
        && want != have
    {
        return Some(format!(
            "it was made over UUID {want}, and that one has {have}"
        ));
    }
    None
}
