//! The `DiskDescriptor.xml` of a `.hdd` bundle as a value, its invariants, and its writer.
//! Facts: libphdi's and ploop's documentation and descriptors that Parallels Desktop wrote.

use super::xml::escape_text;
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use uuid::{Uuid, uuid};

/// The GUID that the writable image of every chain must carry: Parallels Desktop refuses a disk without it.
pub const LEAF_GUID: Uuid = uuid!("5fbaabe3-6958-40ff-92a7-860e329aab41");

/// Kind of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageKind {
    /// Raw; only a root can be.
    Plain,
    /// Expanding (`.hds`). The format calls it `Compressed`, though nothing is.
    Compressed,
}

impl ImageKind {
    /// As written in `Type`.
    pub fn as_str(self) -> &'static str {
        match self {
            ImageKind::Plain => "Plain",
            ImageKind::Compressed => "Compressed",
        }
    }
}

/// One file of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Which member of the chain it belongs to.
    pub guid: Uuid,
    /// Kind.
    pub kind: ImageKind,
    /// File as written: relative to the bundle, or absolute. Never opened here.
    pub file: String,
}

/// A range of the disk and its files, one per member of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// First sector.
    pub start: u64,
    /// First sector behind it.
    pub end: u64,
    /// Cluster size in sectors: 2048 for images that this crate makes.
    pub blocksize: u32,
    /// One image per [`Shot`].
    pub images: Vec<Image>,
}

/// A member of the snapshot tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shot {
    /// Its id.
    pub guid: Uuid,
    /// Its parent; `None` for the root.
    pub parent: Option<Uuid>,
}

/// A bundle's descriptor. What [`parse`](DiskDescriptor::parse) returns and what [`to_xml`](DiskDescriptor::to_xml)
/// writes fulfils: storages follow each other from 0 to `sectors` without gap; one root; no cycle; the leaf is there;
/// every storage has exactly one image per shot; only roots are `Plain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskDescriptor {
    /// Size of the disk in sectors.
    pub sectors: u64,
    /// Id of the disk; Parallels Desktop refuses two disks of one VM with equal ones.
    pub uid: Uuid,
    /// Label.
    pub name: String,
    /// Ranges in disk order; more than one is a split disk.
    pub storages: Vec<Storage>,
    /// The tree.
    pub shots: Vec<Shot>,
    /// `TopGUID` where a file has one. Never written: libphdi refuses it.
    pub top_guid: Option<Uuid>,
}

