//! What can be wrong with a folder, one thing each.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Changes the record as a text.
pub(crate) fn record(folder: &Path, change: impl Fn(&mut serde_json::Value)) {
    let path = folder.join("machine.json");
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, serde_json::to_vec_pretty(&value).unwrap()).unwrap();
}

fn with_name(folder: &Path, starts: &str) -> PathBuf {
    let entries = fs::read_dir(folder.join("layers/home")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let is = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(starts)
    };
    paths.into_iter().find(is).unwrap()
}

/// The oldest delta of home: frozen.
fn delta(folder: &Path) -> PathBuf {
    with_name(folder, "head-")
}

/// Replaces a text in a file by one of the same length.
fn replace(path: &Path, from: &str, to: &str) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes
        .windows(from.len())
        .position(|window| window == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("{from} in {}", path.display()));
    bytes.splice(at..at + from.len(), to.bytes());
    if to.len() != from.len() {
        // The descriptor's room is filled with NULs: take as many as the text grew by.
        let end = at + bytes[at..].iter().position(|byte| *byte == 0).unwrap();
        bytes.drain(end..end + (to.len() - from.len()));
    }
    fs::write(path, bytes).unwrap();
}

fn line(path: &Path, key: &str) -> String {
    let bytes = fs::read(path).unwrap();
    let text = String::from_utf8_lossy(&bytes[512..11264]).into_owned();
    text.lines()
        .find(|line| line.starts_with(key))
        .unwrap()
        .to_owned()
}

fn poke(path: &Path, at: usize, bytes: &[u8]) {
    let mut all = fs::read(path).unwrap();
    all[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(path, all).unwrap();
}

fn fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo")
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
}

/// What is done to the folder, and words of the refusal.
pub(crate) type Case = (&'static str, fn(&Path), &'static str);

