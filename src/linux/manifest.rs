//! The manifest: what the guest is to find, in which order, and where it goes. Version 1 of the
//! grammar in `guest/README.md`.
//!
//! Which disk it stands on is in [`super::session`].

use std::collections::BTreeSet;
use std::fmt;

use super::{ContentId, FileSystem};
use crate::error::{Error, Result};
use crate::spec::{Name, Role};

/// Longest manifest that the guest reads, in bytes.
pub(super) const MAX_LEN: usize = 64 << 10;

/// One layer as the manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManifestLine {
    /// What the layer holds.
    pub role: Role,
    /// The id in its partition's name.
    pub id: ContentId,
    /// The file system in the partition.
    pub fs: FileSystem,
    /// The layer's name, for messages.
    pub name: Name,
    /// What else the guest should know.
    pub flags: BTreeSet<Flag>,
    /// Where the layer appears: absolute paths.
    pub paths: Vec<String>,
}

impl ManifestLine {
    /// A line without flags and paths.
    #[must_use]
    pub fn new(role: Role, id: ContentId, fs: FileSystem, name: Name) -> Self {
        Self {
            role,
            id,
            fs,
            name,
            flags: BTreeSet::new(),
            paths: Vec::new(),
        }
    }
}

/// What the guest should know about a layer beside its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Flag {
    /// Nothing was ever written: format it if it does not mount. For layers that keep writes.
    Fresh,
    /// The guest may boot without it.
    Optional,
    /// An os layer that stands alone is mounted writable as `/`.
    Edit,
}

impl Flag {
    /// The flag as the manifest writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Optional => "optional",
            Self::Edit => "edit",
        }
    }
}

/// A manifest that follows the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    lines: Vec<ManifestLine>,
}

impl Manifest {
    /// Puts `lines` in order (os, apps, the others; each as given) and checks them.
    pub(super) fn new(mut lines: Vec<ManifestLine>) -> Result<Self> {
        lines.sort_by_key(|line| match line.role {
            Role::Os => 0,
            Role::Apps => 1,
            _ => 2,
        });
        let mut ids = BTreeSet::new();
        for line in &lines {
            check(line)?;
            if !ids.insert(line.id) {
                return Err(Error::invalid(format!(
                    "layer {} has the partition id {} of another layer",
                    line.name, line.id
                )));
            }
        }
        let edited = lines.iter().any(|line| line.flags.contains(&Flag::Edit));
        if lines.iter().filter(|line| line.role == Role::Os).count() != 1 {
            return Err(Error::invalid(
                "a Linux guest is composed of just one os layer",
            ));
        }
        if edited && lines.len() != 1 {
            return Err(Error::invalid(
                "an os layer is edited without any other layer",
            ));
        }
        Ok(Self { lines })
    }

    /// Whether the guest mounts the os layer itself and needs no session area.
    pub(super) fn is_edit(&self) -> bool {
        self.lines
            .iter()
            .any(|line| line.flags.contains(&Flag::Edit))
    }

    /// The text, with the session area of this id behind os and apps.
    pub(super) fn text(&self, session: Option<ContentId>) -> Result<String> {
        let mut text = "strata 1\n".to_owned();
        let (below, above): (Vec<_>, Vec<_>) = self
            .lines
            .iter()
            .partition(|line| matches!(line.role, Role::Os | Role::Apps));
        for line in below {
            text.push_str(&line.to_string());
        }
        if let Some(id) = session {
            text.push_str(&format!("session {id} {} session\n", FileSystem::Ext4));
        }
        for line in above {
            text.push_str(&line.to_string());
        }
        text.push_str("end\n");
        if text.len() > MAX_LEN {
            return Err(Error::invalid(format!(
                "the manifest takes {} bytes; the guest reads {MAX_LEN}",
                text.len()
            )));
        }
        Ok(text)
    }
}

impl fmt::Display for ManifestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.role, self.id, self.fs, self.name)?;
        let flags: Vec<_> = self.flags.iter().map(|flag| flag.as_str()).collect();
        match (flags.is_empty(), self.paths.is_empty()) {
            (true, true) => {}
            (true, false) => f.write_str(" -")?,
            (false, _) => write!(f, " {}", flags.join(","))?,
        }
        self.paths
            .iter()
            .try_for_each(|path| write!(f, " {path}"))?;
        f.write_str("\n")
    }
}

