//! Files made once and kept under the build folder, named by what they were made from. Removes nothing but old
//! versions of the same thing.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::tool::At;
use crate::exec::Error;

/// The folder of what the demo makes.
pub(crate) struct Cache {
    folder: PathBuf,
}

/// What a thing is made from; equal keys make equal things.
pub(crate) struct Key(Sha256);

impl Key {
    pub(crate) fn new(what: &str) -> Self {
        Self(Sha256::new()).with(what)
    }

    /// The key with one more input; inputs cannot run into each other.
    pub(crate) fn with(mut self, input: impl AsRef<[u8]>) -> Self {
        let input = input.as_ref();
        self.0.update((input.len() as u64).to_le_bytes());
        self.0.update(input);
        self
    }

    fn text(self) -> String {
        hex(&self.0.finalize())[..16].to_owned()
    }
}

impl Cache {
    pub(crate) fn open(folder: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&folder).at(folder.display())?;
        Ok(Self { folder })
    }

    /// The file or folder `<name>-<key>`: as it is, or made by `make`, which gets a path where nothing is yet.
    pub(crate) fn get(
        &self,
        name: &str,
        key: Key,
        make: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        let wanted = self.folder.join(format!("{name}-{}", key.text()));
        if wanted.exists() {
            return Ok(wanted);
        }
        self.forget(name)?;
        let unfinished = self.folder.join(format!("{name}.unfinished"));
        make(&unfinished)?;
        fs::rename(&unfinished, &wanted).at(wanted.display())?;
        Ok(wanted)
    }

    /// Drops earlier versions of a thing, and what an interrupted run left of it.
    fn forget(&self, name: &str) -> Result<(), Error> {
        for entry in fs::read_dir(&self.folder).at(self.folder.display())? {
            let path = entry.at(self.folder.display())?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let version = file
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('-'));
            if file == format!("{name}.unfinished") || version.is_some_and(is_key) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Removes a file or a folder with all that is in it.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).at(path.display()),
        Ok(_) => fs::remove_file(path).at(path.display()),
    }
}

/// SHA-256 of a file.
pub(crate) fn digest_of(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).at(path.display())?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).at(path.display())? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_key(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_thing_is_made_once_and_an_older_version_goes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().to_owned()).unwrap();
        let write = |text: &'static str| move |path: &Path| fs::write(path, text).at("test");
        let one = cache.get("os", Key::new("a"), write("first")).unwrap();
        let again = cache.get("os", Key::new("a"), write("second")).unwrap();
        assert_eq!(
            (one.clone(), "first"),
            (again.clone(), fs::read_to_string(again).unwrap().as_str())
        );
        fs::write(dir.path().join("os-boot-0123456789abcdef"), "another thing").unwrap();
        let two = cache.get("os", Key::new("b"), write("third")).unwrap();
        assert!(
            !one.exists() && two.exists() && dir.path().join("os-boot-0123456789abcdef").exists()
        );
    }

    #[test]
    fn inputs_do_not_run_into_each_other() {
        let key = |a: &str, b: &str| Key::new("x").with(a).with(b).text();
        assert_ne!(key("ab", "c"), key("a", "bc"));
    }
}
