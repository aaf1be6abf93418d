//! What a disk holds for sure, and what is only on its way there.
//!
//! The model is that of POSIX, which promises least: content is safe once its file is flushed, a name once the folder
//! that it is in is. A rename is one change of both its folders, as on every journaling file system.

use super::super::change::Change;
use super::super::{Identity, sys};
use super::content::Edit;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io;
use std::path::Path;

/// A file or folder, whatever its name.
pub(super) type Id = usize;

/// The watched folder itself.
pub(super) const ROOT: Id = 0;

/// The names in a folder.
pub(super) type Names = BTreeMap<OsString, Id>;

/// A name in a folder.
pub(super) type Place = (Id, OsString);

/// Something that is on its way to the disk.
#[derive(Debug, Clone)]
pub(super) enum Pending {
    Appear { place: Place, id: Id },
    Vanish { place: Place, id: Id },
    Move { from: Place, to: Place, id: Id },
    Edit { id: Id, edit: Edit },
    Mode { id: Id, permissions: Permissions },
}

/// What the disk holds for sure of a file or folder.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) permissions: Permissions,
}

#[derive(Debug)]
pub(super) enum Kind {
    Folder(Names),
    File(Vec<u8>),
    /// Nothing changed it since the watch began: what is there now is safe.
    Untouched,
}

/// What the disk holds, and what is on its way there, in order.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) nodes: Vec<Node>,
    pub(super) pending: Vec<Pending>,
    /// The names as programs see them.
    pub(super) seen: HashMap<Id, Names>,
    known: HashMap<Identity, Id>,
}

/// What had to be known before a change.
pub(super) struct Noted {
    existed: bool,
}

impl Journal {
    /// Begins with what is below `root`, all of it safe.
    pub(super) fn of(root: &Path) -> io::Result<Journal> {
        let mut journal = Journal::default();
        journal.take_in(root)?;
        Ok(journal)
    }

