//! One machine of the demo: made from the spec, changed layer by layer with every other layer's files compared, and
//! started with a task whose outcome is read from its console.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::cache::digest_of;
use super::guest;
use super::launcher::{Launcher, text};
use super::task::Task;
use super::tool::At;
use crate::exec::Error;

/// The layers of the spec, in its order.
const LAYERS: [&str; 7] = ["os", "app", "task", "own", "cache", "identity", "home"];

/// What the demo's promises work with.
pub(crate) struct Bench {
    pub(crate) launcher: Launcher,
    /// A folder for what is made on the way.
    pub(crate) scratch: PathBuf,
    /// How many times a guest was started.
    pub(crate) boots: u64,
}

/// A machine in the store.
pub(crate) struct Machine<'a> {
    bench: &'a mut Bench,
    name: String,
}

/// What a start showed.
pub(crate) struct Shown {
    /// Facts that the guest reported in its last boot.
    pub(crate) facts: BTreeMap<String, String>,
}

impl Bench {
    /// Adds a bare squashfs to the store as an `apps` layer; its digest.
    pub(crate) fn add_application(&self, file: &Path, name: &str) -> Result<String, Error> {
        let file = file.to_string_lossy();
        let wrap = [
            "image", "add", &file, "--fs", "squashfs", "--role", "apps", "--name", name,
        ];
        let added = self.launcher.run(&wrap)?;
        Ok(text(&added, "digest").to_owned())
    }

    /// Adds a whole disk to the store; its digest.
    pub(crate) fn add_disk(&self, file: &Path) -> Result<String, Error> {
        let added = self
            .launcher
            .run(&["image", "add", &file.to_string_lossy()])?;
        Ok(text(&added, "digest").to_owned())
    }

    /// Adds a whole disk to the store as a list of `parts` extents.
    pub(crate) fn add_disk_in_parts(&self, file: &Path, parts: u64) -> Result<(), Error> {
        const MIB: u64 = 1 << 20;
        let size = fs::metadata(file).at(file.display())?.len();
        let largest = format!("{} MiB", size.div_ceil(parts).div_ceil(MIB));
        let disk = file.to_string_lossy();
        let added = self
            .launcher
            .run(&["image", "add", &disk, "--max-extent", &largest])?;
        let digest = text(&added, "digest").replace(':', "-");
        let folder = self.launcher.home().join("images").join(digest);
        let files = fs::read_dir(&folder).at(folder.display())?.flatten();
        let extents = files.filter(|entry| {
            entry.path().is_file() && !entry.file_name().to_string_lossy().ends_with(".json")
        });
        match extents.count() as u64 {
            found if found == parts => Ok(()),
            found => {
                let text = format!("{} was stored as {found} extents", file.display());
                Err(Error::new(text))
            }
        }
    }

    fn add_task(&self, task: &Task) -> Result<String, Error> {
        let file = self.scratch.join("task.squashfs");
        guest::task(&task.script()).squashfs(&file, &self.scratch.join("tree"))?;
        self.add_application(&file, "task")
    }

    /// Makes a machine from an os and an application in the store.
    pub(crate) fn create(&mut self, name: &str, os: &str, app: &str) -> Result<Machine<'_>, Error> {
        let task = self.add_task(&Task::new())?;
        let spec = self.scratch.join(format!("{name}.toml"));
        fs::write(
            &spec,
            SPEC.replace("{name}", name)
                .replace("{os}", os)
                .replace("{app}", app)
                .replace("{task}", &task),
        )
        .at(spec.display())?;
        self.launcher.run(&["create", &spec.to_string_lossy()])?;
        Ok(self.machine(name))
    }

    /// A machine that is in the store already.
    pub(crate) fn machine(&mut self, name: &str) -> Machine<'_> {
        Machine {
            bench: self,
            name: name.to_owned(),
        }
    }
}

