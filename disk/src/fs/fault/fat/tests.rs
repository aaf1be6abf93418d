//! Each rule is held up by itself, with the same call allowed beside the volume: an emulation that lets everything
//! through would fail here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::fs::{self, Access, Trial};
use crate::volume::{Case, Holes, Links, Permissions};
use std::io::ErrorKind;

const FAT32_LARGEST: u64 = (4 << 30) - 1;

/// A folder `volume` that is a volume by `rules`, and the folder `host` beside it.
struct Both {
    volume: PathBuf,
    host: PathBuf,
    fat: FatVolume,
    _dir: tempfile::TempDir,
}

impl Both {
    fn with(rules: FatRules) -> Both {
        let dir = tempfile::tempdir().unwrap();
        let (volume, host) = (dir.path().join("volume"), dir.path().join("host"));
        std::fs::create_dir(&volume).unwrap();
        std::fs::create_dir(&host).unwrap();
        let fat = FatVolume::at(&volume, rules);
        Both {
            _dir: dir,
            volume,
            host,
            fat,
        }
    }

    /// Does it on the host, where it must succeed, then on the volume, where it must fail.
    fn refused<T: std::fmt::Debug>(&self, kind: ErrorKind, act: impl Fn(&Path) -> io::Result<T>) {
        act(&self.host).unwrap();
        let before = self.fat.refused().len();
        assert_eq!(act(&self.volume).unwrap_err().kind(), kind);
        assert_eq!(self.fat.refused().len(), before + 1);
    }

    fn refused_nothing(&self) {
        assert_eq!(self.fat.refused(), Vec::<String>::new());
    }
}

#[test]
fn a_file_ends_before_4_gib() {
    let both = Both::with(FatRules::fat32());
    let file = |folder: &Path| {
        let path = folder.join("file");
        fs::File::open_rw(&path).or_else(|_| fs::File::create_new(&path))
    };
    for folder in [&both.host, &both.volume] {
        file(folder).unwrap().set_len(FAT32_LARGEST).unwrap();
        file(folder)
            .unwrap()
            .write_all_at(&[1], FAT32_LARGEST - 1)
            .unwrap();
    }
    both.refused(ErrorKind::FileTooLarge, |f| file(f)?.set_len(4 << 30));
    both.refused(ErrorKind::FileTooLarge, |f| {
        file(f)?.write_all_at(&[1, 2], FAT32_LARGEST - 1)
    });
    let source = both.host.join("source");
    std::fs::write(&source, "ab").unwrap();
    let source = File::open(&source).unwrap();
    both.refused(ErrorKind::FileTooLarge, |f| {
        file(f)?.copy_range(&source, 0, FAT32_LARGEST - 1, 2)
    });
    assert_eq!(file(&both.volume).unwrap().size().unwrap(), FAT32_LARGEST);
    let both = Both::with(FatRules::exfat());
    file(&both.volume).unwrap().set_len(5 << 30).unwrap();
}

#[test]
fn there_are_no_links() {
    let both = Both::with(FatRules::exfat());
    let original = both.host.join("original");
    std::fs::write(&original, "").unwrap();
    let links = |folder: &Path| Trial::new(folder).unwrap().links().unwrap();
    assert_eq!(links(&both.volume), Links::None);
    assert_eq!(both.fat.refused().len(), 1, "{:?}", both.fat.refused());
    assert_eq!(links(&both.host), Links::HardAndSymbolic);
}