    fn take_in(&mut self, folder: &Path) -> io::Result<Id> {
        let id = self.add(Kind::Folder(Names::new()), folder)?;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let kind = entry.file_type()?;
            let inner = if kind.is_dir() {
                self.take_in(&path)?
            } else if kind.is_file() {
                self.add(Kind::Untouched, &path)?
            } else {
                continue;
            };
            self.names(id).insert(entry.file_name(), inner);
            self.put(&(id, entry.file_name()), inner);
        }
        Ok(id)
    }

    fn add(&mut self, kind: Kind, path: &Path) -> io::Result<Id> {
        let id = self.nodes.len();
        let found = std::fs::symlink_metadata(path)?;
        if found.is_file() {
            self.known.insert(sys::identity(&File::open(path)?)?, id);
        }
        self.nodes.push(Node {
            kind,
            permissions: found.permissions(),
        });
        Ok(id)
    }

    fn names(&mut self, folder: Id) -> &mut Names {
        self.seen.entry(folder).or_default()
    }

    /// The names that the disk holds for sure of a folder; none for what is no folder.
    fn safe_names(&mut self, folder: Id) -> Option<&mut Names> {
        match &mut self.nodes[folder].kind {
            Kind::Folder(names) => Some(names),
            Kind::File(_) | Kind::Untouched => None,
        }
    }

    /// What stands at a place on the disk.
    fn at(&mut self, place: &Place) -> Option<Id> {
        self.safe_names(place.0)?.get(&place.1).copied()
    }

    fn put(&mut self, place: &Place, id: Id) {
        if let Some(names) = self.safe_names(place.0) {
            names.insert(place.1.clone(), id);
        }
    }

    fn take(&mut self, place: &Place) {
        if let Some(names) = self.safe_names(place.0) {
            names.remove(&place.1);
        }
    }

    /// What a program finds at `path`.
    fn find(&self, root: &Path, path: &Path) -> Option<Id> {
        let mut id = ROOT;
        for part in path.strip_prefix(root).ok()?.components() {
            id = *self.seen.get(&id)?.get(part.as_os_str())?;
        }
        Some(id)
    }

    /// The folder and the name of a path; none below a folder that was made behind the layer's back.
    fn place(&self, root: &Path, path: &Path) -> Option<Place> {
        let folder = self.find(root, path.parent()?)?;
        Some((folder, path.file_name().map(OsStr::to_owned)?))
    }

    fn id_of(&self, file: &super::super::File) -> io::Result<Option<Id>> {
        Ok(self.known.get(&sys::identity(file.as_std())?).copied())
    }

    /// Keeps what a file holds that is about to be changed or lose its name.
    fn keep(&mut self, id: Id, read: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<()> {
        if matches!(self.nodes[id].kind, Kind::Untouched) {
            self.nodes[id].kind = Kind::File(read()?);
        }
        Ok(())
    }

    /// To be called before a change is made.
    pub(super) fn before(&mut self, root: &Path, change: &Change<'_>) -> io::Result<Noted> {
        let mut existed = false;
        match change {
            Change::Write { file, .. }
            | Change::Copy { file, .. }
            | Change::Zero { file, .. }
            | Change::SetLen { file, .. } => {
                if let Some(id) = self.id_of(file)? {
                    self.keep(id, || content_of(file.as_std()))?;
                }
            }
            Change::RemoveFile(path) | Change::Rename { to: path, .. } => {
                if let Some(id) = self.find(root, path) {
                    self.keep(id, || std::fs::read(path))?;
                }
            }
            Change::OpenLock(path) => existed = self.find(root, path).is_some(),
            _ => {}
        }
        Ok(Noted { existed })
    }

    /// To be called after it was made.
    pub(super) fn after(
        &mut self,
        root: &Path,
        change: &Change<'_>,
        noted: &Noted,
    ) -> io::Result<()> {
        match change {
            Change::OpenLock(_) if noted.existed => {}
            Change::CreateFile(path) | Change::OpenLock(path) => {
                self.appear(root, path, Kind::File(Vec::new()))?;
            }
            Change::CreateDir(path) => self.appear(root, path, Kind::Folder(Names::new()))?,
            Change::Write { file, at, bytes } => {
                let bytes = bytes.to_vec();
                self.edit(file, Edit::Write { at: *at, bytes })?;
            }
            Change::Copy { file, at, len } | Change::Zero { file, at, len } => {
                let mut bytes = content_of(file.as_std())?;
                bytes.truncate((*at + *len) as usize);
                let bytes = bytes.split_off((*at as usize).min(bytes.len()));
                self.edit(file, Edit::Write { at: *at, bytes })?;
            }
            Change::SetLen { file, len } => self.edit(file, Edit::SetLen(*len))?,
            Change::Sync(file) => {
                if let Some(id) = self.id_of(file)? {
                    self.settle(|pending| pending.is_of_file(id));
                }
            }
            Change::SyncDir(path) => {
                if let Some(id) = self.find(root, path) {
                    self.settle(|pending| pending.is_name_in(id));
                }
            }
            Change::SyncVolume(_) => self.settle(|_| true),
            Change::Rename { from, to } => self.moved(root, from, to),
            Change::RemoveFile(path) | Change::RemoveDir(path) => self.vanish(root, path),
            Change::SetAccess(path) => {
                if let Some(id) = self.find(root, path) {
                    let permissions = std::fs::symlink_metadata(path)?.permissions();
                    self.pending.push(Pending::Mode { id, permissions });
                }
            }
            Change::Lock(_) | Change::Link(_) => {}
        }
        Ok(())
    }

    fn appear(&mut self, root: &Path, path: &Path, kind: Kind) -> io::Result<()> {
        if let Some(place) = self.place(root, path) {
            let id = self.add(kind, path)?;
            self.names(place.0).insert(place.1.clone(), id);
            self.pending.push(Pending::Appear { place, id });
        }
        Ok(())
    }

    fn vanish(&mut self, root: &Path, path: &Path) {
        if let Some(place) = self.place(root, path)
            && let Some(id) = self.names(place.0).remove(&place.1)
        {
            self.pending.push(Pending::Vanish { place, id });
        }
    }

    fn moved(&mut self, root: &Path, from: &Path, to: &Path) {
        let places = (self.place(root, from), self.place(root, to));
        if let (Some(from), Some(to)) = places
            && let Some(id) = self.names(from.0).remove(&from.1)
        {
            self.names(to.0).insert(to.1.clone(), id);
            self.pending.push(Pending::Move { from, to, id });
        }
    }

    fn edit(&mut self, file: &super::super::File, edit: Edit) -> io::Result<()> {
        if let Some(id) = self.id_of(file)? {
            self.pending.push(Pending::Edit { id, edit });
        }
        Ok(())
    }

    /// What is pending and chosen is on the disk from now on.
    fn settle(&mut self, chosen: impl Fn(&Pending) -> bool) {
        let (now, later) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(chosen);
        self.pending = later;
        let now: Vec<_> = now;
        now.iter().for_each(|pending| self.apply(pending));
    }

    /// Lets something reach the disk. What it builds on may have been lost: then it is, too.
    pub(super) fn apply(&mut self, pending: &Pending) {
        match pending {
            Pending::Appear { place, id } => {
                if self.at(place).is_none() {
                    self.put(place, *id);
                }
            }
            Pending::Vanish { place, id } => {
                if self.at(place) == Some(*id) {
                    self.take(place);
                }
            }
            Pending::Move { from, to, id } => {
                if self.at(from) == Some(*id) {
                    self.take(from);
                    self.put(to, *id);
                }
            }
            Pending::Edit { id, edit } => {
                if let Kind::File(content) = &mut self.nodes[*id].kind {
                    edit.apply(content);
                }
            }
            Pending::Mode { id, permissions } => {
                self.nodes[*id].permissions = permissions.clone();
            }
        }
    }
}

impl Pending {
    /// The names that it is about.
    pub(super) fn places(&self) -> Vec<&Place> {
        match self {
            Pending::Appear { place, .. } | Pending::Vanish { place, .. } => vec![place],
            Pending::Move { from, to, .. } => vec![from, to],
            Pending::Edit { .. } | Pending::Mode { .. } => Vec::new(),
        }
    }

    fn is_name_in(&self, folder: Id) -> bool {
        self.places().iter().any(|place| place.0 == folder)
    }

    fn is_of_file(&self, file: Id) -> bool {
        match self {
            Pending::Edit { id, .. } | Pending::Mode { id, .. } => *id == file,
            _ => false,
        }
    }
}

fn content_of(file: &File) -> io::Result<Vec<u8>> {
    let mut content = vec![0; file.metadata()?.len() as usize];
    sys::read_exact_at(file, &mut content, 0)?;
    Ok(content)
}
