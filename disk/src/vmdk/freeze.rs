//! Freezing a head into a parent: a fresh content id, because QEMU renews the CID only at a first write, VirtualBox
//! never, and a stale one would let a changed parent pass for the old one.

use super::{AdapterType, Cid, CreateType, Descriptor, ExtentKind, Head, SECTOR, read_text};
use crate::file::ImageFile;
use crate::{Durability, Error, Result, write_atomic};
use std::path::Path;

/// Gives a sparse image that this crate made a new CID and longContentID. In a monolithicSparse file that is one write of
/// whole sectors inside its embedded descriptor; nothing moves, unless QEMU wrote the old CID without leading zeros: then
/// the text behind it moves up to the room that 8 digits need. The text descriptor of a split image is replaced as a
/// whole; its extents are not looked at, and the caller's to flush.
///
/// Header and descriptor are read strictly first. Refused is an image whose links are not in both styles (VMware's and
/// VirtualBox's), because a product made or rewrote it.
///
/// # Errors
/// `Invalid` for a reserved CID; `Mismatch` if the links are not ours; `Malformed` and `Unsupported` from reading; else
/// what the operating system reports. The file is unchanged unless the write itself failed.
pub fn renew_cid(file: &Path, new: Cid, durability: Durability) -> Result<()> {
    renew(file, new, durability).map_err(|e| e.at_path(file).during("renew CID"))
}

fn renew(path: &Path, new: Cid, durability: Durability) -> Result<()> {
    new.check_usable()?;
    let file = ImageFile::open_rw(path)?;
    let mut magic = [0; 4];
    if file.len() >= 4 {
        file.read_exact_at(&mut magic, 0)?;
    }
    if magic.starts_with(b"#") {
        let mut text = read_text(&file)?;
        drop(file); // Windows renames over no open file
        let before = Descriptor::parse(&text, path)?;
        check_ours(&before)?;
        put_cid(&mut text, &before, new, path)?;
        return write_atomic(path, &text, durability);
    }
    let mut head = Head::read(&file)?;
    check_ours(&head.descriptor)?;
    let old = head.text.len();
    let places = put_cid(&mut head.text, &head.descriptor, new, path)?;
    // Text that grew keeps a NUL behind it: something else may have stood there.
    if head.text.len() != old && head.text.len() as u64 >= head.header.descriptor_size * SECTOR {
        return Err(Error::limit(
            "the descriptor has no room for a CID of 8 digits",
        ));
    }

    let sector = SECTOR as usize;
    let first = places[0].min(places[1]) / sector * sector;
    let touched = match head.text.len() == old {
        true => places[0].max(places[1]) + 8,
        false => head.text.len() + 1,
    };
    let last = touched.next_multiple_of(sector);
    head.text.resize(last.max(head.text.len()), 0);
    file.write_all_at(
        &head.text[first..last],
        head.header.descriptor_offset * SECTOR + first as u64,
    )?;
    match durability {
        Durability::Synced => file.sync(),
        Durability::Unsynced => Ok(()),
    }
}

/// Writes both forms of the id into the text; answers where they stand. What comes out is read back: it must be the same
/// image, but for the ids.
fn put_cid(text: &mut Vec<u8>, before: &Descriptor, new: Cid, path: &Path) -> Result<[usize; 2]> {
    widen_cid(text);
    let places = [cid_place(text)?, long_tail_place(text)?];
    for at in places {
        text[at..at + 8].copy_from_slice(new.to_string().as_bytes());
    }
    let after = Descriptor::parse(text, path)?;
    if after.cid != new || after.parent_cid != before.parent_cid {
        return Err(Error::mismatch("the descriptor would not hold the new CID"));
    }
    Ok(places)
}

/// Both link styles, or neither.
fn check_ours(d: &Descriptor) -> Result<()> {
    let refuse = |what: &str| Err(Error::mismatch(format!("not a head of ours: {what}")));
    let one = d.create_type == CreateType::MonolithicSparse && d.extents.len() == 1;
    let split = d.create_type == CreateType::TwoGbMaxExtentSparse;
    if !(one || split) || d.extents.iter().any(|e| e.kind != ExtentKind::Sparse) {
        return refuse("not a sparse image");
    }
    if d.image_uuid().is_none() {
        return refuse("no ddb.uuid.image");
    }
    let links = [
        d.parent_cid.is_some(),
        d.parent_hint.is_some(),
        d.parent_uuid().is_some(),
    ];
    if links != [true; 3] && links != [false; 3] {
        return refuse("parentCID, parentFileNameHint and ddb.uuid.parent do not go together");
    }
    let known = [AdapterType::Ide, AdapterType::LsiLogic].map(AdapterType::as_str);
    if !d.ddb("ddb.adapterType").is_some_and(|a| known.contains(&a)) {
        return refuse("no known ddb.adapterType");
    }
    Ok(())
}

/// QEMU prints the CID that it draws without leading zeros (`block/vmdk.c`, `vmdk_write_cid`): puts them there.
fn widen_cid(text: &mut Vec<u8>) {
    let short =
        |(_, v): &(usize, &[u8])| (1..8).contains(&v.len()) && v.iter().all(u8::is_ascii_hexdigit);
    if let Some((at, digits)) = line_value(text, "CID=").filter(short) {
        let zeros = 8 - digits.len();
        text.splice(at..at, std::iter::repeat_n(b'0', zeros));
    }
}

/// Where the 8 digits behind `CID=` stand.
fn cid_place(text: &[u8]) -> Result<usize> {
    let value = line_value(text, "CID=").filter(|(_, v)| v.len() == 8);
    value
        .map(|(at, _)| at)
        .ok_or_else(|| Error::mismatch("CID is not written with 8 digits"))
}

/// Where the last 8 of the 32 digits of the long content id stand.
fn long_tail_place(text: &[u8]) -> Result<usize> {
    let value = line_value(text, "ddb.longContentID").and_then(|(at, v)| {
        let quote = v.iter().position(|b| *b == b'"')?;
        let digits = v.get(quote + 1..quote + 33)?;
        let closed = v.get(quote + 33) == Some(&b'"');
        (closed && digits.iter().all(u8::is_ascii_hexdigit)).then_some(at + quote + 1 + 24)
    });
    value.ok_or_else(|| Error::mismatch("no ddb.longContentID of 32 digits"))
}

/// Offset and bytes of what follows `key` in the line that starts with it, without the line end.
fn line_value<'a>(text: &'a [u8], key: &str) -> Option<(usize, &'a [u8])> {
    let mut at = 0;
    for line in text.split(|b| *b == b'\n') {
        if let Some(value) = line.strip_prefix(key.as_bytes()) {
            return Some((at + key.len(), value.strip_suffix(b"\r").unwrap_or(value)));
        }
        at += line.len() + 1;
    }
    None
}