impl DiskDescriptor {
    /// Reads a descriptor. `path` only serves errors.
    ///
    /// # Errors
    /// `Malformed` for broken XML or invariants, `Unsupported` for encrypted disks and padding, `Limit` above 4 MiB.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<DiskDescriptor> {
        super::parse::parse(bytes).map_err(|e| e.at_path(path).during("read DiskDescriptor.xml"))
    }

    /// The GUID of the writable member: `TopGUID` where there is one, else [`LEAF_GUID`].
    pub fn leaf(&self) -> Uuid {
        self.top_guid.unwrap_or(LEAF_GUID)
    }

    /// The chain from the leaf down to the root.
    ///
    /// # Errors
    /// `Malformed` for a missing member or a cycle.
    pub fn chain(&self) -> Result<Vec<Uuid>> {
        self.chain_of(self.leaf())
    }

    /// The chain from a member of the tree down to the root.
    ///
    /// # Errors
    /// As for [`chain`](Self::chain).
    pub fn chain_of(&self, top: Uuid) -> Result<Vec<Uuid>> {
        let parents: HashMap<_, _> = self.shots.iter().map(|s| (s.guid, s.parent)).collect();
        let mut chain = Vec::new();
        let mut next = Some(top);
        while let Some(guid) = next {
            if chain.len() == self.shots.len() {
                return Err(Error::malformed(format!(
                    "snapshot tree has a cycle at {{{guid}}}"
                )));
            }
            chain.push(guid);
            next = *parents
                .get(&guid)
                .ok_or_else(|| Error::malformed(format!("no snapshot {{{guid}}} in the tree")))?;
        }
        Ok(chain)
    }

    /// The XML as Parallels Desktop lays it out, leaf first, without `TopGUID`.
    ///
    /// # Errors
    /// `Invalid` if the value breaks an invariant, its leaf is not [`LEAF_GUID`], or a text has a control character.
    pub fn to_xml(&self) -> Result<String> {
        let made = self.check().and_then(|()| self.write());
        // The caller made this value: what would be a broken file is here a wrong argument.
        made.map_err(|e| Error::invalid(e.to_string()).during("write DiskDescriptor.xml"))
    }

    /// The invariants.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::malformed(what));
        let mut at = 0;
        for s in &self.storages {
            if s.start != at || s.end <= s.start {
                return bad(format!(
                    "storage {}..{} does not follow sector {at}",
                    s.start, s.end
                ));
            }
            if s.blocksize == 0 || s.blocksize > 1 << 21 {
                return bad(format!(
                    "block size of {} sectors is out of range",
                    s.blocksize
                ));
            }
            at = s.end;
        }
        if at != self.sectors || at == 0 {
            return bad(format!(
                "storages end at sector {at}, the disk at {}",
                self.sectors
            ));
        }
        let mut guids = HashSet::new();
        if !self
            .shots
            .iter()
            .all(|s| !s.guid.is_nil() && guids.insert(s.guid))
        {
            return bad("snapshot with a null GUID, or twice in the tree".into());
        }
        let roots: Vec<_> = self.shots.iter().filter(|s| s.parent.is_none()).collect();
        let [root] = roots[..] else {
            return bad(format!("snapshot tree has {} roots", roots.len()));
        };
        self.check_acyclic()?;
        self.chain()?;
        self.storages
            .iter()
            .try_for_each(|s| check_images(s, &guids, root.guid))
    }

    /// Every shot reaches the root; each is walked once.
    fn check_acyclic(&self) -> Result<()> {
        let mut children: HashMap<Option<Uuid>, Vec<Uuid>> = HashMap::new();
        for s in &self.shots {
            children.entry(s.parent).or_default().push(s.guid);
        }
        let mut reached = 0;
        let mut open = children.remove(&None).unwrap_or_default();
        while let Some(guid) = open.pop() {
            reached += 1;
            open.extend(children.remove(&Some(guid)).unwrap_or_default());
        }
        if reached != self.shots.len() {
            return Err(Error::malformed(
                "snapshot tree has a cycle or a missing parent",
            ));
        }
        Ok(())
    }

    fn write(&self) -> Result<String> {
        if self.leaf() != LEAF_GUID {
            return Err(Error::invalid(format!("the leaf is not {{{LEAF_GUID}}}")));
        }
        if self.name.chars().any(char::is_control) {
            return Err(Error::invalid("the name has a control character"));
        }
        // Leaf first, root last: libphdi takes the first for the current one. Other branches follow.
        let mut order = self.chain()?;
        let mut on_chain: HashSet<Uuid> = order.iter().copied().collect();
        order.extend(
            self.shots
                .iter()
                .map(|s| s.guid)
                .filter(|g| on_chain.insert(*g)),
        );

        let mut x = Xml::default();
        x.text
            .push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        x.open("Parallels_disk_image Version=\"1.0\"");
        x.open("Disk_Parameters");
        x.leaf("Disk_size", self.sectors);
        let (cylinders, heads, per_track) = self.geometry();
        x.leaf("Cylinders", cylinders);
        x.leaf("PhysicalSectorSize", 4096);
        x.leaf("LogicSectorSize", 512);
        x.leaf("Heads", heads);
        x.leaf("Sectors", per_track);
        x.leaf("Padding", 0);
        x.open("Encryption");
        x.leaf("Engine", guid(Uuid::nil()));
        x.leaf("Data", "");
        x.close("Encryption");
        x.leaf("UID", guid(self.uid));
        x.leaf("Name", escape_text(&self.name));
        x.open("Miscellaneous");
        x.leaf("CompatLevel", "level2");
        x.leaf("Bootable", 1);
        x.leaf("SuspendState", 0);
        x.close("Miscellaneous");
        x.close("Disk_Parameters");
        x.open("StorageData");
        for s in &self.storages {
            x.open("Storage");
            x.leaf("Start", s.start);
            x.leaf("End", s.end);
            x.leaf("Blocksize", s.blocksize);
            for image in order
                .iter()
                .filter_map(|g| s.images.iter().find(|i| i.guid == *g))
            {
                x.open("Image");
                x.leaf("GUID", guid(image.guid));
                x.leaf("Type", image.kind.as_str());
                x.leaf("File", escape_text(&image.file));
                x.close("Image");
            }
            x.close("Storage");
        }
        x.close("StorageData");
        x.open("Snapshots");
        for shot in order
            .iter()
            .filter_map(|g| self.shots.iter().find(|s| s.guid == *g))
        {
            x.open("Shot");
            x.leaf("GUID", guid(shot.guid));
            x.leaf("ParentGUID", guid(shot.parent.unwrap_or_default()));
            x.close("Shot");
        }
        x.close("Snapshots");
        x.close("Parallels_disk_image");
        Ok(x.text)
    }

    /// Cylinders x heads x sectors must be the size exactly: 16/32 for multiples of 256 KiB, as Parallels Desktop has
    /// it, else one sector per cylinder.
    fn geometry(&self) -> (u64, u64, u64) {
        if self.sectors.is_multiple_of(512) {
            (self.sectors / 512, 16, 32)
        } else {
            (self.sectors, 1, 1)
        }
    }
}

fn check_images(storage: &Storage, shots: &HashSet<Uuid>, root: Uuid) -> Result<()> {
    let bad = |what: String| Err(Error::malformed(what));
    let mut seen = HashSet::new();
    for image in &storage.images {
        if !shots.contains(&image.guid) || !seen.insert(image.guid) {
            return bad(format!(
                "image {{{}}} stands twice or in no snapshot",
                image.guid
            ));
        }
        if image.kind == ImageKind::Plain && image.guid != root {
            return bad(format!(
                "image {{{}}} is Plain but not the root",
                image.guid
            ));
        }
        if image.file.is_empty() || image.file.chars().any(char::is_control) {
            return bad(format!("image {{{}}} has no usable file name", image.guid));
        }
    }
    if seen.len() != shots.len() {
        return bad(format!(
            "storage at sector {} lacks the image of a snapshot",
            storage.start
        ));
    }
    Ok(())
}

fn guid(g: Uuid) -> String {
    format!("{{{g}}}")
}

#[derive(Default)]
struct Xml {
    text: String,
    depth: usize,
}

impl Xml {
    fn open(&mut self, tag: &str) {
        self.line(format_args!("<{tag}>"));
        self.depth += 1;
    }

    fn close(&mut self, tag: &str) {
        self.depth -= 1;
        self.line(format_args!("</{tag}>"));
    }

    fn leaf(&mut self, tag: &str, value: impl std::fmt::Display) {
        self.line(format_args!("<{tag}>{value}</{tag}>"));
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        let indent = self.depth * 4;
        let _ = writeln!(self.text, "{:indent$}{text}", ""); // writing into a String cannot fail
    }
}
