//! A tree becomes a [`VmSpec`]: every key, its type and the form of its value.
//!
//! Values that could not be read get stand-ins, so that the rules in [`super::validate`] can be
//! applied to the rest.

mod extra;
mod table;

use super::collect::Collector;
use super::fault::KeyPath;
use super::tree::{Node, Value};
use super::validate::{CPUS, SLOTS};
use super::{
    Cdrom, Guest, GuestOs, Hardware, LayerSpec, MacAddress, Name, Network, NetworkMode, Policy,
    Role, Size, VmSpec,
};
use extra::{extensions, labels};
use table::{Table, checked, choice, expected, list, one_of, size, text, truth, whole};

/// Reads the whole spec; what is wrong goes to `out`.
pub(super) fn spec(out: &mut Collector, tree: &Node) -> VmSpec {
    let root = KeyPath::default();
    let top = Table::open(out, tree, root.clone(), table::TOP);
    let hint = format!("write `stratavm = {}`", super::SPEC_VERSION);
    VmSpec {
        stratavm: top
            .required(out, "stratavm", &hint, version)
            .unwrap_or(super::SPEC_VERSION),
        name: top
            .required(out, "name", "give the machine a name", checked)
            .unwrap_or_else(Name::stand_in),
        title: top.optional(out, "title", text),
        guest: top
            .required(out, "guest", "add a table [guest]", guest)
            .unwrap_or(Guest::new(GuestOs::Other)),
        hardware: top.optional(out, "hardware", hardware).unwrap_or_default(),
        layers: top
            .required(out, "layer", "add a table [[layer]] for each layer", layers)
            .unwrap_or_default(),
        policy: top.optional(out, "policy", policy).unwrap_or_default(),
        labels: top.optional(out, "labels", labels).unwrap_or_default(),
        extensions: extensions(out, top.entries()),
    }
}

/// The version that a spec says it is of, if it says one at all.
pub(super) fn stated_version(tree: &Node) -> Option<i64> {
    match tree.entry("stratavm").map(|entry| &entry.node.value) {
        Some(Value::Integer(version)) => Some(*version),
        _ => None,
    }
}

/// The name that a layer has in the text, if it is one.
pub(super) fn layer_name(tree: &Node, index: usize) -> Option<String> {
    let Value::List(layers) = &tree.entry("layer")?.node.value else {
        return None;
    };
    match &layers.get(index)?.entry("name")?.node.value {
        Value::Text(name) => name.parse::<Name>().ok().map(|name| name.to_string()),
        _ => None,
    }
}

fn version(out: &mut Collector, node: &Node, path: &KeyPath) -> Option<u32> {
    whole(out, node, path, super::SPEC_VERSION..=super::SPEC_VERSION)
}

fn guest(out: &mut Collector, node: &Node, path: &KeyPath) -> Option<Guest> {
    let table = Table::open(out, node, path.clone(), table::GUEST);
    let hint = format!(
        "one of {}",
        one_of(GuestOs::ALL.iter().map(|os| os.as_str()))
    );
    Some(Guest {
        os: table
            .required(out, "os", &hint, choice)
            .unwrap_or(GuestOs::Other),
        id: table.optional(out, "id", text),
        arch: table.optional(out, "arch", choice).unwrap_or_default(),
        composition: table
            .optional(out, "composition", choice)
            .unwrap_or_default(),
        session: table.optional(out, "session", size),
    })
}

fn hardware(out: &mut Collector, node: &Node, path: &KeyPath) -> Option<Hardware> {
    let table = Table::open(out, node, path.clone(), table::HARDWARE);
    let default = Hardware::default();
    let cpus = |out: &mut Collector, node: &Node, path: &KeyPath| whole(out, node, path, CPUS);
    let boot = |out: &mut Collector, node: &Node, path: &KeyPath| {
        list(out, node, path, "a list of boot devices", choice)
    };
    Some(Hardware {
        cpus: table.optional(out, "cpus", cpus).unwrap_or(default.cpus),
        memory: table
            .optional(out, "memory", size)
            .unwrap_or(default.memory),
        firmware: table.optional(out, "firmware", choice).unwrap_or_default(),
        secure_boot: table
            .optional(out, "secure-boot", truth)
            .unwrap_or_default(),
        tpm: table.optional(out, "tpm", choice).unwrap_or_default(),
        clock: table.optional(out, "clock", choice).unwrap_or_default(),
        controller: table
            .optional(out, "controller", choice)
            .unwrap_or_default(),
        console: table.optional(out, "console", choice).unwrap_or_default(),
        display: table.optional(out, "display", choice).unwrap_or_default(),
        video_memory: table
            .optional(out, "video-memory", size)
            .unwrap_or(default.video_memory),
        audio: table.optional(out, "audio", choice).unwrap_or_default(),
        boot: table.optional(out, "boot", boot).unwrap_or(default.boot),
        network: table.optional(out, "network", networks).unwrap_or_default(),
        cdrom: table.optional(out, "cdrom", cdroms).unwrap_or_default(),
    })
}

