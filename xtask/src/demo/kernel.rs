//! The guest's kernel: downloaded by apt, unpacked, and the few modules that the guest loads, in their order.
//! Installs nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cache::{Cache, Key, remove};
use super::tool::{At, Tool};
use crate::exec::Error;
use crate::setup;

/// Small kernels with virtio: Debian's and Ubuntu's packages that name the current one.
const PACKAGES: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-virtual"];

/// What the guest needs of the kernel. The last one is asked for by ext4 at run time, not by its dependencies.
const MODULES: [&str; 6] = [
    "virtio_pci",
    "virtio_blk",
    "squashfs",
    "overlay",
    "ext4",
    "crc32c_generic",
];

/// The kernel and its modules on the host's disk.
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    /// Paths of plain `.ko` files, each after those it depends on.
    pub(crate) modules: Vec<PathBuf>,
}

/// The kernel that apt offers, from the cache if it is there.
pub(crate) fn get(cache: &Cache) -> Result<Kernel, Error> {
    let (package, version) = candidate()?;
    let key = Key::new("kernel 1")
        .with(&package)
        .with(&version)
        .with(MODULES.join(" "));
    let folder = cache.get("kernel", key, |folder| download(&package, folder))?;
    let order = folder.join("order");
    let names = fs::read_to_string(&order).at(order.display())?;
    Ok(Kernel {
        image: folder.join("vmlinuz"),
        modules: names.lines().map(|name| folder.join(name)).collect(),
    })
}

/// Name and version of the kernel package of this distribution's release.
fn candidate() -> Result<(String, String), Error> {
    let find = || {
        PACKAGES
            .iter()
            .find_map(|name| depends(name, "linux-image-").ok().flatten())
    };
    let package = match find() {
        Some(package) => package,
        None => {
            setup::apt_update()?;
            find()
                .ok_or_else(|| Error::new(format!("apt offers none of {}", PACKAGES.join(", "))))?
        }
    };
    let printed = Tool::named("apt-cache")?
        .args(["show", "--no-all-versions", &package])
        .run()?;
    let printed = String::from_utf8_lossy(&printed);
    let version = printed
        .lines()
        .find_map(|line| line.strip_prefix("Version: "))
        .unwrap_or_default();
    Ok((package, version.to_owned()))
}

/// The first dependency of a package whose name starts so.
fn depends(package: &str, start: &str) -> Result<Option<String>, Error> {
    let printed = Tool::named("apt-cache")?
        .args(["depends", "--important", package])
        .run()?;
    let printed = String::from_utf8_lossy(&printed);
    let mut names = printed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(names
        .find(|name| name.starts_with(start))
        .map(str::to_owned))
}

fn download(package: &str, folder: &Path) -> Result<(), Error> {
    println!("demo: downloading {package}");
    fs::create_dir_all(folder).at(folder.display())?;
    let mut wanted = vec![package.to_owned()];
    wanted.extend(depends(package, "linux-modules-")?); // Ubuntu's modules are in a package of their own
    Tool::named("apt-get")?
        .arg("download")
        .args(&wanted)
        .in_dir(folder)
        .within(Duration::from_secs(300))
        .run()?;
    let unpacked = folder.join("unpacked");
    for file in files_below(folder)? {
        Tool::named("dpkg-deb")?
            .arg("-x")
            .arg(&file)
            .arg(&unpacked)
            .run()?;
        remove(&file)?;
    }
    let files = files_below(&unpacked)?;
    let image = files
        .iter()
        .find(|file| name_of(file).starts_with("vmlinuz-"));
    let image = image.ok_or_else(|| Error::new(format!("{package} holds no vmlinuz")))?;
    fs::copy(image, folder.join("vmlinuz")).at(image.display())?;
    let order = collect(&files, folder)?;
    fs::write(folder.join("order"), order.join("\n")).at(folder.display())?;
    remove(&unpacked)
}

