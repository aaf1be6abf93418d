//! What the tests of this crate share: a machine of five layers made by hand, and a reader of XML
//! that shares nothing with the writer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use stratavm::Resolved;
use stratavm::chain::{Chain, DiskName, Family, Member, MemberFile, MemberRole};
use stratavm::identity::Identity;
use stratavm::resolved::{Paths, ResolvedDisk};
use stratavm::spec::{Controller, LayerSpec, VmSpec};
use uuid::Uuid;

const SECTORS: u64 = 8 * 2048;

/// A machine whose five disks are all on `controller`, in slots 0 to 4, each with an image, a
/// frozen delta and a head.
pub(crate) fn machine(controller: Controller) -> Resolved {
    let image = "golden.raw";
    let layer =
        |name: &str, role: &str| serde_json::json!({ "name": name, "role": role, "image": image });
    let spec: VmSpec = serde_json::from_value(serde_json::json!({
        "stratavm": 1,
        "name": "finance",
        "guest": { "os": "linux", "id": "debian12", "composition": "linux" },
        "hardware": { "cpus": 3, "memory": "2 GiB", "console": "log" },
        "layer": [
            layer("os", "os"),
            layer("office", "apps"),
            layer("cache", "cache"),
            layer("home", "user-data"),
            layer("extra", "user-apps"),
        ],
    }))
    .unwrap();
    let identity = Identity::Machine(Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff));
    let paths = Paths::below(Path::new("/s/m"));
    let disks = spec
        .layers
        .iter()
        .zip(0..)
        .map(|(layer, slot)| disk(layer, controller, slot, identity, &paths))
        .collect();
    Resolved::new(
        spec,
        identity,
        disks,
        Vec::new(),
        paths,
        stratavm_disk::Volume::default(),
    )
}

fn disk(
    layer: &LayerSpec,
    controller: Controller,
    slot: u32,
    identity: Identity,
    paths: &Paths,
) -> ResolvedDisk {
    let name = DiskName::Layer(layer.name.clone());
    let digest = format!("sha256c:{}", "5".repeat(64)).parse().unwrap();
    let member = |role, uuid, path: &Path| {
        Member::new(
            name.clone(),
            role,
            uuid,
            None,
            vec![MemberFile::existing(path, SECTORS)],
        )
    };
    let folder = paths.disk(&name);
    let members = vec![
        member(
            MemberRole::Image(digest),
            identity.derive(&format!("image/{name}")),
            Path::new("/s/images/golden.raw"),
        ),
        member(
            MemberRole::Frozen(1),
            identity.head(&name, 1).uuid,
            &folder.join("1.hds"),
        ),
        member(
            MemberRole::Head,
            identity.head(&name, 2).uuid,
            &folder.join("2.hds"),
        ),
    ];
    let chain = Chain::new(Family::Hds, SECTORS, members);
    ResolvedDisk::new(name, Some(layer.role), controller, slot, chain)
}

/// An element as it was read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) children: Vec<Read>,
}

impl Read {
    /// The children called `name`.
    pub(crate) fn all(&self, name: &str) -> Vec<&Self> {
        self.children
            .iter()
            .filter(|child| child.name == name)
            .collect()
    }

    /// The element at `path`, names separated by `/`, the only one of its name each time.
    pub(crate) fn at(&self, path: &str) -> &Self {
        path.split('/').fold(self, |element, name| {
            let found = element.all(name);
            assert_eq!(found.len(), 1, "{name} of {path} in {}", element.name);
            found[0]
        })
    }

    /// The text at `path`.
    pub(crate) fn get(&self, path: &str) -> &str {
        &self.at(path).text
    }

    /// The value of an attribute.
    pub(crate) fn attribute(&self, name: &str) -> &str {
        let found: Vec<_> = self
            .attributes
            .iter()
            .filter(|(key, _)| key == name)
            .collect();
        assert_eq!(found.len(), 1, "attribute {name} of {}", self.name);
        &found[0].1
    }
}

/// Reads a document with a parser that is not the writer's; text of elements with children is
/// dropped.
///
/// # Panics
/// For anything that is not well formed.
pub(crate) fn parse_xml(text: &str) -> Read {
    let document = roxmltree::Document::parse(text).unwrap();
    element(document.root_element())
}

fn element(node: roxmltree::Node<'_, '_>) -> Read {
    let children: Vec<_> = node
        .children()
        .filter(|child| child.is_element())
        .map(element)
        .collect();
    let text = node.children().filter_map(|child| child.text()).collect();
    Read {
        name: node.tag_name().name().to_owned(),
        attributes: node
            .attributes()
            .map(|attribute| (attribute.name().to_owned(), attribute.value().to_owned()))
            .collect(),
        text: if children.is_empty() {
            text
        } else {
            String::new()
        },
        children,
    }
}
