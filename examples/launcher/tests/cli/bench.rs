//! A store of its own for each test, images and specs to fill it, and the launcher run on it.
#![allow(dead_code, reason = "not every system uses every part")]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use stratavm::testkit::guest::{Boot, BootSector, parse_console};
use tempfile::TempDir;

use crate::schema;

pub(crate) const MIB: u64 = 1 << 20;
/// The sector that guests read and write.
pub(crate) const MARK: u32 = 7;
/// No command takes this long; one that does hangs.
const HANGS: Duration = Duration::from_secs(240);

/// A folder with a store and whatever else a test puts there.
pub(crate) struct Home {
    folder: TempDir,
    store: PathBuf,
    path: Option<OsString>,
}

/// A command that failed with status 1, as it said it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: String,
    pub(crate) message: String,
    /// The message and all causes.
    pub(crate) all: String,
    pub(crate) next: String,
    pub(crate) stderr: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("strata é ")
            .tempdir()
            .unwrap();
        let store = folder.path().join("home");
        Self {
            folder,
            store,
            path: None,
        }
    }

    /// The same with the store in another folder.
    pub(crate) fn with_store(mut self, store: &Path) -> Self {
        self.store = store.to_owned();
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// The folder of a machine.
    pub(crate) fn machine(&self, name: &str) -> PathBuf {
        self.store.join("machines").join(name)
    }

    /// Puts `folder` before all others on the commands' PATH.
    pub(crate) fn first_on_path(&mut self, folder: &Path) {
        let old = std::env::var_os("PATH").unwrap_or_default();
        let all = [folder.to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&old));
        self.path = Some(std::env::join_paths(all).unwrap());
    }

    /// The launcher with `--home` and these arguments.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stratavm"));
        command.arg("--home").arg(&self.store).args(arguments);
        command.current_dir(self.folder());
        // What is remembered about a product is each test's own.
        command.env("XDG_CACHE_HOME", self.folder().join("cache"));
        command
            .env_remove("STRATAVM_HOME")
            .env_remove("STRATAVM_LOG");
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        command
    }

    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Output {
        Spawned::new(&mut self.command(arguments)).output()
    }

    /// Runs a command with `--json` that must exit with `status`; its answer must fit its schema.
    pub(crate) fn answer<A: AsRef<OsStr>>(
        &self,
        schema: &str,
        status: i32,
        arguments: &[A],
    ) -> Value {
        checked(schema, status, &self.spawn(arguments).output())
    }

    /// Runs a command with `--json` that must succeed.
    pub(crate) fn ok<A: AsRef<OsStr>>(&self, schema: &str, arguments: &[A]) -> Value {
        self.answer(schema, 0, arguments)
    }

    /// Runs a command with `--json` that must fail: with an error that says what to do next, on
    /// stdout for programs and on stderr for people.
    pub(crate) fn fails<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Failure {
        failure(&self.spawn(arguments).output())
    }

    /// What a command that must succeed prints for people.
    pub(crate) fn text<A: AsRef<OsStr>>(&self, arguments: &[A]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout)
    }

    /// Starts a command with `--json` in the background.
    pub(crate) fn spawn<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Spawned {
        let json = [OsStr::new("--json")].into_iter();
        let all: Vec<_> = json.chain(arguments.iter().map(AsRef::as_ref)).collect();
        Spawned::new(&mut self.command(&all))
    }

    /// Writes a file beside the store.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A raw disk of `mib` MiB with holes: `boot` in its first sector, `mark` in sector [`MARK`].
    pub(crate) fn disk(&self, name: &str, mib: u64, boot: Option<&BootSector>, mark: &str) {
        let mut file = std::fs::File::create(self.folder().join(name)).unwrap();
        if let Some(boot) = boot {
            file.write_all(&boot.image_bytes().unwrap()).unwrap();
        }
        file.seek(SeekFrom::Start(u64::from(MARK) * 512)).unwrap();
        file.write_all(mark.as_bytes()).unwrap();
        file.set_len(mib * MIB).unwrap();
    }

    /// A machine `desk` with os, office (both discard) and home (keep), whose os boots `guest`.
    pub(crate) fn desk(&self, guest: &BootSector) -> Value {
        self.disk("os.raw", 1, Some(guest), "os v1");
        self.disk("office.raw", 1, None, "office v1");
        self.file("desk.toml", DESK);
        self.ok("create", &["create", "desk.toml"])
    }

    /// The boots that the console of machine `name` holds.
    pub(crate) fn boots(&self, name: &str) -> Vec<Boot> {
        parse_console(&std::fs::read(self.machine(name).join("console.log")).unwrap_or_default())
    }

    /// Every file of the store with its content, but for locks and consoles that are empty: a start
    /// makes both before anything can fail.
    pub(crate) fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = tree(&self.store);
        files.retain(|path, content| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            !name.ends_with(b"lock") && (name != b"console.log" || !content.is_empty())
        });
        files
    }

    /// The files of a machine's layers, without those of `layer`.
    pub(crate) fn other_layers(&self, name: &str, layer: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let layers = self.machine(name).join("layers");
        let mut files = tree(&layers);
        files.retain(|path, _| !path.starts_with(layers.join(layer)));
        files
    }
}

/// The spec of [`Home::desk`].
pub(crate) const DESK: &str = r#"
stratavm = 1
name = "desk"
title = "Desk of the tests"
[guest]
os = "other"
composition = "disks"
[hardware]
memory = "64 MiB"
controller = "ide"
console = "log"
[[layer]]
name = "os"
role = "os"
image = "os.raw"
[[layer]]
name = "office"
role = "apps"
image = "office.raw"
[[layer]]
name = "home"
role = "user-data"
size = "2 MiB"
"#;

/// Exit status and the one JSON value on stdout, which must fit its schema.
pub(crate) fn checked(schema: &str, status: i32, output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    let values: Vec<Value> = serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!(values.len(), 1, "{output:?}");
    schema::check(schema, &values[0]);
    values.into_iter().next().unwrap()
}

pub(crate) fn failure(output: &Output) -> Failure {
    let value = checked("error", 1, output);
    let error = &value["error"];
    let field = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    let causes = error["causes"].as_array().unwrap();
    let mut all = field("message");
    for cause in causes {
        all.push('\n');
        all.push_str(cause.as_str().unwrap());
    }
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("error: "), "{stderr}");
    assert!(stderr.contains("\n  next: "), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    assert!(stderr.chars().all(harmless), "{stderr:?}");
    Failure {
        kind: field("kind"),
        message: field("message"),
        all,
        next: field("next"),
        stderr,
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Every file below a folder, by its path and content.
pub(crate) fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    files
}

/// A command that runs; it is ended with the value.
pub(crate) struct Spawned {
    child: Child,
    streams: Option<[JoinHandle<Vec<u8>>; 2]>,
}

impl Spawned {
    pub(crate) fn new(command: &mut Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = drain(child.stdout.take().unwrap());
        let err = drain(child.stderr.take().unwrap());
        Self {
            child,
            streams: Some([out, err]),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub(crate) fn output(mut self) -> Output {
        let status = self.wait();
        let [stdout, stderr] = self.streams.take().unwrap().map(|s| s.join().unwrap());
        Output {
            status,
            stdout,
            stderr,
        }
    }

    fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + HANGS;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the command hangs");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn drain(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Looks again and again until `ready` answers something.
pub(crate) fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + HANGS;
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: waited in vain");
        thread::sleep(Duration::from_millis(20));
    }
}
