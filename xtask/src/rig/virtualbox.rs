//! The rig of VirtualBox: what is in it, and how it is built: Debian sid in a folder, the real packages, and VirtualBox's
//! starter of headless machines replaced by one that does without the kernel driver (`launcher.c`).

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::enter::{self, Leftovers};
use crate::exec::{self, Error};
use crate::setup::{self, Package};
use crate::workspace;

/// What the host must have to build it.
pub(crate) const PACKAGES: &[Package] = &[
    Package::program(
        "debootstrap",
        "debootstrap",
        "builds the root that the real VirtualBox is tested in",
    ),
    Package::file(
        "debian-archive-keyring",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "the keys that Debian's packages are checked with",
    ),
];

/// The release that has VirtualBox; libraries built for older ones run in it.
const SUITE: &str = "sid";
/// VirtualBox is in `contrib`.
const COMPONENTS: &str = "main,contrib";
/// QEMU is there for tests that move a machine between the two.
const INSTALLED: [&str; 3] = ["virtualbox", "qemu-system-x86", "qemu-utils"];
const LAUNCHER: &str = include_str!("launcher.c");
/// What dpkg is told: a root that is not whole is thrown away, so nothing need be synced, and nobody reads manuals.
const DPKG: &str = "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n\
                    path-exclude=/usr/share/locale/*\n";
const FOLDER: &str = "usr/lib/virtualbox";
/// Longer than any step takes on a slow line.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// A root folder with VirtualBox in it, whole.
pub(crate) struct Rig(PathBuf);

impl Rig {
    /// The rig, built if it is not there. An error says what a person should do.
    pub(crate) fn ready() -> Result<Self, Error> {
        possible()?;
        let folder = workspace::target().join("rigs");
        let failed = |error: std::io::Error| Error::new(format!("{}: {error}", folder.display()));
        fs::create_dir_all(&folder).map_err(failed)?;
        let folder = folder.canonicalize().map_err(failed)?;
        let rig = Self(folder.join(format!("virtualbox-{}", key())));
        if rig.0.exists() {
            return Ok(rig);
        }
        // Whoever builds it holds the lock; another waits, and finds it built.
        let lock = File::create(folder.join("virtualbox.lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        if !rig.0.exists() {
            rig.build()?;
        }
        Ok(rig)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    /// Names and versions of the packages that matter, one a line.
    pub(crate) fn versions(&self) -> Result<String, Error> {
        let root = format!("--root={}", self.0.display());
        let mut query = Command::new("dpkg-query");
        query.args([&root, "--show", "--showformat=${Package} ${Version}\\n"]);
        let printed = exec::output(query.args(INSTALLED).arg("libc6"))?;
        Ok(printed.trim_end().to_owned())
    }

    /// Builds it under a name that is not taken for a rig, then renames it.
    fn build(&self) -> Result<(), Error> {
        let started = Instant::now();
        require()?;
        let part = self.0.with_extension("part");
        let log = self.0.with_extension("log");
        remove(&part)?;
        let _ = fs::remove_file(&log);
        println!(
            "rig: building VirtualBox's in {}, once; this takes minutes",
            self.0.display()
        );
        let fresh = Build {
            root: &part,
            log: &log,
        };
        fresh.base()?;
        fresh.install()?;
        fresh.launcher()?;
        let version = fresh.inside(&["/usr/lib/virtualbox/VBoxManage", "-q", "--version"])?;
        fs::rename(&part, &self.0)
            .map_err(|error| Error::new(format!("{}: {error}", self.0.display())))?;
        println!(
            "rig: VirtualBox {} built in {} s",
            version.trim(),
            started.elapsed().as_secs()
        );
        Ok(())
    }
}

/// Whether there can be a rig on this machine at all.
fn possible() -> Result<(), Error> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(Error::new(
            "rigs are for Linux on x86_64; install VirtualBox itself",
        ));
    }
    let uid = exec::output(Command::new("id").arg("-u"))?;
    if uid.trim() != "0" {
        return Err(Error::new(
            "a rig needs root, for chroot and mounts; run `cargo xtask` as root, or install VirtualBox itself",
        ));
    }
    Ok(())
}