/// No value may be taken for syntax, and no flag may harm.
fn check(line: &ManifestLine) -> Result<()> {
    let fault = |what: String| Err(Error::invalid(format!("layer {}: {what}", line.name)));
    for path in &line.paths {
        if !is_guest_path(path) {
            return fault(format!("{path:?} is no path that a manifest can hold"));
        }
    }
    let may_carry = |flag: Flag| match flag {
        Flag::Fresh => !matches!(line.role, Role::Os | Role::Apps),
        Flag::Optional => line.role.may_be_optional(),
        Flag::Edit => line.role == Role::Os,
    };
    if let Some(flag) = line.flags.iter().find(|flag| !may_carry(**flag)) {
        return fault(format!(
            "the flag {} is not for the role {}",
            flag.as_str(),
            line.role
        ));
    }
    if !line.paths.is_empty() && !line.role.takes_paths() {
        return fault(format!("the role {} has no paths", line.role));
    }
    if line.role.takes_paths() && line.paths.is_empty() {
        return fault(format!("the role {} needs a path", line.role));
    }
    if line.flags.contains(&Flag::Edit) && line.fs != FileSystem::Ext4 {
        return fault(format!("a {} cannot be edited: build a new one", line.fs));
    }
    Ok(())
}

/// Absolute, one word, nothing that leaves it again.
fn is_guest_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains(|c: char| c.is_whitespace() || c.is_control())
        && !path.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn line(role: Role, id: u8) -> ManifestLine {
        let name = Name::new(format!("l{id}")).unwrap();
        let mut line =
            ManifestLine::new(role, ContentId::from_bytes([id; 8]), FileSystem::Ext4, name);
        line.paths = role
            .default_paths()
            .iter()
            .map(|&path| path.to_owned())
            .collect();
        line
    }

    #[test]
    fn the_text_is_what_the_guest_reads() {
        let mut os = line(Role::Os, 2);
        os.fs = FileSystem::Squashfs;
        let mut apps = line(Role::Apps, 3);
        apps.flags.insert(Flag::Optional);
        let mut cache = line(Role::Cache, 4);
        cache.flags.extend([Flag::Optional, Flag::Fresh]);
        let lines = vec![
            line(Role::UserData, 1),
            apps,
            cache,
            os,
            line(Role::UserApps, 5),
        ];
        let manifest = Manifest::new(lines).unwrap();
        assert_eq!(
            manifest
                .text(Some(ContentId::from_bytes([0xff; 8])))
                .unwrap(),
            "strata 1\n\
             os 0202020202020202 squashfs l2\n\
             apps 0303030303030303 ext4 l3 optional\n\
             session ffffffffffffffff ext4 session\n\
             user-data 0101010101010101 ext4 l1 - /home\n\
             cache 0404040404040404 ext4 l4 fresh,optional /var/cache/apt\n\
             user-apps 0505050505050505 ext4 l5 - /opt /usr/local\n\
             end\n"
        );
    }

    #[test]
    fn what_the_guest_would_refuse_is_refused_here() {
        let flagged = |role, flag| {
            let mut line = line(role, 9);
            line.flags.insert(flag);
            line
        };
        let os = || line(Role::Os, 1);
        let mut squashed = flagged(Role::Os, Flag::Edit);
        squashed.fs = FileSystem::Squashfs;
        let cases = [
            vec![],
            vec![line(Role::Apps, 1)],
            vec![os(), line(Role::Os, 2)],
            vec![os(), line(Role::Apps, 1)],
            vec![os(), line(Role::Custom, 2)],
            vec![flagged(Role::Os, Flag::Fresh)],
            vec![flagged(Role::Os, Flag::Optional)],
            vec![flagged(Role::Os, Flag::Edit), line(Role::Cache, 2)],
            vec![os(), flagged(Role::UserData, Flag::Edit)],
            vec![os(), flagged(Role::UserData, Flag::Optional)],
            vec![squashed],
        ];
        for lines in cases {
            assert!(Manifest::new(lines.clone()).is_err(), "{lines:?}");
        }
        assert!(
            Manifest::new(vec![flagged(Role::Os, Flag::Edit)])
                .unwrap()
                .is_edit()
        );
        for path in [
            "",
            "home",
            "/a b",
            "/a\nend",
            "/a\u{a0}b",
            "/a/../b",
            "/a\0",
        ] {
            let mut custom = line(Role::Custom, 2);
            custom.paths = vec![path.to_owned()];
            assert!(Manifest::new(vec![os(), custom]).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_manifest_that_the_guest_would_cut_is_refused() {
        let mut custom = line(Role::Custom, 2);
        custom.paths = (0..8000).map(|n| format!("/path/{n}")).collect();
        let manifest = Manifest::new(vec![line(Role::Os, 1), custom]).unwrap();
        assert!(manifest.text(None).is_err());
    }

    proptest! {
        #[test]
        fn every_line_has_its_fields_whatever_the_paths(
            paths in proptest::collection::vec("/\\PC{0,12}", 1..4)
        ) {
            let mut custom = line(Role::Custom, 2);
            custom.paths.clone_from(&paths);
            if let Ok(manifest) = Manifest::new(vec![line(Role::Os, 1), custom]) {
                let text = manifest.text(None).unwrap();
                let lines: Vec<Vec<_>> =
                    text.lines().map(|line| line.split_whitespace().collect()).collect();
                prop_assert_eq!(lines.len(), 4);
                prop_assert_eq!(&lines[2][4..5], ["-"]);
                prop_assert_eq!(&lines[2][5..], &paths);
            }
        }
    }
}
