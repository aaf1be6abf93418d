//! Where a running QEMU is reached: sockets, and the address that is recorded for other processes.
//!
//! QEMU gets two QMP sockets. One is the supervisor's for the whole run, because a socket serves
//! one client at a time; the other is for whoever asks for the state or for an end.
//!
//! On Unix they are sockets in a folder that only the user can enter. A socket's path has to fit
//! into `sun_path` (104 bytes on macOS, 108 on Linux), so where the run-time folder's is too long
//! they are in a short temporary one. Windows has loopback TCP instead, which the other users of
//! the host can reach as well: to be replaced once that host is driven for real.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use stratavm::{Error, ErrorKind, Result};

pub(crate) use self::system::{Sockets, Stream};
use crate::argv::list;
use crate::qmp::{Qmp, Timed};

/// One of the two sockets, by the id of its character device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The supervisor's.
    Run,
    /// Everybody else's.
    Control,
}

impl Which {
    pub(crate) const ALL: [Self; 2] = [Self::Run, Self::Control];

    const fn id(self) -> &'static str {
        match self {
            Self::Run => "qmp-run",
            Self::Control => "qmp-control",
        }
    }
}

impl Sockets {
    /// The arguments that make QEMU listen on both.
    pub(crate) fn arguments(&self) -> Result<Vec<String>> {
        let mut arguments = Vec::new();
        for which in Which::ALL {
            let place = self.properties(which)?;
            let mut properties = vec![("id", which.id())];
            properties.extend(place.iter().map(|(key, value)| (*key, value.as_str())));
            properties.extend([("server", "on"), ("wait", "off")]);
            arguments.extend(["-chardev".to_owned(), list("socket", &properties)]);
            let monitor = [("chardev", which.id()), ("mode", "control")];
            arguments.extend(["-mon".to_owned(), list("", &monitor)]);
        }
        Ok(arguments)
    }
}

/// Opens a session with the QEMU behind `address`; `None` if nobody listens there.
///
/// # Errors
/// What listens does not speak QMP, or not until `deadline`.
pub(crate) fn connect(address: &str, deadline: Instant) -> Result<Option<Qmp<Stream>>> {
    match system::connect(address, deadline) {
        Ok(stream) => Qmp::open(stream, deadline).map(Some),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            let message = "QEMU's control socket takes no connection";
            Err(Error::new(ErrorKind::Product, message).caused_by(error))
        }
        Err(_) => Ok(None),
    }
}

impl Timed for Stream {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(limit))
    }
}

#[cfg(unix)]
mod system {
    use super::{Instant, Path, Result, Which, io};
    use crate::argv::path_text;
    use rustix::io::{Errno, FdFlags};
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    use std::path::PathBuf;
    use stratavm::{Error, ErrorKind};

    pub(crate) type Stream = std::os::unix::net::UnixStream;

    /// Longest path of a socket: macOS's, without the closing NUL.
    const MAX_PATH: usize = 103;

    /// The sockets' folder; a temporary one goes with this value.
    #[derive(Debug)]
    pub(crate) struct Sockets {
        folder: PathBuf,
        _temporary: Option<tempfile::TempDir>,
    }