#[test]
fn names_that_fat_cannot_write_are_refused() {
    let both = Both::with(FatRules::fat32());
    let at_the_end = ["dot.", "space "];
    let names = ["a:b", "a*", "a?", "a\"", "a<", "a>", "a|", "a\\b", "a\tb"];
    for name in names.iter().chain(&at_the_end) {
        let path = both.volume.join(name);
        let refused = [
            fs::File::create_new(&path).err(),
            fs::File::open_lock(&path).err(),
            fs::create_dir(&path).err(),
            fs::create_dir_all(&path.join("inner")).err(),
        ];
        for error in refused {
            assert_eq!(error.unwrap().kind(), ErrorKind::InvalidInput, "{name:?}");
        }
    }
    for name in names {
        fs::File::create_new(&both.host.join(name)).unwrap();
    }
    let good = both.volume.join(".name-1.tmp é");
    fs::File::create_new(&good).unwrap();
    let error = fs::rename(&good, &both.volume.join("a:b")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(good.exists());
    assert!(is_name(&"é".repeat(255)) && !is_name(&"é".repeat(256)));
}

#[test]
fn names_are_the_same_in_every_case() {
    let both = Both::with(FatRules::fat32());
    let (small, large) = (both.volume.join("folder"), both.volume.join("FOLDER"));
    fs::create_dir(&small).unwrap();
    assert_eq!(
        fs::create_dir(&large).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    fs::create_dir_all(&large).unwrap();
    let file = fs::File::create_new(&small.join("name")).unwrap();
    file.write_all_at(b"one", 0).unwrap();
    both.refused_nothing();
    assert_eq!(
        fs::File::create_new(&large.join("Name"))
            .unwrap_err()
            .kind(),
        ErrorKind::AlreadyExists
    );
    assert_eq!(
        fs::File::open(&large.join("Name")).unwrap().size().unwrap(),
        3
    );
    assert_eq!(
        fs::File::open_lock(&large.join("NAME"))
            .unwrap()
            .size()
            .unwrap(),
        3
    );
    drop(file);
    let other = fs::File::create_new(&small.join("other")).unwrap();
    drop(other);
    fs::rename(&small.join("Other"), &small.join("NAME")).unwrap();
    assert_eq!(std::fs::read_dir(&small).unwrap().count(), 1);
    assert_eq!(std::fs::read(small.join("name")).unwrap(), b"");
    fs::remove_file(&large.join("NAME")).unwrap();
    assert_eq!(std::fs::read_dir(&small).unwrap().count(), 0);
    fs::File::create_new(&small.join("Mixed")).unwrap();
    fs::File::open(&large.join("mIXED")).unwrap();
    fs::remove_dir_all(&large).unwrap();
    assert!(!small.exists());
}

#[test]
fn modes_are_not_kept() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let make = |folder: &Path| {
        fs::create_dir(&folder.join("inner")).unwrap();
        fs::File::create_new(&folder.join("file")).unwrap();
        fs::File::open_lock(&folder.join("lock")).unwrap();
        ["inner", "file", "lock"].map(|name| mode(&folder.join(name)))
    };
    let seal = |folder: &Path| fs::set_access(&folder.join("file"), Access::ReadOnly);
    let both = Both::with(FatRules::fat32());
    assert_eq!(make(&both.host), [0o700, 0o600, 0o600]);
    assert_eq!(make(&both.volume), [0o755; 3]);
    both.refused(ErrorKind::PermissionDenied, seal);
    assert_eq!(mode(&both.host.join("file")), 0o444);
    assert_eq!(mode(&both.volume.join("file")), 0o755);
    let both = Both::with(FatRules::exfat());
    assert_eq!(make(&both.volume), [0o777; 3]);
    seal(&both.volume).unwrap();
    assert_eq!(mode(&both.volume.join("file")), 0o777);
    both.refused_nothing();
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
#[test]
fn there_are_no_holes() {
    let both = Both::with(FatRules::fat32());
    let long = 8 << 20;
    let make = |folder: &Path| {
        let file = fs::File::create_new(&folder.join("file")).unwrap();
        file.set_len(long).unwrap();
        file
    };
    let (host, volume) = (make(&both.host), make(&both.volume));
    let taken = |file: &fs::File| fs::allocated(&file.as_std().metadata().unwrap()).unwrap();
    assert!(taken(&host) < long);
    assert_eq!(taken(&volume), long);
    assert_eq!(fs::next_data(host.as_std(), 0).unwrap(), None);
    assert_eq!(fs::next_data(volume.as_std(), 5).unwrap(), Some(5));
    assert_eq!(fs::next_data(volume.as_std(), long).unwrap(), None);
    assert_eq!(fs::next_hole(host.as_std(), 5).unwrap(), 5);
    assert_eq!(fs::next_hole(volume.as_std(), 5).unwrap(), long);
    // Also under another name.
    let inner = both.volume.join("inner");
    fs::create_dir(&inner).unwrap();
    fs::rename(&both.volume.join("file"), &inner.join("moved")).unwrap();
    fs::rename(&inner, &both.volume.join("outer")).unwrap();
    assert_eq!(taken(&volume), long);
    // Another file that gets the number of a removed one has holes again, whoever removed it.
    let number = sys::identity(volume.as_std()).unwrap();
    std::fs::remove_dir_all(both.volume.join("outer")).unwrap();
    assert!(!both.fat.0.has(number));
}

#[test]
fn no_file_shares_blocks_with_another() {
    let both = Both::with(FatRules::exfat());
    let source = both.host.join("source");
    std::fs::write(&source, "ab").unwrap();
    let source = File::open(&source).unwrap();
    let file = fs::File::create_new(&both.volume.join("file")).unwrap();
    assert!(!file.clone_from(&source).unwrap());
    assert_eq!(file.size().unwrap(), 0);
    assert!(!may_share_blocks(&file));
    let beside = fs::File::create_new(&both.host.join("file")).unwrap();
    assert!(may_share_blocks(&beside));
}

#[cfg(target_os = "linux")]
#[test]
fn an_open_file_is_not_replaced() {
    let both = Both::with(FatRules::fat32());
    let open = ["host", "volume"].map(|name| {
        let folder = both.volume.with_file_name(name);
        fs::File::create_new(&folder.join("new")).unwrap();
        fs::File::create_new(&folder.join("old")).unwrap()
    });
    let replace = |folder: &Path| fs::rename(&folder.join("new"), &folder.join("old"));
    both.refused(ErrorKind::PermissionDenied, replace);
    drop(open);
    replace(&both.volume).unwrap();
    let both = Both::with(FatRules::exfat());
    fs::File::create_new(&both.volume.join("new")).unwrap();
    let _open = fs::File::create_new(&both.volume.join("old")).unwrap();
    replace(&both.volume).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn trials_find_all_of_it_out() {
    for (rules, over) in [
        (FatRules::fat32(), RenameOverOpen::Refused),
        (FatRules::exfat(), RenameOverOpen::Allowed),
    ] {
        let both = Both::with(rules);
        let trial = Trial::new(&both.volume).unwrap();
        assert_eq!(trial.holes().unwrap(), Holes::None);
        assert_eq!(trial.links().unwrap(), Links::None);
        assert_eq!(trial.permissions().unwrap(), Permissions::None);
        assert_eq!(trial.case().unwrap(), Case::Insensitive);
        assert_eq!(trial.rename_over_open().unwrap(), over);
        let trial = Trial::new(&both.host).unwrap();
        assert_eq!(trial.holes().unwrap(), Holes::Sparse);
        assert_eq!(trial.permissions().unwrap(), Permissions::Posix);
    }
}

#[test]
fn nothing_is_left_of_it_afterwards() {
    let both = Both::with(FatRules::fat32());
    let path = both.volume.join("file");
    let file = fs::File::create_new(&path).unwrap();
    drop(both.fat);
    file.set_len(5 << 30).unwrap();
    fs::set_access(&path, Access::ReadOnly).unwrap();
    assert!(path.metadata().unwrap().permissions().readonly());
    assert!(!is_without_holes(file.as_std()).unwrap());
}