impl Machine<'_> {
    /// Gives the guest its task, starts it until it powers off, and checks what it judged.
    pub(crate) fn boot(&mut self, task: &Task) -> Result<Shown, Error> {
        self.give(task)?;
        self.boot_again(task)
    }

    /// Gives the guest its task for the next start.
    pub(crate) fn give(&mut self, task: &Task) -> Result<(), Error> {
        let image = self.bench.add_task(task)?;
        self.change(&["task"], &["update", "task", &image])
            .map(drop)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn launcher(&self) -> &Launcher {
        &self.bench.launcher
    }

    /// What the guest has written to its console so far.
    pub(crate) fn console(&self) -> String {
        let bytes = fs::read(self.folder().join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The machine's folder.
    pub(crate) fn folder(&self) -> PathBuf {
        let machines = self.bench.launcher.home().join("machines");
        machines.join(&self.name)
    }

    /// Starts the guest with the task that it has got.
    pub(crate) fn boot_again(&mut self, task: &Task) -> Result<Shown, Error> {
        let (ended, console) = self.start()?;
        let boots = ended
            .get("boots")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        if text(&ended, "ended") != "power-off" || boots != task.boots() {
            return Err(with_console(
                format!("the start ended as {ended}"),
                &console,
            ));
        }
        judge(&console, task.expectations())
    }

    /// Starts it and waits; what the launcher answered, and what is on the console.
    pub(crate) fn start(&mut self) -> Result<(Value, String), Error> {
        let ended = self.bench.launcher.start(&self.name)?.map_err(Error::new)?;
        self.bench.boots += ended.get("boots").and_then(Value::as_u64).unwrap_or(1);
        let console = PathBuf::from(text(&ended, "console"));
        let bytes = fs::read(&console).at(format!("console {}", console.display()))?;
        Ok((ended, String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Starts it although that cannot be done; the refusal in words.
    pub(crate) fn start_refused(&mut self) -> Result<String, Error> {
        match self.bench.launcher.start(&self.name)? {
            Err(refused) => Ok(refused),
            Ok(ended) => Err(Error::new(format!("the start was not refused: {ended}"))),
        }
    }

    /// Runs `VERB <machine> ARGS` and checks that the files of every layer but `layers`, and all images, are as they were.
    pub(crate) fn change(&mut self, layers: &[&str], command: &[&str]) -> Result<Value, Error> {
        let mut args = vec![command[0], &self.name];
        args.extend(&command[1..]);
        self.watched(layers, command, |launcher| launcher.run(&args))
    }

    /// Edits the os as its guest does by itself, which takes `boots` boots and ends with `expectations` that it judges,
    /// with the same check; what the launcher answered.
    pub(crate) fn edit_os(&mut self, boots: u64, expectations: usize) -> Result<Value, Error> {
        let command = ["golden", "edit", &self.name.clone(), "os", "--wait"];
        let ended = self.watched(&["os"], &command, |launcher| launcher.wait(&command))?;
        self.bench.boots += boots;
        let console = self.console();
        if text(&ended, "edit") != "frozen" || ended.get("boots") != Some(&boots.into()) {
            return Err(with_console(format!("the edit ended as {ended}"), &console));
        }
        judge(&console, expectations)?;
        Ok(ended)
    }

    /// Checks that `change`, which `command` is, leaves the files of every layer but `layers`, and all images, as they were.
    fn watched(
        &self,
        layers: &[&str],
        command: &[&str],
        change: impl FnOnce(&Launcher) -> Result<Value, Error>,
    ) -> Result<Value, Error> {
        let before = self.digests(layers)?;
        let answer = change(&self.bench.launcher)?;
        let after = self.digests(layers)?;
        if let Some((file, _)) = before
            .iter()
            .find(|(file, digest)| after.get(*file) != Some(digest))
        {
            return Err(Error::new(format!("{} changed {file}", command.join(" "))));
        }
        let mut new = after.keys().filter(|file| !before.contains_key(*file));
        match new.find(|file| !file.starts_with(IMAGES)) {
            Some(file) => Err(Error::new(format!("{} added {file}", command.join(" ")))),
            None => Ok(answer),
        }
    }

    /// Adds a layer from its description in TOML, checked like any change.
    pub(crate) fn add(&mut self, layer: &str, description: &str) -> Result<(), Error> {
        let file = self.bench.scratch.join(format!("{layer}-layer.toml"));
        fs::write(&file, description).at(file.display())?;
        self.change(&[layer], &["add", &file.to_string_lossy()])
            .map(drop)
    }

    /// The folder of one layer.
    pub(crate) fn layer_folder(&self, layer: &str) -> PathBuf {
        self.folder().join("layers").join(layer)
    }

    /// The bench's folder for what is made on the way.
    pub(crate) fn scratch(&self) -> &Path {
        &self.bench.scratch
    }

    /// SHA-256 of every file of all layers but `except`, and of every image.
    fn digests(&self, except: &[&str]) -> Result<BTreeMap<String, String>, Error> {
        let mut found = BTreeMap::new();
        for layer in LAYERS.iter().filter(|layer| !except.contains(layer)) {
            digest_folder(&self.layer_folder(layer), layer, &mut found)?;
        }
        digest_folder(
            &self.bench.launcher.home().join("images"),
            IMAGES,
            &mut found,
        )?;
        Ok(found)
    }
}

/// The folder of the images, in the names of [`Machine::digests`].
const IMAGES: &str = "images";

fn digest_folder(
    folder: &Path,
    name: &str,
    found: &mut BTreeMap<String, String>,
) -> Result<(), Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()), // a removed layer
        entries => entries.at(folder.display())?,
    };
    for entry in entries {
        let path = entry.at(folder.display())?.path();
        let name = format!(
            "{name}/{}",
            path.file_name().unwrap_or_default().to_string_lossy()
        );
        if path.is_dir() {
            if !name.ends_with("/leases") {
                digest_folder(&path, &name, found)?;
            }
        } else {
            found.insert(name, digest_of(&path)?);
        }
    }
    Ok(())
}

/// Reads what the guest judged in its last boot.
fn judge(console: &str, expectations: usize) -> Result<Shown, Error> {
    let lines: Vec<&str> = console
        .lines()
        .filter_map(|line| line.trim().strip_prefix("demo: "))
        .collect();
    if let Some(wrong) = lines.iter().find(|line| line.starts_with("wrong ")) {
        return Err(with_console(format!("the guest says: {wrong}"), console));
    }
    let verdict = format!("asserted {expectations} ok, 0 wrong");
    if lines.last() != Some(&verdict.as_str()) {
        return Err(with_console(
            format!("the guest does not end with '{verdict}'"),
            console,
        ));
    }
    let facts = lines
        .iter()
        .filter_map(|line| line.strip_prefix("fact ")?.split_once(' '));
    Ok(Shown {
        facts: facts
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    })
}

/// A failure, and the end of what the guest wrote.
pub(crate) fn with_console(what: String, console: &str) -> Error {
    let lines: Vec<&str> = console
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let end = lines[lines.len().saturating_sub(25)..].iter();
    let shown: String = end
        .map(|line| format!("\n    | {}", line.escape_debug()))
        .collect();
    Error::new(format!("{what}; console:{shown}"))
}

const SPEC: &str = r#"stratavm = 1
name = "{name}"
[guest]
os = "linux"
arch = "x86_64"
composition = "linux"
session = "64 MiB"
[hardware]
memory = "384 MiB"
controller = "virtio"
console = "log"
[[layer]]
name = "os"
role = "os"
image = "{os}"
[[layer]]
name = "app"
role = "apps"
image = "{app}"
[[layer]]
name = "task"
role = "apps"
image = "{task}"
[[layer]]
name = "own"
role = "user-apps"
size = "64 MiB"
[[layer]]
name = "cache"
role = "cache"
size = "64 MiB"
paths = ["/var/cache/demo"]
[[layer]]
name = "identity"
role = "identity"
size = "16 MiB"
[[layer]]
name = "home"
role = "user-data"
size = "64 MiB"
paths = ["/home"]
"#;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_verdict_counts_only_if_it_is_the_last_word_and_complete() {
        let good = "strata: x\r\ndemo: fact home 3\r\ndemo: ok home 3\r\ndemo: asserted 1 ok, 0 wrong\r\n[ 4.2] off\r\n";
        assert_eq!(judge(good, 1).unwrap().facts["home"], "3");
        assert!(judge(good, 2).is_err());
        assert!(judge("", 0).is_err());
        assert!(judge(&good.replace("ok home 3", "wrong home is 2, not 3"), 1).is_err());
        assert!(judge(&format!("{good}demo: ok again\n"), 1).is_err());
    }
}