    impl Sockets {
        /// In `runtime` if the paths fit, else in a temporary folder.
        pub(crate) fn new(runtime: &Path) -> Result<Self> {
            let mut builder = std::fs::DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o700)
                .create(runtime)
                .map_err(|error| {
                    Error::io("the run-time folder could not be made", runtime, error)
                })?;
            let fits = |folder: &Path| {
                Which::ALL
                    .iter()
                    .all(|w| folder.join(w.id()).as_os_str().len() <= MAX_PATH)
            };
            let runtime = std::path::absolute(runtime)
                .map_err(|error| Error::io("the run-time folder has no path", runtime, error))?;
            if fits(&runtime) && !runtime.as_os_str().as_bytes().contains(&b'\n') {
                refuse_used(&runtime)?;
                return Ok(Self {
                    folder: runtime,
                    _temporary: None,
                });
            }
            let place = [std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)]
                .into_iter()
                .flatten()
                .chain([std::env::temp_dir()])
                .find(|place| {
                    place.is_absolute() && place.is_dir() && fits(&place.join("stratavm-123456"))
                })
                .unwrap_or_else(|| PathBuf::from("/tmp"));
            let temporary = tempfile::Builder::new()
                .prefix("stratavm-")
                .permissions(std::fs::Permissions::from_mode(0o700))
                .tempdir_in(&place)
                .map_err(|error| {
                    Error::io("no short folder for sockets could be made", place, error)
                })?;
            Ok(Self {
                folder: temporary.path().to_owned(),
                _temporary: Some(temporary),
            })
        }

        /// The address of one of them, as [`super::connect`] takes it.
        pub(crate) fn address(&self, which: Which) -> Result<String> {
            address(&self.folder, which)
        }

        pub(super) fn properties(&self, which: Which) -> Result<Vec<(&'static str, String)>> {
            let path = self.folder.join(which.id());
            Ok(vec![("path", path_text(&path)?.to_owned())])
        }
    }

    fn address(folder: &Path, which: Which) -> Result<String> {
        Ok(format!("unix:{}", path_text(&folder.join(which.id()))?))
    }

    /// QEMU would take a socket's name away from another QEMU that listens there.
    fn refuse_used(folder: &Path) -> Result<()> {
        for which in Which::ALL {
            let used = match connect(&address(folder, which)?, Instant::now()) {
                Ok(_) => true,
                Err(error) => error.kind() == io::ErrorKind::TimedOut,
            };
            if used {
                let message = "a QEMU of this machine runs already";
                return Err(Error::new(ErrorKind::Busy, message).at(folder));
            }
        }
        Ok(())
    }

    impl Drop for Sockets {
        fn drop(&mut self) {
            for which in Which::ALL {
                // QEMU leaves them when it is killed.
                let _ = std::fs::remove_file(self.folder.join(which.id()));
            }
        }
    }

    /// Connects; where others are waiting already, only until `deadline` (a plain `connect` would
    /// wait for ever).
    pub(super) fn connect(address: &str, deadline: Instant) -> io::Result<Stream> {
        let path = address
            .strip_prefix("unix:")
            .ok_or(io::ErrorKind::InvalidInput)?;
        let peer = SocketAddrUnix::new(path)?;
        loop {
            let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
            rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&socket, true)?;
            match rustix::net::connect(&socket, &peer) {
                Ok(()) => {
                    let stream = Stream::from(socket);
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Err(Errno::AGAIN | Errno::INTR) if Instant::now() < deadline => {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(windows)]
mod system {
    use super::{Duration, Instant, Path, Result, Which, io};
    use std::net::{Ipv4Addr, TcpListener};
    use stratavm::Error;

    pub(crate) type Stream = std::net::TcpStream;

    /// One loopback port for each socket.
    #[derive(Debug)]
    pub(crate) struct Sockets {
        ports: [u16; 2],
    }

    impl Sockets {
        /// Two ports that are free now.
        pub(crate) fn new(runtime: &Path) -> Result<Self> {
            let free = || {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                Ok((listener.local_addr()?.port(), listener))
            };
            let failed = |error: io::Error| Error::io("no port for QMP is free", runtime, error);
            // Both are held until both are known, so they differ.
            let (first, _held) = free().map_err(failed)?;
            let (second, _held) = free().map_err(failed)?;
            Ok(Self {
                ports: [first, second],
            })
        }

        /// The address of one of them, as [`super::connect`] takes it.
        pub(crate) fn address(&self, which: Which) -> Result<String> {
            Ok(format!("tcp:127.0.0.1:{}", self.ports[which as usize]))
        }

        pub(super) fn properties(&self, which: Which) -> Result<Vec<(&'static str, String)>> {
            let port = self.ports[which as usize].to_string();
            Ok(vec![("host", "127.0.0.1".to_owned()), ("port", port)])
        }
    }

    pub(super) fn connect(address: &str, deadline: Instant) -> io::Result<Stream> {
        let address = address
            .strip_prefix("tcp:")
            .ok_or(io::ErrorKind::InvalidInput)?;
        let address = address.parse().map_err(io::Error::other)?;
        let left = deadline.saturating_duration_since(Instant::now());
        Stream::connect_timeout(&address, left.max(Duration::from_millis(1)))
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_long_folder_gets_a_short_one_instead() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(120));
        let sockets = Sockets::new(&long).unwrap();
        let address = sockets.address(Which::Control).unwrap();
        let path = Path::new(address.strip_prefix("unix:").unwrap()).to_owned();
        assert!(path.as_os_str().len() < 104, "{path:?}");
        let folder = path.parent().unwrap().to_owned();
        assert_eq!(
            folder.metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );
        UnixListener::bind(&path).unwrap();
        drop(sockets);
        assert!(!folder.exists());
    }

    #[test]
    fn a_short_folder_is_used_and_left_clean() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = dir.path().join("a, b");
        let sockets = Sockets::new(&runtime).unwrap();
        UnixListener::bind(runtime.join("qmp-run")).unwrap();
        let arguments = sockets.arguments().unwrap();
        assert_eq!(arguments.len(), 8);
        assert!(
            arguments[1].contains("/a,, b/qmp-run,server=on,wait=off"),
            "{arguments:?}"
        );
        drop(sockets);
        assert!(!runtime.join("qmp-run").exists() && runtime.exists());
    }

    #[test]
    fn nobody_listens() {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("unix:{}", dir.path().join("none").display());
        assert!(
            connect(&address, Instant::now() + Duration::from_secs(5))
                .unwrap()
                .is_none()
        );
    }
}
