//! What an image names: files elsewhere, itself, one that leads back, and what is no file at all.

use crate::{copied_by, ends, is_refused};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use stratavm_disk::{
    Access, Below, Chain, CheckOptions, Ctx, ErrorKind, Format, Gate, Named, Result, check, info,
    probe,
};

/// A gate that opens whatever is named.
struct Everything;

impl Gate for Everything {
    fn allow(&self, named: &Named<'_>) -> Result<PathBuf> {
        Ok(match Path::new(named.name).is_absolute() {
            true => named.name.into(),
            false => named.by.parent().unwrap().join(named.name),
        })
    }
}

const SIZE: u64 = 64 * 512;

/// An image, with what it is to name put in; its format and file.
type Naming = fn(&Path, &str) -> (Format, PathBuf);

const NAMING: [(&str, Naming); 4] = [
    ("extent of a VMDK", |folder, name| {
        descriptor(
            folder,
            "a.vmdk",
            "ffffffff",
            None,
            &format!("RW 64 FLAT \"{name}\" 0"),
        )
    }),
    ("parent of a VMDK", |folder, name| {
        descriptor(folder, "a.vmdk", "00000009", Some(name), "RW 64 ZERO")
    }),
    ("parent of a qcow2", |folder, name| {
        qcow2(folder, "a.qcow2", name, b"raw")
    }),
    ("file of a bundle", bundle),
];

fn descriptor(
    folder: &Path,
    file: &str,
    parent: &str,
    hint: Option<&str>,
    extent: &str,
) -> (Format, PathBuf) {
    let path = folder.join(file);
    let hint = hint.map_or(String::new(), |hint| {
        format!("parentFileNameHint=\"{hint}\"\n")
    });
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=00000009\nparentCID={parent}\ncreateType=\"custom\"\n{hint}{extent}\n"
    );
    fs::write(&path, text).unwrap();
    (Format::VmdkDescriptor, path)
}

/// Version 3 with clusters of 512 bytes and no data, on another image.
fn qcow2(folder: &Path, file: &str, name: &str, format: &[u8]) -> (Format, PathBuf) {
    let mut bytes = vec![0; 4 * 512];
    bytes[..4].copy_from_slice(b"QFI\xfb");
    let (at, len) = (104 + 8 + format.len().next_multiple_of(8) + 8, name.len());
    for (at, value) in [
        (4, 3),
        (16, len),
        (20, 9),
        (36, 1),
        (56, 1),
        (96, 4),
        (100, 104),
    ] {
        bytes[at..at + 4].copy_from_slice(&(value as u32).to_be_bytes());
    }
    for (at, value) in [
        (8, at as u64),
        (24, SIZE),
        (40, 512),
        (48, 1024),
        (1024, 1536),
    ] {
        bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }
    bytes[104..108].copy_from_slice(&0xe279_2aca_u32.to_be_bytes());
    bytes[108..112].copy_from_slice(&(format.len() as u32).to_be_bytes());
    bytes[112..112 + format.len()].copy_from_slice(format);
    bytes[at..at + len].copy_from_slice(name.as_bytes());
    bytes[1536..1544].copy_from_slice(&[0, 1, 0, 1, 0, 1, 0, 1]);
    let path = folder.join(file);
    fs::write(&path, bytes).unwrap();
    (Format::Qcow2, path)
}

fn bundle(folder: &Path, name: &str) -> (Format, PathBuf) {
    let path = folder.join("a.hdd");
    fs::create_dir_all(&path).unwrap();
    let guid = "{5fbaabe3-6958-40ff-92a7-860e329aab41}";
    let xml = format!(
        "<Parallels_disk_image Version=\"1.0\"><Disk_Parameters><Disk_size>64</Disk_size>\
         <Padding>0</Padding></Disk_Parameters><StorageData><Storage><Start>0</Start><End>64</End>\
         <Blocksize>2048</Blocksize><Image><GUID>{guid}</GUID><Type>Plain</Type><File>{name}</File>\
         </Image></Storage></StorageData><Snapshots><Shot><GUID>{guid}</GUID>\
         <ParentGUID>{{00000000-0000-0000-0000-000000000000}}</ParentGUID></Shot></Snapshots>\
         </Parallels_disk_image>"
    );
    fs::write(path.join("DiskDescriptor.xml"), xml).unwrap();
    (Format::Hdd, path)
}

/// The file that names something.
fn naming(path: &Path, format: Format) -> PathBuf {
    match format {
        Format::Hdd => path.join("DiskDescriptor.xml"),
        _ => path.to_owned(),
    }
}

