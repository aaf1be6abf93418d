//! The command line: every argument with its help and an example for each command.

pub(crate) mod disk;
pub(crate) mod golden;
pub(crate) mod history;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use stratavm::spec::{Name, Role, Size};

use crate::output::Form;
use disk::Disk;
use golden::{Golden, Publish};
use history::{History, Label, Layers, OfRevision, Point, Retention};

/// Runs virtual machines that are made of layers.
///
/// Each layer - operating system, applications, user data - is updated, rolled back, added or
/// removed alone; the operating system is clean again at every start.
#[derive(Debug, Parser)]
#[command(
    name = "stratavm",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(after_help = "Examples:
  stratavm doctor
  stratavm translate finance.toml --product all --out plans
  stratavm create finance.toml && stratavm start finance")]
pub(crate) struct Cli {
    /// Print one JSON value on stdout, errors included.
    #[arg(long, global = true)]
    json: bool,
    /// The store's folder [default: the platform's data folder].
    #[arg(long, global = true, value_name = "DIR", env = "STRATAVM_HOME")]
    pub(crate) home: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    pub(crate) fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show each product: where it is, its version, how it is driven, what it can do.
    #[command(after_help = "Example:\n  stratavm doctor --json")]
    Doctor,
    /// Write the plan of a spec for one product or all; needs no product and no store.
    #[command(after_help = "Example:\n  stratavm translate finance.toml --product all --out plans")]
    Translate(Translate),
    /// Golden images and seeds.
    #[command(subcommand, after_help = "Example:\n  stratavm image add golden.raw")]
    Image(Image),
    /// Make a machine from a spec.
    #[command(after_help = "Example:\n  stratavm create finance.toml --product virtualbox")]
    Create(Create),
    /// List the machines.
    #[command(after_help = "Example:\n  stratavm list --json")]
    List,
    /// Show what a machine is and does.
    #[command(after_help = "Example:\n  stratavm status finance")]
    Status(Named),
    /// Delete a machine with everything its user wrote; images stay.
    #[command(after_help = "Example:\n  stratavm delete finance")]
    Delete(Delete),
    /// Start a machine on fresh heads, and leave it running or wait for its end.
    #[command(after_help = "Examples:
  stratavm start finance
  stratavm start finance --wait --timeout 600")]
    Start(Start),
    /// Watch over a machine in the background: what `start` begins.
    #[command(hide = true)]
    Supervise(Supervise),
    /// Ask a machine to shut down, or switch it off.
    #[command(after_help = "Example:\n  stratavm stop finance --force")]
    Stop(Stop),
    /// Stop the processors of a running machine for a while.
    #[command(after_help = "Example:\n  stratavm pause finance")]
    Pause(Named),
    /// Let a paused machine go on.
    #[command(after_help = "Example:\n  stratavm resume finance")]
    Resume(Named),
    /// Save the state of a running machine to disk; `start` goes on with it.
    #[command(after_help = "Example:\n  stratavm suspend finance")]
    Suspend(Named),
    /// Print what the guest wrote to its first serial port.
    #[command(after_help = "Example:\n  stratavm console finance")]
    Console(Named),
    /// Show the layers of a machine, and what happens to each at the next start.
    #[command(
        after_help = "Examples:\n  stratavm layers finance\n  stratavm layers finance --removed"
    )]
    Layers(Layers),
    /// Show the revisions of a layer or of all, and the last operation.
    #[command(after_help = "Example:\n  stratavm history finance home")]
    History(History),
    /// Freeze what the guest wrote to a layer as a revision.
    #[command(after_help = "Example:\n  stratavm snapshot finance home --label before-taxes")]
    Snapshot(Snapshot),
    /// Say what to call a revision.
    #[command(after_help = "Example:\n  stratavm label finance home 3 'before the audit'")]
    Label(Label),
    /// Keep a revision whatever retention says.
    #[command(after_help = "Example:\n  stratavm pin finance home 3")]
    Pin(OfRevision),
    /// Leave a revision to retention.
    #[command(after_help = "Example:\n  stratavm unpin finance home 3")]
    Unpin(OfRevision),
    /// Names for the state of several layers at once.
    #[command(
        subcommand,
        after_help = "Example:\n  stratavm point create finance before-audit"
    )]
    Point(Point),
    /// Say how long revisions are kept, or show it.
    #[command(after_help = "Examples:
  stratavm retention finance --keep-last 10 --keep-days 30
  stratavm retention finance --layer home --off")]
    Retention(Retention),
    /// Go back to an older revision of a layer, or to a point; nothing is deleted.
    #[command(after_help = "Examples:
  stratavm rollback finance office --to 1
  stratavm rollback finance --to-point before-audit")]
    Rollback(Rollback),
    /// Give a layer another image.
    #[command(after_help = "Example:\n  stratavm update finance office office-v2.raw")]
    Update(Update),
    /// Change a golden image by hand.
    #[command(
        subcommand,
        after_help = "Example:\n  stratavm golden edit finance os && stratavm publish finance os"
    )]
    Golden(Golden),
    /// Make an image of a layer's revision, for other machines to take.
    #[command(after_help = "Examples:
  stratavm publish finance os --label 'security fixes of May'
  stratavm update lamp os sha256c:5f0d...")]
    Publish(Publish),
    /// Add a layer, described in a TOML file as in a spec, or take back a removed one.
    #[command(after_help = "Examples:
  stratavm add finance crm-layer.toml
  stratavm add finance --back crm")]
    Add(Add),
    /// Remove a layer.
    #[command(after_help = "Example:\n  stratavm remove finance crm")]
    Remove(Remove),
    /// Bring everything but the user's own things back to clean.
    #[command(after_help = "Example:\n  stratavm rejuvenate finance")]
    Rejuvenate(Named),
    /// Take back the last layer operation, or the last one that waits for the next start.
    #[command(after_help = "Example:\n  stratavm undo finance")]
    Undo(Named),
    /// Take in a machine's folder that was copied, renamed or brought from elsewhere by hand.
    #[command(after_help = "Examples:
  stratavm adopt lamp --new-id
  stratavm adopt /mnt/stick/desk --moved --name desk-2")]
    Adopt(Adopt),
    /// Check the store: images, records, the files of every revision, who refers to what.
    #[command(after_help = "Examples:
  stratavm fsck
  stratavm fsck finance --repair
  stratavm fsck --digests")]
    Fsck(Fsck),
    /// Free what nobody refers to: images, and files of changes that were cut short.
    #[command(after_help = "Example:\n  stratavm prune --dry-run && stratavm prune")]
    Prune(Prune),
    /// Disk images by hand.
    #[command(subcommand, after_help = "Example:\n  stratavm disk info head-3.vmdk")]
    Disk(Disk),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  stratavm completions bash > stratavm.bash")]
    Completions(Completions),
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The machine.
    pub(crate) name: Name,
}

