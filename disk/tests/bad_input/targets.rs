//! Where a new image is to stand: something is there already, there is no room, or the source changes meanwhile.

use crate::{options, report};
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use stratavm_disk::{
    Access, Below, Chain, Ctx, Error, ErrorKind, Format, Target, convert_chain, create_blank,
    flatten,
};

const SIZE: usize = 3 << 20;

fn source(folder: &Path) -> (PathBuf, Chain) {
    let path = folder.join("source.raw");
    fs::write(&path, vec![0x5a; SIZE]).unwrap();
    let gate = Below::new(folder).unwrap();
    let chain = Chain::open(&path, Format::Raw, Access::Read, &gate).unwrap();
    (path, chain)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The ways of making an image of a format.
fn make(how: usize, chain: &Chain, target: &Path, to: Target) -> Result<(), Error> {
    let (options, ctx) = (options(), Ctx::none());
    match how {
        0 => flatten(chain, target, to, &options, &ctx),
        1 => convert_chain(chain, target, to, &options, &ctx),
        _ => create_blank(target, to, SIZE as u64, &options),
    }
    .map(drop)
}

#[test]
fn what_is_there_stays_as_it_is() {
    let from = tempfile::tempdir().unwrap();
    let (_, chain) = source(from.path());
    for to in Target::ALL {
        for how in 0..3 {
            if how == 2 && to == Target::VmdkStream {
                continue; // nobody could write to it
            }
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("new.vmdk");
            fs::write(&target, "mine").unwrap();
            let error = make(how, &chain, &target, to).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Exists, "{to}: {error}");
            assert_eq!(error.path(), Some(target.as_path()), "{to}: {error}");
            assert_eq!(fs::read(&target).unwrap(), b"mine");
            assert_eq!(
                entries(folder.path()),
                std::slice::from_ref(&target),
                "{to}"
            );
            // A link that leads nowhere is there too.
            #[cfg(unix)]
            {
                fs::remove_file(&target).unwrap();
                std::os::unix::fs::symlink("nowhere", &target).unwrap();
                let error = make(how, &chain, &target, to).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Exists, "{to}: {error}");
                assert_eq!(entries(folder.path()), [target], "{to}");
            }
        }
    }
}

/// A volume of 1 MiB in memory.
struct Small(tempfile::TempDir);

impl Small {
    fn mounted() -> Result<Small, String> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "none"]);
        let done = mount.arg(folder.path()).env("LC_ALL", "C").output();
        let done = done.map_err(|error| format!("mount: {error}"))?;
        match done.status.success() {
            true => Ok(Small(folder)),
            false => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_volume_is_told_and_left_as_it_was() {
    let small = match Small::mounted() {
        Ok(small) => small,
        Err(why) => return report::skip("tmpfs", "new images on a full volume", &why),
    };
    let from = tempfile::tempdir().unwrap();
    let (source, chain) = source(from.path());
    // Noise, which a stream cannot make smaller.
    let mut word = 1_u64;
    let noise = std::iter::repeat_with(|| {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (word >> 33) as u8
    });
    fs::write(&source, noise.take(SIZE).collect::<Vec<_>>()).unwrap();
    for to in Target::ALL {
        for how in 0..2 {
            let target = small.0.path().join("new.vmdk");
            let error = make(how, &chain, &target, to).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{to}: {error}");
            assert!(
                error.path().unwrap().starts_with(small.0.path()),
                "{to}: {error}"
            );
            assert!(entries(small.0.path()).is_empty(), "{to}");
        }
    }
    report::ran("tmpfs", "new images on a full volume");
}

#[test]
fn a_source_that_changes_is_noticed() {
    for to in Target::ALL {
        for longer in [0, 512] {
            let from = tempfile::tempdir().unwrap();
            let (path, chain) = source(from.path());
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("new.vmdk");
            let (once, changed) = (AtomicBool::new(false), path.clone());
            let ctx = Ctx::none().with_progress(move |_| {
                if !once.swap(true, Ordering::Relaxed) {
                    let mut file = OpenOptions::new().write(true).open(&changed).unwrap();
                    let at = if longer == 0 { 7 } else { SIZE as u64 + longer };
                    file.seek(SeekFrom::Start(at)).unwrap();
                    file.write_all(b"changed").unwrap();
                    // Whatever the clock of the volume says.
                    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
                    file.set_modified(later).unwrap();
                }
            });
            let made = flatten(&chain, &target, to, &options(), &ctx);
            let error = made.expect_err("it changed");
            assert_eq!(error.kind(), ErrorKind::Mismatch, "{to}: {error}");
            assert!(
                error.to_string().contains("source changed"),
                "{to}: {error}"
            );
            assert!(entries(folder.path()).is_empty(), "{to}");
        }
    }
}
