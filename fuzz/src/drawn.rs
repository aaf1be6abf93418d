//! Images and chains that are drawn from the bytes of an input, with what they are to read as. What is drawn is sound;
//! hostile images are in the other targets. `tests/fuzz_corpus.rs` draws the seeds with this too.

use std::path::{Path, PathBuf};

use stratavm_disk::hdd::HdsSpec;
use stratavm_disk::qcow2::{Backing, Qcow2Spec};
use stratavm_disk::vdi::{Allocation, Ids, ParentIds, VdiSpec};
use stratavm_disk::vmdk::{AdapterType, Cid, ParentLink, SparseSpec};
use stratavm_disk::{
    Access, Below, Chain, ConvertOptions, Durability, Format, Identity, ImageSpec, Result, Target,
    Volume, create, create_blank,
};
use uuid::Uuid;

/// Sectors of the largest disk: three clusters of 1 MiB, the last one cut.
const MOST_SECTORS: u64 = 5000;
const MOST_STEPS: u64 = 8;

/// Numbers from the bytes of an input; zeros behind their end.
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// A number below `end`, which is at most 2^24.
    pub fn below(&mut self, end: u64) -> u64 {
        let bytes = [self.byte(), self.byte(), self.byte(), 0];
        u64::from(u32::from_le_bytes(bytes)) % end
    }

    /// One of these.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    /// Bytes of a disk.
    pub fn size(&mut self) -> u64 {
        512 * (1 + self.below(MOST_SECTORS))
    }
}

/// Ids for whatever is made, nothing flushed.
pub fn options(id: u128) -> ConvertOptions {
    let mut options = ConvertOptions::new(Uuid::from_u128(id));
    options.durability = Durability::Unsynced;
    options
}

/// Some writes, zeroed ranges and flushes. `content` becomes what the disk is to read as.
///
/// # Errors
/// What the chain says; nothing of this is to fail.
pub fn change(bytes: &mut Bytes<'_>, chain: &Chain, content: &mut [u8]) -> Result<()> {
    let size = chain.size();
    for _ in 0..bytes.below(MOST_STEPS) {
        let at = bytes.below(size);
        let len = (1 + bytes.below(size)).min(size - at);
        let part = &mut content[at as usize..(at + len) as usize];
        match bytes.byte() {
            0 => chain.flush(Durability::Unsynced)?,
            with @ 1..192 => {
                part.fill(with);
                chain.write_at(part, at)?;
            }
            _ => {
                part.fill(0);
                chain.zero(at, len)?;
            }
        }
    }
    Ok(())
}

/// Whether all of a chain reads as this.
///
/// # Errors
/// What the chain says.
pub fn reads_as(chain: &Chain, content: &[u8]) -> Result<bool> {
    let mut found = vec![0xa5; content.len()];
    chain.read_at(&mut found, 0)?;
    Ok(chain.size() == content.len() as u64 && found == content)
}

/// A chain of several formats.
pub struct Drawn {
    /// Files and formats, the base first.
    pub images: Vec<(PathBuf, Format)>,
    /// What each of them is to read as on those below.
    pub contents: Vec<Vec<u8>>,
}

impl Drawn {
    /// Draws one of up to five images into a folder.
    ///
    /// # Errors
    /// What making and writing it says; nothing of this is to fail.
    pub fn new(bytes: &mut Bytes<'_>, folder: &Path) -> Result<Drawn> {
        let size = bytes.size();
        let (base, format) = bytes.one(&[
            (Target::Raw, Format::Raw),
            (Target::Vmdk, Format::VmdkSparse),
            (Target::VmdkFlat, Format::VmdkDescriptor),
            (Target::Vdi, Format::Vdi),
            (Target::Qcow2, Format::Qcow2),
        ]);
        let path = folder.join("base");
        create_blank(&path, base, size, &options(1))?;
        let mut drawn = Drawn {
            images: vec![(path, format)],
            contents: vec![vec![0; size as usize]],
        };
        drawn.fill(bytes, folder)?;
        for n in 0..bytes.byte() % 5 {
            drawn.push(bytes, folder, n)?;
            drawn.fill(bytes, folder)?;
        }
        Ok(drawn)
    }

    /// Opens all of it.
    ///
    /// # Errors
    /// What the chain says.
    pub fn open(&self, access: Access, folder: &Path) -> Result<Chain> {
        let images: Vec<_> = self.images.iter().map(|(p, f)| (p.as_path(), *f)).collect();
        Chain::open_all(&images, access, &Below::new(folder)?)
    }

    fn fill(&mut self, bytes: &mut Bytes<'_>, folder: &Path) -> Result<()> {
        let chain = self.open(Access::Write, folder)?;
        if let Some(content) = self.contents.last_mut() {
            change(bytes, &chain, content)?;
        }
        chain.close(Durability::Unsynced)
    }

    /// Puts an empty image on it.
    fn push(&mut self, bytes: &mut Bytes<'_>, folder: &Path, n: u8) -> Result<()> {
        let below = self.open(Access::Read, folder)?;
        let sectors = below.size() / 512;
        let own = Identity::default();
        let parent = below.members().next_back();
        let parent = parent.map_or(&own, |member| member.identity);
        let format = bytes.one(&[Format::Hds, Format::Vdi, Format::VmdkSparse, Format::Qcow2]);
        let spec = head(format, sectors, n, parent)?;
        let path = folder.join(n.to_string());
        create(&path, &spec, &Volume::default(), Durability::Unsynced)?;
        self.images.push((path, format));
        self.contents.extend(self.contents.last().cloned());
        Ok(())
    }
}

/// An image in file `n` on one with these ids; where that has none, any will do.
fn head(format: Format, sectors: u64, n: u8, parent: &Identity) -> Result<ImageSpec> {
    let id = u128::from(n) + 10;
    let uuid = parent.uuid.unwrap_or(Uuid::from_u128(5));
    Ok(match format {
        Format::Vdi => ImageSpec::Vdi(VdiSpec {
            sectors,
            allocation: Allocation::Dynamic,
            ids: Ids {
                image: Uuid::from_u128(id),
                modification: Uuid::from_u128(id + 100),
                parent: Some(ParentIds {
                    image: uuid,
                    modification: uuid,
                }),
            },
            patches: Vec::new(),
        }),
        Format::VmdkSparse => ImageSpec::VmdkSparse(SparseSpec {
            file: n.to_string(),
            sectors,
            cid: Cid::new(id as u32)?,
            uuid: Uuid::from_u128(id),
            parent: Some(ParentLink {
                hint: "below".into(),
                cid: parent.cid.map_or_else(|| Cid::new(1), Ok)?,
                uuid,
            }),
            adapter: AdapterType::Ide,
            patches: Vec::new(),
        }),
        Format::Qcow2 => ImageSpec::Qcow2(Qcow2Spec {
            sectors,
            backing: Some(Backing {
                file: "below".into(),
                format: Format::Raw,
            }),
        }),
        _ => ImageSpec::Hds(HdsSpec {
            sectors,
            patches: Vec::new(),
        }),
    })
}
