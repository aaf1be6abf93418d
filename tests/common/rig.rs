//! The real VirtualBox for tests: found where it is installed, or in the rig that `cargo xtask rig virtualbox` builds
//! and runs tests in. Every test has a [`Home`]: a folder of settings and a server of its own, so that tests run side by
//! side and a person's machines are never seen. Other packages' tests use it by `#[path]`, with `report` and `program`
//! beside it. Says nothing about what VirtualBox should answer.
#![allow(dead_code, reason = "not every test uses every part")]

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::program::within_limit;
use super::report;

/// The folders that installers use. They come before `PATH`: Debian has a script in `/usr/bin` that complains of the
/// missing driver.
const FOLDERS: [&str; 4] = [
    "/usr/lib/virtualbox",
    "/opt/VirtualBox",
    "/usr/lib64/virtualbox",
    "/Applications/VirtualBox.app/Contents/MacOS",
];
/// A server ends this long after its last client at the latest; it waits for 5 s.
const SERVER: Duration = Duration::from_secs(20);

/// An installation of VirtualBox.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    folder: PathBuf,
    version: String,
}

impl Product {
    /// The one that is here; `None` when there is none, which is reported as a skip of `what`.
    pub(crate) fn find(what: &str) -> Option<Self> {
        match Self::look() {
            Ok(product) => Some(product),
            Err(reason) => {
                report::skip("VirtualBox", what, &reason);
                None
            }
        }
    }

    fn look() -> Result<Self, String> {
        if cfg!(windows) {
            // Its server is one for each user there, and would show the tests that user's machines.
            return Err("tests cannot have a server of their own on Windows".into());
        }
        let told = env::var_os("VBOX_INSTALL_PATH").map(PathBuf::from);
        let path = env::var_os("PATH").unwrap_or_default();
        let usual = told.into_iter().chain(FOLDERS.map(PathBuf::from));
        let folder = usual
            .chain(env::split_paths(&path))
            .find(|folder| folder.join("VBoxManage").is_file())
            .ok_or("not installed; `cargo xtask test --only virtualbox` brings its own")?;
        let mut ask = Command::new(folder.join("VBoxManage"));
        let said = within_limit(ask.args(["-q", "--version"]))?;
        let version = said.lines().last().unwrap_or_default().trim().to_owned();
        Ok(Self { folder, version })
    }

    /// Where its programs and libraries are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// As it says it itself: `7.2.22_Debianr175245`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// One of its programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Settings, registry and server of one test. When it is dropped its machines are powered off, its server is ended, and
/// its folder removed.
pub(crate) struct Home {
    product: Product,
    folder: tempfile::TempDir,
    tag: String,
}

impl Home {
    /// An empty one.
    pub(crate) fn new(product: &Product) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::Builder::new()
            .prefix("stratavm-vbox-")
            .tempdir()
            .expect("a folder for VirtualBox's settings");
        // Part of the path of a socket, which must be short.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let tag = format!("strata{}-{number}", std::process::id());
        let home = Self {
            product: product.clone(),
            folder,
            tag,
        };
        // The guest's processor may be interpreted where there is no driver; elsewhere this changes nothing.
        home.manage([
            "setextradata",
            "global",
            "VBoxInternal/HM/FallbackToIEM",
            "1",
        ]);
        let machines = home.folder().join("machines");
        home.manage([
            OsStr::new("setproperty"),
            "machinefolder".as_ref(),
            machines.as_ref(),
        ]);
        home
    }

    /// The product whose home it is.
    pub(crate) fn product(&self) -> &Product {
        &self.product
    }

    /// A folder for what the test makes; VirtualBox's settings are below it, too.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the environment of each program, and of each library in this process, must have to meet this home's server.
    pub(crate) fn env(&self) -> [(&'static str, OsString); 2] {
        [
            ("VBOX_USER_HOME", self.folder().join("home").into()),
            ("VBOX_IPC_SOCKETID", self.tag.clone().into()),
        ]
    }

    /// One of the product's programs, about to be run in this home.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.product.program(program));
        command.envs(self.env());
        command
    }

    /// What VBoxManage answers, or what it says against it.
    pub(crate) fn try_manage<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
    ) -> Result<String, String> {
        within_limit(self.command("VBoxManage").arg("-q").args(args))
    }

    /// What VBoxManage answers; it must do as it is told.
    pub(crate) fn manage<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().into()).collect();
        self.try_manage(&args)
            .unwrap_or_else(|error| panic!("VBoxManage {args:?}: {error}"))
    }

    /// The UUIDs of the machines that run.
    pub(crate) fn running(&self) -> Result<Vec<String>, String> {
        let listed = self.try_manage(["list", "runningvms"])?;
        let uuid = |line: &str| Some(line.rsplit_once('{')?.1.strip_suffix('}')?.to_owned());
        Ok(listed
            .lines()
            .filter_map(|line| uuid(line.trim()))
            .collect())
    }

    /// Waits until no machine runs; false when that takes longer than `limit`.
    pub(crate) fn wait_for_power_off(&self, limit: Duration) -> bool {
        let started = Instant::now();
        // An error is a machine that is going away.
        while !self.running().is_ok_and(|running| running.is_empty()) {
            if started.elapsed() > limit {
                return false;
            }
            thread::sleep(Duration::from_millis(100));
        }
        true
    }

    /// Numbers of the processes that have this home's tag in their environment.
    fn processes(&self) -> Vec<String> {
        let tag = format!("VBOX_IPC_SOCKETID={}\0", self.tag);
        let is_ours = |pid: &str| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|env| env.windows(tag.len()).any(|part| part == tag.as_bytes()))
        };
        let own = std::process::id().to_string();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()) && *pid != own && is_ours(pid))
            .collect()
    }

    fn signal(&self, signal: &str) {
        for pid in self.processes() {
            let _ = Command::new("kill").args([signal, &pid]).status();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for uuid in self.running().unwrap_or_default() {
            let _ = self.try_manage(["controlvm", &uuid, "poweroff"]);
        }
        self.wait_for_power_off(SERVER);
        // A server saves its settings when it is asked to end.
        self.signal("-TERM");
        let started = Instant::now();
        while !self.processes().is_empty() && started.elapsed() < SERVER {
            thread::sleep(Duration::from_millis(20));
        }
        self.signal("-KILL");
        let _ = fs::remove_dir_all(format!("/tmp/.vbox-{}-ipc", self.tag));
    }
}