/// Puts the modules that are wanted, and those that they need, into `folder`; answers their names in loading order.
fn collect(files: &[PathBuf], folder: &Path) -> Result<Vec<String>, Error> {
    let mut modules = BTreeMap::new();
    let mut builtin = String::new();
    for file in files {
        let name = name_of(file);
        if name == "modules.builtin" {
            builtin = fs::read_to_string(file)
                .at(file.display())?
                .replace('-', "_");
        } else if let Some((stem, _)) = name.split_once(".ko") {
            modules.insert(stem.replace('-', "_"), file.clone());
        }
    }
    let mut order = Vec::new();
    for name in MODULES {
        if modules.contains_key(name) {
            add(name, &modules, folder, &mut order)?;
        } else if !builtin.contains(&format!("/{name}.ko")) && name != "crc32c_generic" {
            return Err(Error::new(format!("the kernel has no {name}")));
        }
    }
    Ok(order)
}

fn add(
    name: &str,
    modules: &BTreeMap<String, PathBuf>,
    folder: &Path,
    order: &mut Vec<String>,
) -> Result<(), Error> {
    let file_name = format!("{name}.ko");
    let Some(file) = modules.get(name).filter(|_| !order.contains(&file_name)) else {
        return Ok(()); // built in, or loaded already
    };
    let content = plain(file)?;
    for needed in needs(&content) {
        add(&needed, modules, folder, order)?;
    }
    fs::write(folder.join(&file_name), content).at(&file_name)?;
    order.push(file_name);
    Ok(())
}

/// A module's content; newer releases keep them compressed.
fn plain(file: &Path) -> Result<Vec<u8>, Error> {
    let unpack = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(file).at(file.display()),
    };
    Tool::named(unpack)?
        .args(["-d", "-q", "-c"])
        .arg(file)
        .run()
}

/// The modules that a module says it needs: the `depends=` string of its `.modinfo` section.
fn needs(content: &[u8]) -> Vec<String> {
    let mut strings = content.split(|byte| *byte == 0);
    let found = strings.find_map(|string| string.strip_prefix(b"depends="));
    let names = String::from_utf8_lossy(found.unwrap_or_default()).replace('-', "_");
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn name_of(file: &Path) -> &str {
    file.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// All files below a folder, sorted; links are not followed.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).at(folder.display())? {
            let entry = entry.at(folder.display())?;
            let kind = entry.file_type().at(folder.display())?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn module(depends: &str) -> Vec<u8> {
        format!("\x7fELF\0license=GPL\0depends={depends}\0retpoline=Y\0").into_bytes()
    }

    #[test]
    fn modules_come_after_what_they_need_and_built_in_ones_are_left_out() {
        let from = tempfile::tempdir().unwrap();
        let to = tempfile::tempdir().unwrap();
        let given = [
            ("virtio_blk.ko", "virtio,virtio_ring"),
            ("virtio_ring.ko", ""),
            ("virtio.ko", "virtio_ring"),
            ("virtio_pci.ko", "virtio"),
            ("crc32c-generic.ko", ""),
        ];
        for (name, depends) in given {
            fs::write(from.path().join(name), module(depends)).unwrap();
        }
        let builtin = "kernel/fs/ext4/ext4.ko\nkernel/fs/squashfs/squashfs.ko\nkernel/fs/overlayfs/overlay.ko\n";
        fs::write(from.path().join("modules.builtin"), builtin).unwrap();
        let order = collect(&files_below(from.path()).unwrap(), to.path()).unwrap();
        assert_eq!(
            order,
            [
                "virtio_ring.ko",
                "virtio.ko",
                "virtio_pci.ko",
                "virtio_blk.ko",
                "crc32c_generic.ko"
            ]
        );
        assert!(order.iter().all(|name| to.path().join(name).exists()));

        fs::write(from.path().join("modules.builtin"), "").unwrap();
        let error = collect(&files_below(from.path()).unwrap(), to.path()).unwrap_err();
        assert_eq!(error.to_string(), "the kernel has no squashfs");
    }
}
