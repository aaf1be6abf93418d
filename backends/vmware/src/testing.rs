//! What the tests of this crate share: a machine of five layers made by hand, and a reader of
//! `.vmx` files that shares nothing with the writer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use stratavm::Resolved;
use stratavm::chain::{Chain, DiskName, Family, Member, MemberFile, MemberRole};
use stratavm::identity::Identity;
use stratavm::resolved::{Paths, ResolvedDisk};
use stratavm::spec::{Controller, LayerSpec, VmSpec};
use uuid::Uuid;

const SECTORS: u64 = 8 * 2048;

/// A machine whose five disks are all on `controller`, in slots 0 to 4.
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

/// A head over a base descriptor over an image, all there already.
fn disk(
    layer: &LayerSpec,
    controller: Controller,
    slot: u32,
    identity: Identity,
    paths: &Paths,
) -> ResolvedDisk {
    let name = DiskName::Layer(layer.name.clone());
    let digest = format!("sha256c:{}", "5".repeat(64)).parse().unwrap();
    let (base, head) = (identity.base(&name, &digest), identity.head(&name, 1));
    let file = |name: String| vec![MemberFile::existing(name, SECTORS)];
    let folder = paths.disk(&name);
    let within = |file: &str| folder.join(file).to_str().unwrap().to_owned();
    let members = vec![
        Member::new(
            name.clone(),
            MemberRole::Image(digest),
            base.uuid,
            None,
            file("/s/images/golden.raw".to_owned()),
        ),
        Member::new(
            name.clone(),
            MemberRole::Base,
            base.uuid,
            Some(base.cid),
            file(within("base.vmdk")),
        ),
        Member::new(
            name.clone(),
            MemberRole::Head,
            head.uuid,
            Some(head.cid),
            file(within(&format!("{name}-1.vmdk"))),
        ),
    ];
    let chain = Chain::new(Family::Vmdk, SECTORS, members);
    ResolvedDisk::new(name, Some(layer.role), controller, slot, chain)
}

/// The values of a `.vmx` file by key in lower case, after the grammar of VMware's dictionary
/// library: one `name = "value"` a line, `|XX` for a byte.
///
/// # Panics
/// For a line that is anything else, or a key that stands twice: the products differ on those.
pub(crate) fn parse_vmx(text: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    assert!(text.ends_with('\n'), "the last line is not ended");
    for line in text.trim_end_matches('\n').split('\n') {
        let (name, rest) = line
            .split_once('=')
            .unwrap_or_else(|| panic!("no key: {line:?}"));
        let name = name.trim_matches([' ', '\t']);
        assert!(
            !name.is_empty() && !name.contains([' ', '\t', '#', '"']),
            "odd key: {line:?}"
        );
        let quoted = rest.trim_matches([' ', '\t']);
        let inner = quoted
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        let inner = inner.unwrap_or_else(|| panic!("not quoted: {line:?}"));
        assert!(!inner.contains('"'), "a quote within: {line:?}");
        let old = values.insert(name.to_ascii_lowercase(), unescape(inner));
        assert_eq!(old, None, "twice: {line:?}");
    }
    values
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'|' {
            let (digits, tail) = tail.split_at(2);
            let digits = std::str::from_utf8(digits).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap()
}