fn require() -> Result<(), Error> {
    let found = setup::ensure(PACKAGES);
    match found.missing.first() {
        None => Ok(()),
        Some((name, why)) => Err(Error::new(format!("a rig needs {name}: {why}"))),
    }
}

/// Names what a rig is made from, so that other inputs make another rig.
fn key() -> String {
    let mut sha = Sha256::new();
    for input in [SUITE, COMPONENTS, LAUNCHER, DPKG].iter().chain(&INSTALLED) {
        sha.update(input);
        sha.update([0]);
    }
    let digest = sha.finalize();
    digest[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::new(format!("{}: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}

/// A rig that is being built.
struct Build<'a> {
    root: &'a Path,
    log: &'a Path,
}

impl Build<'_> {
    /// Debian itself, from where debootstrap finds it.
    fn base(&self) -> Result<(), Error> {
        let debootstrap = setup::find_program("debootstrap")
            .ok_or_else(|| Error::new("no debootstrap; `cargo xtask setup` installs it"))?;
        let mut command = enter::namespaces();
        command.arg(debootstrap).arg("--variant=minbase");
        command.arg(format!("--components={COMPONENTS}"));
        command.arg(SUITE).arg(self.root);
        exec::logged(&mut command, self.log, LIMIT).map_err(|error| {
            Error::new(format!(
                "{error}\nIf Debian's servers are not reached: connect to the network, or set http_proxy"
            ))
        })
    }

    fn install(&self) -> Result<(), Error> {
        self.write("etc/dpkg/dpkg.cfg.d/rig", DPKG)?;
        let apt = ["/usr/bin/env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
        // sid's list of files is sometimes a few days older than it promises.
        let update = ["--option", "Acquire::Check-Valid-Until=false", "update"];
        self.run(&[&apt[..], &update].concat())?;
        let install = ["install", "--yes", "--no-install-recommends"];
        self.run(&[&apt[..], &install, &INSTALLED].concat())?;
        self.run(&[&apt[..], &["clean"]].concat())?;
        remove(&self.root.join("var/lib/apt/lists"))
    }

    /// Puts the launcher in the place of the product's own, which is kept beside it.
    fn launcher(&self) -> Result<(), Error> {
        let original = self.root.join(FOLDER).join("VBoxHeadless");
        let source = self.root.join("usr/src/launcher.c");
        self.write("usr/src/launcher.c", LAUNCHER)?;
        let failed = |error: std::io::Error| Error::new(format!("{}: {error}", original.display()));
        fs::rename(&original, original.with_extension("original")).map_err(failed)?;
        let mut cc = Command::new("cc");
        cc.args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]);
        cc.arg(&original).arg(&source).arg("-ldl");
        exec::logged(&mut cc, self.log, LIMIT)?;
        executable(&original).map_err(failed)
    }

    fn write(&self, file: &str, text: &str) -> Result<(), Error> {
        let path = self.root.join(file);
        fs::write(&path, text).map_err(|error| Error::new(format!("{}: {error}", path.display())))
    }

    fn run(&self, command: &[&str]) -> Result<(), Error> {
        exec::logged(&mut self.command(command), self.log, LIMIT)
    }

    fn inside(&self, command: &[&str]) -> Result<String, Error> {
        exec::output(&mut self.command(command))
    }

    fn command(&self, command: &[&str]) -> Command {
        let command: Vec<OsString> = command.iter().map(Into::into).collect();
        enter::command(self.root, Leftovers::End, &command)
    }
}

#[cfg(unix)]
fn executable(path: &Path) -> std::io::Result<()> {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// Rigs are for Linux.
#[cfg(not(unix))]
fn executable(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_a_name_for_files() {
        let key = key();
        assert_eq!(key.len(), 12);
        assert!(key.chars().all(|c| c.is_ascii_hexdigit()));
    }
}
