//! Several files in one input: each as its number, the length of its content (two bytes, little-endian), and that.

/// Names that the files can have; an input names them by their index.
pub const NAMES: [&str; 10] = [
    "a.vmdk", "b.vmdk", "c.vmdk", "d.vmdk", "e.qcow2", "f.qcow2", "g.vdi", "h.vdi", "i.hds",
    "j.raw",
];

/// The files of an input; the last one may be cut.
pub fn of(mut data: &[u8]) -> impl Iterator<Item = (&'static str, &[u8])> {
    std::iter::from_fn(move || {
        let ([number, low, high], rest) = data.split_first_chunk::<3>()?;
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (content, rest) = rest.split_at(len);
        data = rest;
        Some((NAMES[usize::from(*number) % NAMES.len()], content))
    })
    .take(NAMES.len())
}