#[test]
fn nothing_elsewhere_is_opened() {
    let outer = tempfile::tempdir().unwrap();
    let secret = outer.path().join("secret");
    fs::write(&secret, vec![7; SIZE as usize]).unwrap();
    for (what, make) in NAMING {
        let folder = outer.path().join("in");
        fs::create_dir(&folder).unwrap();
        let up = if what.contains("bundle") {
            "../../secret"
        } else {
            "../secret"
        };
        let absolute = secret.to_str().unwrap();
        // A bundle's own folder is where its names start.
        let link = if what.contains("bundle") {
            "../link"
        } else {
            "link"
        };
        let mut names = vec![up, absolute, "no/such/../../../secret"];
        if cfg!(unix) {
            #[cfg(unix)]
            std::os::unix::fs::symlink(&secret, folder.join("link")).unwrap();
            names.extend([link, "\\\\server\\share\\a.vmdk", "C:\\secret", "/dev/zero"]);
        }
        for name in names {
            let (format, path) = make(&folder, name);
            let found = copied_by(&path, format, &Below::new(&folder).unwrap());
            // What is not there cannot lie elsewhere.
            let error = found.expect_err(name);
            let by = naming(&path, format);
            match error.kind() {
                ErrorKind::NotFound => assert!(name.contains("no/such"), "{what}: {error}"),
                kind => {
                    // What QEMU takes for a protocol is not handled.
                    let protocol = kind == ErrorKind::Unsupported && name.starts_with("C:");
                    assert!(
                        protocol || kind == ErrorKind::Invalid,
                        "{what} {name}: {error}"
                    );
                    assert!(
                        error.path().unwrap().ends_with(by.file_name().unwrap()),
                        "{error}"
                    );
                    assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
                }
            }
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn etc_passwd_is_not_reached() {
    for (what, make) in NAMING {
        let folder = tempfile::tempdir().unwrap();
        for name in ["../../../../../../../../etc/passwd", "/etc/passwd"] {
            let (format, path) = make(folder.path(), name);
            let error = copied_by(&path, format, &Below::new(folder.path()).unwrap()).unwrap_err();
            // Where there is none, that is what is said.
            let kinds = [ErrorKind::Invalid, ErrorKind::NotFound];
            assert!(kinds.contains(&error.kind()), "{what}: {error}");
        }
    }
}

#[test]
fn what_is_no_regular_file_is_refused_before_it_is_opened() {
    for (what, make) in NAMING {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().to_owned();
        let sub = folder.join("sub");
        fs::create_dir(&sub).unwrap();
        // A folder could be a bundle, which no VMDK lies on.
        let mut names = vec![sub];
        names.retain(|_| what != "parent of a VMDK");
        if cfg!(unix) {
            let pipe = folder.join("pipe");
            assert!(
                Command::new("mkfifo")
                    .arg(&pipe)
                    .status()
                    .unwrap()
                    .success()
            );
            names.extend([pipe, "/dev/zero".into(), "/dev/null".into()]);
        }
        for name in names {
            let (format, path) = make(&folder, name.to_str().unwrap());
            let found = ends(what, move || copied_by(&path, format, &Everything));
            is_refused(
                what,
                found,
                ErrorKind::Unsupported,
                &name,
                &["not a regular file"],
            );
        }
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_an_image_holds_nobody_up() {
    let outer = tempfile::tempdir().unwrap();
    let pipe = outer.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    for format in [
        Format::Raw,
        Format::VmdkSparse,
        Format::VmdkDescriptor,
        Format::Hds,
        Format::Vdi,
        Format::Qcow2,
    ] {
        for access in [Access::Read, Access::Write] {
            let path = pipe.clone();
            let open = move || {
                let gate = Below::beside(&path)?;
                Chain::open(&path, format, access, &gate).map(drop)
            };
            let found = ends("opening", open);
            is_refused(
                "a pipe",
                found,
                ErrorKind::Unsupported,
                &pipe,
                &["regular file"],
            );
        }
        let path = pipe.clone();
        let look = move || {
            let gate = Below::beside(&path)?;
            check(&path, format, &gate, &CheckOptions::default(), &Ctx::none()).map(drop)
        };
        let found = ends("checking", look);
        is_refused(
            "a pipe",
            found,
            ErrorKind::Unsupported,
            &pipe,
            &["regular file"],
        );
    }
    let path = pipe.clone();
    let found = ends("info", move || info(&path).map(drop));
    is_refused(
        "a pipe",
        found,
        ErrorKind::Unsupported,
        &pipe,
        &["regular file"],
    );
    let path = pipe.clone();
    let found = ends("probe", move || probe(&path).map(drop));
    is_refused(
        "a pipe",
        found,
        ErrorKind::Unsupported,
        &pipe,
        &["regular file"],
    );
}

#[test]
fn chains_that_lead_back_end() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path();
    let zero = "RW 64 ZERO";
    let vmdk = |file: &str, parent: &str| descriptor(folder, file, "00000009", Some(parent), zero);
    let loops = [
        vmdk("self.vmdk", "self.vmdk"),
        vmdk("one.vmdk", "two.vmdk"),
        vmdk("two.vmdk", "three.vmdk"),
        vmdk("three.vmdk", "./one.vmdk"),
        qcow2(folder, "self.qcow2", "self.qcow2", b"qcow2"),
        qcow2(folder, "one.qcow2", "two.qcow2", b"qcow2"),
        qcow2(folder, "two.qcow2", "one.qcow2", b"qcow2"),
    ];
    for (format, path) in loops {
        let image = path.clone();
        let gate = Below::new(folder).unwrap();
        let found = ends("a loop", move || copied_by(&image, format, &gate));
        let error = found.expect_err("a loop");
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
        assert!(
            error.to_string().contains("leads back to itself"),
            "{error}"
        );
        assert!(
            error
                .path()
                .unwrap()
                .starts_with(fs::canonicalize(folder).unwrap()),
            "{error}"
        );
    }
}