pub(crate) const CASES: [Case; 36] = [
    (
        "record: cut off",
        |f| {
            let bytes = fs::read(f.join("machine.json")).unwrap();
            fs::write(f.join("machine.json"), &bytes[..bytes.len() / 2]).unwrap();
        },
        "machine.json",
    ),
    (
        "record: missing",
        |f| fs::remove_file(f.join("machine.json")).unwrap(),
        "machine.json",
    ),
    (
        "record: endless",
        |f| {
            let file = fs::File::options()
                .write(true)
                .open(f.join("machine.json"))
                .unwrap();
            file.set_len(1 << 40).unwrap();
        },
        "over 16777216 bytes",
    ),
    (
        "record: deep",
        |f| fs::write(f.join("machine.json"), vec![b'['; 1 << 20]).unwrap(),
        "machine.json",
    ),
    (
        "record: a pipe",
        |f| {
            fs::remove_file(f.join("machine.json")).unwrap();
            fifo(&f.join("machine.json"));
        },
        "pipe",
    ),
    (
        "record: a link",
        |f| {
            fs::remove_file(f.join("machine.json")).unwrap();
            symlink("/etc/passwd", f.join("machine.json")).unwrap();
        },
        "symbolic link",
    ),
    (
        "record: from the future",
        |f| {
            record(f, |r| {
                r["format"]["version"] = 99.into();
                r["format"]["min-reader"] = 99.into();
            })
        },
        "reader",
    ),
    (
        "record: a name that leads out",
        |f| record(f, |r| r["name"] = "../desk".into()),
        "name",
    ),
    (
        "record: a layer that leads out",
        |f| record(f, |r| r["layers"][2]["spec"]["name"] = "../../home".into()),
        "name",
    ),
    (
        "record: a layer called session",
        |f| record(f, |r| r["layers"][2]["spec"]["name"] = "session".into()),
        "session",
    ),
    (
        "record: no id",
        |f| {
            record(f, |r| {
                r["id"] = "00000000-0000-0000-0000-000000000000".into()
            })
        },
        "id",
    ),
    (
        "record: a counter that overflows",
        |f| record(f, |r| r["generation"] = u64::MAX.into()),
        "counter",
    ),
    (
        "record: revisions in a circle",
        |f| {
            record(f, |r| {
                r["layers"][2]["history"]["revisions"][0]["parent"] = 2.into()
            })
        },
        "parent",
    ),
    (
        "record: a current revision that is not there",
        |f| record(f, |r| r["layers"][2]["history"]["current"] = 77.into()),
        "77",
    ),
    (
        "record: a head ahead of the counter",
        |f| record(f, |r| r["layers"][2]["head"]["generation"] = 9999.into()),
        "generation",
    ),
    (
        "record: two disks on one port",
        |f| {
            record(f, |r| {
                let port = r["hardware"]["ports"][0]["slot"].clone();
                r["hardware"]["ports"][1]["slot"] = port;
            })
        },
        "port",
    ),
    (
        "record: a port that no product has",
        |f| record(f, |r| r["hardware"]["ports"][1]["slot"] = 4_000_000.into()),
        "port",
    ),
    (
        "record: an image that leads out",
        |f| {
            record(f, |r| {
                r["layers"][2]["history"]["revisions"][0]["image"] = "sha256c:../../etc".into()
            })
        },
        "digest",
    ),
    (
        "record: an image that is not here",
        |f| {
            record(f, |r| {
                r["layers"][2]["history"]["revisions"][0]["image"] =
                    format!("sha256c:{}", "ab".repeat(32)).into();
            })
        },
        "abababab",
    ),
    (
        "folder: layers are a link",
        |f| {
            fs::rename(f.join("layers"), f.with_extension("aside")).unwrap();
            symlink(f.with_extension("aside"), f.join("layers")).unwrap();
        },
        "symbolic link",
    ),
    (
        "folder: a layer is a link",
        |f| {
            fs::rename(f.join("layers/home"), f.with_extension("aside")).unwrap();
            symlink(f.with_extension("aside"), f.join("layers/home")).unwrap();
        },
        "symbolic link",
    ),
    (
        "folder: products are a link",
        |f| {
            let _ = fs::remove_dir_all(f.join("products"));
            symlink("/etc", f.join("products")).unwrap();
        },
        "symbolic link",
    ),
    (
        "folder: a socket",
        |f| drop(UnixListener::bind(f.join("s")).unwrap()),
        "socket",
    ),
    (
        "folder: endless depth",
        |f| {
            let deep = (0..40).fold(f.join("x"), |path, _| path.join("x"));
            fs::create_dir_all(deep).unwrap();
        },
        "deeper",
    ),
    (
        "delta: a link",
        |f| {
            fs::remove_file(delta(f)).unwrap();
            symlink("/dev/zero", delta_name(f)).unwrap();
        },
        "symbolic link",
    ),
    (
        "delta: a pipe",
        |f| {
            fs::remove_file(delta(f)).unwrap();
            fifo(&delta_name(f));
        },
        "pipe",
    ),
    (
        "delta: a folder",
        |f| {
            fs::remove_file(delta(f)).unwrap();
            fs::create_dir(delta_name(f)).unwrap();
        },
        "no regular file",
    ),
    (
        "delta: missing",
        |f| fs::remove_file(delta(f)).unwrap(),
        "head-3.vmdk",
    ),
    (
        "delta: far too long",
        |f| {
            let file = fs::File::options().write(true).open(delta(f)).unwrap();
            file.set_len(1 << 42).unwrap();
        },
        "bytes long",
    ),
    (
        "delta: cut off",
        |f| {
            let file = fs::File::options().write(true).open(delta(f)).unwrap();
            file.set_len(100).unwrap();
        },
        "head-3.vmdk",
    ),
    (
        "delta: no magic",
        |f| poke(&delta(f), 0, b"QFI\xfb"),
        "not vmdk-sparse",
    ),
    (
        "delta: a capacity of exabytes",
        |f| poke(&delta(f), 12, &[0xff; 8]),
        "capacity",
    ),
    (
        "delta: a grain of nothing",
        |f| poke(&delta(f), 20, &[0; 8]),
        "grain size",
    ),
    (
        "delta: a directory outside the file",
        |f| poke(&delta(f), 56, &0xffff_fff0_u64.to_le_bytes()),
        "directory",
    ),
    (
        "delta: a parent that leads out",
        |f| {
            let old = line(&delta(f), "parentFileNameHint=");
            replace(
                &delta(f),
                &old,
                "parentFileNameHint=\"../../../../../../../../etc/shadow\"",
            );
        },
        "as its parent",
    ),
    (
        "delta: content that leads out",
        |f| {
            replace(
                &delta(f),
                "SPARSE \"head-3.vmdk\"",
                "SPARSE \"/etc/shadow1234567890\"",
            );
        },
        "as its content",
    ),
];

/// Where the oldest delta of home was.
fn delta_name(folder: &Path) -> PathBuf {
    folder.join("layers/home/head-3.vmdk")
}

/// More of the same, for links that lie.
pub(crate) const LINKS: [Case; 4] = [
    (
        "delta: another id",
        |f| {
            let old = line(&delta(f), "ddb.uuid.image");
            replace(
                &delta(f),
                &old,
                "ddb.uuid.image = \"01234567-89ab-cdef-0123-456789abcdef\"",
            );
        },
        "its id is",
    ),
    (
        "delta: another parent's id",
        |f| {
            let old = line(&delta(f), "ddb.uuid.parent");
            replace(
                &delta(f),
                &old,
                "ddb.uuid.parent = \"01234567-89ab-cdef-0123-456789abcdef\"",
            );
        },
        "parent's id",
    ),
    (
        "delta: another content id",
        |f| {
            let old = line(&delta(f), "CID=");
            replace(&delta(f), &old, "CID=01234567");
        },
        "content id",
    ),
    (
        "delta: flat, over a file of the host",
        |f| {
            let old = line(&delta(f), "RW ");
            let sectors = old.split(' ').nth(1).unwrap();
            replace(
                &delta(f),
                &old,
                &format!("RW {sectors} FLAT \"/etc/shadow\" 0"),
            );
        },
        "as its content",
    ),
];
