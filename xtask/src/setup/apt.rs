//! Installing Debian and Ubuntu packages as root or through sudo. Knows nothing of what they are for.

use std::io::IsTerminal;
use std::process::{Command, Stdio};

use super::{Package, find_program};
use crate::exec::{self, Error};

/// Installs packages, `apt-get update` first. An error says what a person should do instead.
pub(crate) fn install(packages: &[Package]) -> Result<(), Error> {
    let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
    let by_hand = format!("install {}", names.join(" "));
    if find_program("apt-get").is_none() {
        return Err(Error::new(format!(
            "no apt-get on this system; {by_hand} (Debian's names)"
        )));
    }
    let Some(rights) = rights() else {
        return Err(Error::new(format!("neither root nor sudo; {by_hand}")));
    };
    for package in packages {
        println!("setup: installing {}: {}", package.name, package.why);
    }
    rights
        .apt(&["update"])
        .map_err(|said| failed("apt-get update", &said))?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&names);
    let Err(said) = rights.apt(&install) else {
        return Ok(());
    };
    if !is_qemu_conflict(&said) {
        return Err(failed(&by_hand, &said));
    }
    // qemu-utils from backports refuses the release's own qemu-system: both must be of one release.
    let version = candidate("qemu-system-x86")?;
    println!("setup: the installed qemu-utils does not go with qemu-system-x86 {version};");
    println!("setup: putting qemu-utils {version} in its place");
    let pinned = format!("qemu-utils={version}");
    install.retain(|name| *name != "qemu-utils");
    install.extend(["--allow-downgrades", "qemu-system-x86", &pinned]);
    rights.apt(&install).map_err(|said| failed(&by_hand, &said))
}

/// Runs `apt-get update`.
pub(crate) fn update() -> Result<(), Error> {
    let rights = rights().ok_or_else(|| Error::new("neither root nor sudo; run apt-get update"))?;
    rights
        .apt(&["update"])
        .map_err(|said| failed("apt-get update", &said))
}

/// How a command becomes root.
enum Rights {
    Root,
    Sudo { ask: Stdin },
}

/// Whether sudo may ask a person for a password.
#[derive(PartialEq)]
enum Stdin {
    Person,
    Nobody,
}

fn rights() -> Option<Rights> {
    let uid = exec::output(Command::new("id").arg("-u")).ok()?;
    if uid.trim() == "0" {
        return Some(Rights::Root);
    }
    find_program("sudo")?;
    let ask = if std::io::stdin().is_terminal() {
        Stdin::Person
    } else {
        Stdin::Nobody
    };
    Some(Rights::Sudo { ask })
}

impl Rights {
    /// Runs apt-get; the error is what it said.
    fn apt(&self, args: &[&str]) -> Result<(), String> {
        let mut command = match self {
            Self::Root => Command::new("env"),
            Self::Sudo { ask: Stdin::Person } => Command::new("sudo"),
            Self::Sudo { ask: Stdin::Nobody } => {
                let mut sudo = Command::new("sudo");
                sudo.arg("--non-interactive");
                sudo
            }
        };
        if matches!(self, Self::Sudo { .. }) {
            command.arg("env");
        }
        // A package's question would wait for ever; another apt at work is waited for.
        command.args(["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get"]);
        command
            .args(["--quiet", "--option", "DPkg::Lock::Timeout=300"])
            .args(args);
        let person = matches!(self, Self::Sudo { ask: Stdin::Person });
        command.stdin(if person {
            Stdio::inherit()
        } else {
            Stdio::null()
        });
        let output = command.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        Err(said)
    }
}

/// Backports' qemu-utils declares that it breaks the release's qemu-system-common.
fn is_qemu_conflict(said: &str) -> bool {
    said.lines().any(|line| {
        let line = line.trim_start();
        line.starts_with("qemu-utils : Breaks: qemu-system")
            || line.starts_with("qemu-system") && line.contains("Depends: qemu-utils (")
    })
}

/// The version of a package that apt would install.
fn candidate(package: &str) -> Result<String, Error> {
    let mut policy = Command::new("apt-cache");
    let printed = exec::output(policy.env("LC_ALL", "C").args(["policy", package]))?;
    printed
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
        .map(str::to_owned)
        .ok_or_else(|| Error::new(format!("apt offers no {package}")))
}

fn failed(what: &str, said: &str) -> Error {
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("E:") || line.contains("Breaks:") || line.contains("sudo:"))
        .collect();
    let detail = if errors.is_empty() {
        said.trim().to_owned()
    } else {
        errors.join("; ")
    };
    Error::new(format!("{what} failed: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_conflict_of_backports_is_told_from_other_failures() {
        let conflict = "The following packages have unmet dependencies:\n \
                        qemu-utils : Breaks: qemu-system-common (< 1:9.1) but 1:7.2 is to be installed\n\
                        E: Unable to correct problems, you have held broken packages.\n";
        assert!(is_qemu_conflict(conflict));
        assert!(!is_qemu_conflict("E: Unable to locate package qemu-utils"));
    }
}
