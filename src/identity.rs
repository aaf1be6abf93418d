//! Who a machine is, and every identifier that follows from it.
//!
//! One UUID is drawn when a machine is created; disk UUIDs, content ids and MAC addresses are
//! derived from it (UUID version 5, RFC 9562 section 5.5), so that the same machine has the same
//! identifiers on every product and `translate` needs no randomness.

use stratavm_disk::vmdk::Cid;
use uuid::Uuid;

use crate::chain::DiskName;
use crate::image::ImageDigest;
use crate::spec::{MacAddress, Network, VmSpec};

/// Namespace of the identifiers of a spec without a machine.
const PREVIEW_NAMESPACE: Uuid = Uuid::from_u128(0x6f0d_93a4_9c1e_5b0e_8a51_57f2_4e2b_1d90);

/// A machine's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Identity {
    /// Drawn when the machine was created.
    Machine(Uuid),
    /// Derived from a spec: the plan says that its identifiers are previews.
    Preview(Uuid),
}

impl Identity {
    /// The identity that `translate` uses for a spec without a machine: the same spec has the same
    /// identity.
    #[must_use]
    pub fn preview(spec: &VmSpec) -> Self {
        // A spec of plain data always serialises; were it not so, the name still tells specs apart.
        let text = serde_json::to_string(spec).unwrap_or_else(|_| spec.name.to_string());
        Self::Preview(Uuid::new_v5(&PREVIEW_NAMESPACE, text.as_bytes()))
    }

    /// The machine's UUID: its SMBIOS UUID on every product.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        match self {
            Self::Machine(uuid) | Self::Preview(uuid) => uuid,
        }
    }

    /// Any further identifier, by a name that is unique within the machine.
    #[must_use]
    pub fn derive(self, name: &str) -> Uuid {
        Uuid::new_v5(&self.uuid(), name.as_bytes())
    }

    /// Name and UUID of the machine's own descriptor over the image of `disk`.
    #[must_use]
    pub fn base(self, disk: &DiskName, image: &ImageDigest) -> LinkId {
        self.link(format!("base/{disk}/{image}"))
    }

    /// Name and UUID of the head of `disk` with this `generation`; kept when it is frozen.
    #[must_use]
    pub fn head(self, disk: &DiskName, generation: u64) -> LinkId {
        self.link(format!("head/{disk}/{generation}"))
    }

    /// The content id that the head of `disk` with this `generation` gets when it is frozen.
    #[must_use]
    pub fn frozen_cid(self, disk: &DiskName, generation: u64) -> Cid {
        self.cid(&format!("head/{disk}/{generation}/frozen"))
    }

    /// The address of network adapter `index` (from 0): what the spec says, or a derived one in
    /// 00:50:56:00:00:00 to 00:50:56:3f:ff:ff, the only static range that VMware takes.
    #[must_use]
    pub fn mac(self, index: usize, network: &Network) -> [u8; 6] {
        match network.mac {
            MacAddress::Fixed(octets) => octets,
            MacAddress::Auto => {
                let id = self.derive(&format!("mac/{index}"));
                let [a, b, c, ..] = *id.as_bytes();
                [0x00, 0x50, 0x56, a & 0x3f, b, c]
            }
        }
    }

    fn link(self, name: String) -> LinkId {
        LinkId {
            uuid: self.derive(&name),
            cid: self.cid(&name),
        }
    }

    /// The first 32 bits of the UUID of `cid/<name>`; values with a meaning of their own in a VMDK
    /// descriptor are skipped by hashing again.
    fn cid(self, name: &str) -> Cid {
        let mut text = format!("cid/{name}");
        loop {
            let [a, b, c, d, ..] = *self.derive(&text).as_bytes();
            if let Ok(cid) = Cid::new(u32::from_be_bytes([a, b, c, d])) {
                return cid;
            }
            text.push('+');
        }
    }
}

/// The identifiers by which a disk image and its children know each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkId {
    /// VirtualBox's link (`ddb.uuid.image`) and Parallels' image GUID.
    pub uuid: Uuid,
    /// VMware's and QEMU's link (`CID`).
    pub cid: Cid,
}

/// A MAC address as `00:50:56:01:02:03`.
#[must_use]
pub fn mac_text(mac: [u8; 6]) -> String {
    MacAddress::Fixed(mac).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::spec::{Name, NetworkMode};

    fn identity() -> Identity {
        Identity::Machine(Uuid::from_u128(7))
    }

    #[test]
    fn derived_ids_are_stable_and_differ() {
        let os = DiskName::Layer(Name::new("os").unwrap());
        let a = identity().head(&os, 1);
        assert_eq!(a, identity().head(&os, 1));
        assert_ne!(a, identity().head(&os, 2));
        assert_ne!(a.cid, identity().frozen_cid(&os, 1));
    }

    #[test]
    fn macs_stay_in_the_static_range() {
        let network = Network {
            mode: NetworkMode::Nat,
            mac: MacAddress::Auto,
        };
        for index in 0..64 {
            let [a, b, c, d, ..] = identity().mac(index, &network);
            assert_eq!([a, b, c], [0x00, 0x50, 0x56]);
            assert!(d <= 0x3f);
        }
    }
}