#[derive(Debug, Args)]
pub(crate) struct OfLayer {
    /// The machine.
    pub(crate) name: Name,
    /// The layer.
    pub(crate) layer: Name,
}

#[derive(Debug, Args)]
pub(crate) struct Translate {
    /// The spec: TOML, or JSON if it is called *.json.
    pub(crate) spec: PathBuf,
    /// The product, or `all`.
    #[arg(long, value_name = "PRODUCT|all", default_value = "all")]
    pub(crate) product: String,
    /// Where to write; each product gets a folder of its own below it.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Add a disk to the store; what is there already is not stored again.
    #[command(after_help = "Examples:
  stratavm image add golden.raw
  stratavm image add office.squashfs --fs squashfs --role apps --name office")]
    Add(ImageAdd),
    /// List the images of the store.
    #[command(after_help = "Example:\n  stratavm image list")]
    List,
    /// Read an image again and compare it with its digest.
    #[command(after_help = "Example:\n  stratavm image verify sha256c:5f0d...")]
    Verify(ImageVerify),
    /// Show or change the other folders, only read, that images are looked for in.
    #[command(after_help = "Examples:
  stratavm image roots
  stratavm image roots --add /mnt/company/images
  stratavm image roots --remove /mnt/company/images")]
    Roots(ImageRoots),
}

