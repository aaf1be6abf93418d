//! Which of VirtualBox's guest types (`Machine/@OSType`) a guest is.
//!
//! VirtualBox refuses a type that it does not know, so each entry carries the version that brought
//! it, and types that only newer versions have are used where nothing older serves.

use stratavm::spec::{Guest, GuestOs};

use crate::config::Version;

/// Beginning of `guest.id`, type, and the version that brought the type. The first that fits.
const TYPES: [(&str, &str, Version); 19] = [
    ("debian", "Debian_64", Version::V5_0),
    ("ubuntu", "Ubuntu_64", Version::V5_0),
    ("fedora", "Fedora_64", Version::V5_0),
    ("rhel", "RedHat_64", Version::V5_0),
    ("centos", "RedHat_64", Version::V5_0),
    ("rocky", "RedHat_64", Version::V5_0),
    ("alma", "RedHat_64", Version::V5_0),
    ("oracle", "Oracle_64", Version::V5_0),
    ("opensuse", "OpenSUSE_64", Version::V5_0),
    ("sles", "OpenSUSE_64", Version::V5_0),
    ("arch", "ArchLinux_64", Version::V5_0),
    ("gentoo", "Gentoo_64", Version::V5_0),
    ("windows11", "Windows11_64", Version::V7_0),
    ("windows10", "Windows10_64", Version::V5_0),
    ("windows81", "Windows81_64", Version::V5_0),
    ("windows7", "Windows7_64", Version::V5_0),
    ("windows20", "Windows2012_64", Version::V5_0),
    ("freebsd", "FreeBSD_64", Version::V5_0),
    ("openbsd", "OpenBSD_64", Version::V5_0),
];

/// The guest type, and the lowest version that knows it.
pub(crate) fn os_type(guest: &Guest) -> (&'static str, Version) {
    let id = guest.id.as_deref().unwrap_or_default();
    if let Some((_, os_type, version)) = TYPES.iter().find(|(start, ..)| id.starts_with(start)) {
        return (os_type, *version);
    }
    let generic = match guest.os {
        GuestOs::Linux => "Linux26_64",
        GuestOs::Windows => "Windows10_64",
        _ => "Other_64",
    };
    (generic, Version::V5_0)
}