fn networks(out: &mut Collector, node: &Node, path: &KeyPath) -> Option<Vec<Network>> {
    let hint = format!(
        "one of {}",
        one_of(NetworkMode::ALL.iter().map(|mode| mode.as_str()))
    );
    list(
        out,
        node,
        path,
        "a list of tables [[hardware.network]]",
        |out, node, path| {
            let table = Table::open(out, node, path.clone(), table::NETWORK);
            let mode = table
                .required(out, "mode", &hint, choice)
                .unwrap_or(NetworkMode::None);
            let mac: Option<MacAddress> = table.optional(out, "mac", checked);
            Some(Network {
                mode,
                mac: mac.unwrap_or_default(),
            })
        },
    )
}

fn cdroms(out: &mut Collector, node: &Node, path: &KeyPath) -> Option<Vec<Cdrom>> {
    list(
        out,
        node,
        path,
        "a list of tables [[hardware.cdrom]]",
        |out, node, path| {
            let table = Table::open(out, node, path.clone(), table::CDROM);
            let image = table.required(out, "image", "name the ISO image of the drive", text);
            Some(Cdrom {
                image: image.unwrap_or_default(),
            })
        },
    )
}

fn layers(out: &mut Collector, node: &Node, path: &KeyPath) -> Option<Vec<LayerSpec>> {
    list(
        out,
        node,
        path,
        "a list of tables [[layer]]",
        |out, node, path| Some(layer(out, node, path)),
    )
}

pub(super) fn layer(out: &mut Collector, node: &Node, path: &KeyPath) -> LayerSpec {
    let table = Table::open(out, node, path.clone(), table::LAYER);
    let roles = format!(
        "one of {}",
        one_of(Role::ALL.iter().map(|role| role.as_str()))
    );
    let slot = |out: &mut Collector, node: &Node, path: &KeyPath| whole(out, node, path, SLOTS);
    let paths = |out: &mut Collector, node: &Node, path: &KeyPath| {
        // A stand-in keeps the indices of the others right; it is doubted.
        list(out, node, path, "a list of paths", |out, node, path| {
            Some(text(out, node, path).unwrap_or_default())
        })
    };
    LayerSpec {
        name: table
            .required(out, "name", "give the layer a name", checked)
            .unwrap_or_else(Name::stand_in),
        role: table
            .required(out, "role", &roles, choice)
            .unwrap_or(Role::Custom),
        image: table.optional(out, "image", text),
        size: table.optional::<Size>(out, "size", size),
        title: table.optional(out, "title", text),
        paths: table.optional(out, "paths", paths),
        writes: table.optional(out, "writes", choice),
        rejuvenate: table.optional(out, "rejuvenate", choice),
        optional: table.optional(out, "optional", truth).unwrap_or_default(),
        controller: table.optional(out, "controller", choice),
        slot: table.optional(out, "slot", slot),
        labels: table.optional(out, "labels", labels).unwrap_or_default(),
    }
}

fn policy(out: &mut Collector, node: &Node, path: &KeyPath) -> Option<Policy> {
    let table = Table::open(out, node, path.clone(), table::POLICY);
    Some(Policy {
        clipboard: table.optional(out, "clipboard", choice).unwrap_or_default(),
        drag_and_drop: table
            .optional(out, "drag-and-drop", choice)
            .unwrap_or_default(),
        shared_folders: table
            .optional(out, "shared-folders", choice)
            .unwrap_or_default(),
        usb: table.optional(out, "usb", choice).unwrap_or_default(),
        snapshots: table.optional(out, "snapshots", choice).unwrap_or_default(),
        suspend: table.optional(out, "suspend", choice).unwrap_or_default(),
    })
}