#[derive(Debug, Args)]
pub(crate) struct ImageRoots {
    /// Look for images in this folder too, from now on.
    #[arg(long, value_name = "DIR", conflicts_with = "remove")]
    pub(crate) add: Option<PathBuf>,
    /// Look for images in this folder no more.
    #[arg(long, value_name = "DIR")]
    pub(crate) remove: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ImageAdd {
    /// A raw disk, or with --fs a file that holds a bare file system.
    pub(crate) file: PathBuf,
    /// The file is a file system of this kind: wrap it into a disk with one partition.
    #[arg(long, value_name = "KIND", requires_all = ["role", "name"])]
    pub(crate) fs: Option<FileSystem>,
    /// The role of the layer that the file system is for.
    #[arg(long, requires = "fs")]
    pub(crate) role: Option<Role>,
    /// The name of the layer that the file system is for.
    #[arg(long, requires = "fs")]
    pub(crate) name: Option<Name>,
    /// Refuse a file that would have to be padded instead of padding it.
    #[arg(long)]
    pub(crate) exact: bool,
    /// Cut the image into extents of at most this size, a multiple of 1 MiB.
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_extent: Option<Size>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum FileSystem {
    /// squashfs
    Squashfs,
    /// EROFS
    Erofs,
    /// ext4
    Ext4,
}

#[derive(Debug, Args)]
pub(crate) struct ImageVerify {
    /// The image's digest, sha256c:...
    pub(crate) digest: stratavm::image::ImageDigest,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The spec: TOML, or JSON if it is called *.json.
    pub(crate) spec: PathBuf,
    /// The product it is meant for: chooses the format of its disks.
    #[arg(long)]
    pub(crate) product: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    /// The machine.
    pub(crate) name: Name,
    /// The product to run it on.
    #[arg(long, default_value = "qemu")]
    pub(crate) product: String,
    /// Stay until the machine is off, instead of leaving it to a supervisor in the background.
    #[arg(long)]
    pub(crate) wait: bool,
    /// A reboot of the guest ends the run too.
    #[arg(long, requires = "wait")]
    pub(crate) once: bool,
    /// Freeze what this layer holds first, so that `stop --discard` can drop the session; may be
    /// given several times.
    #[arg(long, value_name = "LAYER")]
    pub(crate) revertible: Vec<Name>,
    /// Switch the machine off after this many seconds.
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    pub(crate) timeout: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Supervise {
    #[command(flatten)]
    pub(crate) start: Start,
    /// The layer that the run edits.
    #[arg(long, value_name = "LAYER")]
    pub(crate) edit: Option<Name>,
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// The machine.
    pub(crate) name: Name,
    /// Switch off at once instead of asking the guest.
    #[arg(long)]
    pub(crate) force: bool,
    /// Drop the saved state of a suspended machine: it is off then, as if it had lost power.
    #[arg(long, conflicts_with = "force")]
    pub(crate) discard_state: bool,
    /// Keep what the session wrote to this layer, which discards; may be given several times.
    #[arg(long, value_name = "LAYER", conflicts_with = "discard_state")]
    pub(crate) keep: Vec<Name>,
    /// Drop what the session wrote to this layer, which keeps; may be given several times.
    #[arg(long, value_name = "LAYER", conflicts_with = "discard_state")]
    pub(crate) discard: Vec<Name>,
}

#[derive(Debug, Args)]
pub(crate) struct Snapshot {
    #[command(flatten)]
    pub(crate) of: OfLayer,
    /// What to call the revision.
    #[arg(long)]
    pub(crate) label: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The machine.
    pub(crate) name: Name,
    /// The layer.
    #[arg(required_unless_present = "to_point")]
    pub(crate) layer: Option<Name>,
    /// The point to go back to: all of its layers at once.
    #[arg(long, value_name = "POINT", conflicts_with_all = ["to", "layer"])]
    pub(crate) to_point: Option<Name>,
    /// The revision to go to [default: the one before the current one].
    #[arg(long, value_name = "REVISION")]
    pub(crate) to: Option<u64>,
    /// Drop what the guest wrote since instead of keeping it as a revision.
    #[arg(long)]
    pub(crate) discard_writes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    pub(crate) of: OfLayer,
    /// The image: a file, or the digest of one in the store.
    pub(crate) image: String,
    /// Drop what the guest wrote to the layer; its revisions stay.
    #[arg(long)]
    pub(crate) discard_writes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The machine.
    pub(crate) name: Name,
    /// A TOML file with the keys of one layer.
    #[arg(required_unless_present = "back")]
    pub(crate) layer_spec: Option<PathBuf>,
    /// Take back this layer, which was removed.
    #[arg(long, value_name = "LAYER", conflicts_with = "layer_spec")]
    pub(crate) back: Option<Name>,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    pub(crate) of: OfLayer,
    /// Drop what the guest wrote to the layer instead of keeping it aside.
    #[arg(long)]
    pub(crate) discard_writes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The machine.
    pub(crate) name: Name,
    /// Also if its record cannot be used, or its folder was copied by hand; never while it runs.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("adoption").required(true))]
pub(crate) struct Adopt {
    /// The folder, or the name of one among the store's machines.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// It is a copy: make it a machine of its own, with ids of its own.
    #[arg(long, group = "adoption")]
    pub(crate) new_id: bool,
    /// It is the machine itself: the original is gone.
    #[arg(long, group = "adoption")]
    pub(crate) moved: bool,
    /// What to call the machine [default: as its folder].
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// Drop what the guest wrote since the last revisions, if it may be torn.
    #[arg(long)]
    pub(crate) discard_writes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Fsck {
    /// Only this machine and its images [default: the whole store].
    pub(crate) name: Option<Name>,
    /// Put right what follows from the records alone.
    #[arg(long)]
    pub(crate) repair: bool,
    /// Read every image and compare it with its digest.
    #[arg(long)]
    pub(crate) digests: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Say what would go and how much it takes; change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Drop layers too that were removed while they held what a guest wrote.
    #[arg(long)]
    pub(crate) removed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}
