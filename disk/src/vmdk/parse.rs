//! The strict reader of VMDK descriptors. Hostile input is expected: sizes are bounded, a key twice is refused, and
//! nothing that a descriptor names is opened.

use super::descriptor::{ACCESS, KINDS};
use super::{Access, Cid, CreateType, Descriptor, Extent, ExtentKind, MAX_DESCRIPTOR, MAX_SECTORS};
use crate::{Error, Result};
use std::collections::HashSet;

/// First lines in use; VirtualBox accepts the same four.
const FIRST_LINES: [&str; 4] = [
    "# Disk DescriptorFile",
    "# Disk Descriptor File",
    "#Disk DescriptorFile",
    "#Disk Descriptor File",
];

pub(crate) fn is_header_key(key: &str) -> bool {
    let mut c = key.bytes();
    c.next().is_some_and(|b| b.is_ascii_alphabetic())
        && c.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && !is_ddb_key(key)
}

pub(crate) fn is_ddb_key(key: &str) -> bool {
    key.get(..4).is_some_and(|p| p.eq_ignore_ascii_case("ddb."))
        && key.len() > 4
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Keys that have a field of their own.
pub(crate) fn is_known_key(key: &str) -> bool {
    [
        "version",
        "CID",
        "parentCID",
        "createType",
        "parentFileNameHint",
    ]
    .iter()
    .any(|k| k.eq_ignore_ascii_case(key))
}

/// The sections come in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Header,
    Extents,
    Ddb,
}

#[derive(Default)]
struct Parts {
    version: bool,
    cid: Option<Cid>,
    parent_cid: Option<Option<Cid>>,
    create_type: Option<CreateType>,
    parent_hint: Option<String>,
    other: Vec<(String, String)>,
    extents: Vec<Extent>,
    ddb: Vec<(String, String)>,
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Descriptor> {
    if bytes.len() > MAX_DESCRIPTOR {
        return Err(Error::limit(format!(
            "descriptor of {} bytes is above 1 MiB",
            bytes.len()
        )));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            let e = Error::unsupported("descriptor is not UTF-8").at_offset(e.valid_up_to() as u64);
            return Err(e);
        }
    };
    let mut parts = Parts::default();
    let mut seen = HashSet::new();
    let mut section = Section::Header;
    let mut total = 0_u64;
    let mut at = 0_u64;
    for (number, raw) in text.split('\n').enumerate() {
        let start = at;
        at += raw.len() as u64 + 1;
        let line = raw.strip_suffix('\r').unwrap_or(raw);
        let fail = |what: String| Error::malformed(what).at_offset(start);
        if number == 0 {
            if !FIRST_LINES.contains(&line.trim_end()) {
                return Err(fail("first line is not \"# Disk DescriptorFile\"".into()));
            }
            continue;
        }
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(fail("control character in a line".into()));
        }
        let line = line.trim_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (here, key) = match line.split_once('=') {
            _ if starts_extent(line) => (Section::Extents, None),
            Some((key, value)) => {
                let key = key.trim_end_matches([' ', '\t']);
                let section = if is_ddb_key(key) {
                    Section::Ddb
                } else {
                    Section::Header
                };
                (section, Some((key, value)))
            }
            None => {
                return Err(fail(format!(
                    "line {} is neither key nor extent",
                    number + 1
                )));
            }
        };
        if here < section {
            return Err(fail(format!("line {} is out of order", number + 1)));
        }
        section = here;
        let Some((key, value)) = key else {
            let extent = extent(line).map_err(|e| e.at_offset(start))?;
            total += extent.sectors; // both at most 2^54 here
            if total > MAX_SECTORS {
                return Err(fail("extents add up to more than 8 EiB".into()));
            }
            parts.extents.push(extent);
            continue;
        };
        if !seen.insert(key.to_ascii_lowercase()) {
            return Err(fail(format!("key {key:?} stands twice")));
        }
        let taken = match here {
            Section::Ddb => quoted(value).map(|v| parts.ddb.push((key.to_owned(), v.to_owned()))),
            _ => header(&mut parts, &line[..key.len()], &line[key.len() + 1..], line),
        };
        taken.map_err(|e| e.at_offset(start))?;
    }
    let utf8 = |v: &str| v.eq_ignore_ascii_case("utf-8");
    let encoding = parts
        .other
        .iter()
        .find(|(k, _)| k.eq_ignore_ascii_case("encoding"));
    if let Some((_, v)) = encoding.filter(|(_, v)| !utf8(v) && !text.is_ascii()) {
        return Err(Error::unsupported(format!("descriptor in encoding {v:?}")));
    }
    finish(parts)
}

fn finish(p: Parts) -> Result<Descriptor> {
    let missing = |key: &str| Error::malformed(format!("no {key} in the descriptor"));
    if !p.version {
        return Err(missing("version"));
    }
    let parent_cid = p.parent_cid.ok_or_else(|| missing("parentCID"))?;
    if parent_cid.is_none() && p.parent_hint.is_some() {
        return Err(Error::malformed(
            "parentFileNameHint with parentCID=ffffffff",
        ));
    }
    if p.extents.is_empty() {
        return Err(missing("extent"));
    }
    Ok(Descriptor {
        cid: p.cid.ok_or_else(|| missing("CID"))?,
        parent_cid,
        create_type: p.create_type.ok_or_else(|| missing("createType"))?,
        parent_hint: p.parent_hint,
        other: p.other,
        extents: p.extents,
        ddb: p.ddb,
    })
}

/// One `key=value` line of the header, without blanks around `=`: QEMU does not take `CID = x` for one.
fn header(p: &mut Parts, key: &str, value: &str, line: &str) -> Result<()> {
    if !line[key.len()..].starts_with('=') || !is_header_key(key) {
        return Err(Error::malformed(format!(
            "{key:?} is no key, or has blanks before '='"
        )));
    }
    match key {
        "version" if value == "1" => p.version = true,
        "version" => {
            return Err(Error::unsupported(format!("descriptor version {value:?}")));
        }
        "CID" => p.cid = Some(hex_cid(value)?),
        "parentCID" => {
            let cid = hex_cid(value)?;
            p.parent_cid = Some((cid.get() != u32::MAX).then_some(cid));
        }
        "createType" => p.create_type = Some(CreateType::from_name(quoted(value)?)),
        "parentFileNameHint" => {
            let hint = quoted(value)?;
            if hint.is_empty() {
                return Err(Error::malformed("parentFileNameHint is empty"));
            }
            p.parent_hint = Some(hint.to_owned());
        }
        // Its extents hold no plain text; govmomi's `vmdk.Descriptor` knows the key.
        "encryptionKeys" => return Err(Error::unsupported("disk is encrypted")),
        _ if is_known_key(key) => {
            return Err(Error::malformed(format!(
                "key {key:?} is spelled in another case"
            )));
        }
        _ => p.other.push((key.to_owned(), quoted(value)?.to_owned())),
    }
    Ok(())
}

fn starts_extent(line: &str) -> bool {
    ACCESS.iter().any(|(_, s)| {
        line.strip_prefix(s)
            .is_some_and(|r| r.starts_with([' ', '\t']))
    })
}

/// `ACCESS SECTORS TYPE ["FILE" [OFFSET]]`
fn extent(line: &str) -> Result<Extent> {
    let bad = |what: &str| Error::malformed(format!("extent line: {what}"));
    let (access, rest) = word(line);
    let (sectors, rest) = word(rest);
    let (kind, rest) = word(rest);
    let access = ACCESS
        .iter()
        .find(|(_, s)| *s == access)
        .map_or(Access::None, |(a, _)| *a);
    let sectors = decimal(sectors).filter(|n| (1..=MAX_SECTORS).contains(n));
    let sectors = sectors.ok_or_else(|| bad("size is no number of sectors from 1 to 2^54"))?;
    let Some((kind, _)) = KINDS.iter().find(|(_, s)| *s == kind) else {
        return Err(Error::unsupported(format!("extent type {kind:?}")));
    };
    let (file, offset) = match rest.strip_prefix('"').map(|r| r.split_once('"')) {
        Some(Some((file, rest))) if !file.is_empty() => (Some(file.to_owned()), rest),
        None if rest.is_empty() && *kind == ExtentKind::Zero => (None, ""),
        _ => return Err(bad("no file name in quotes")),
    };
    let offset = match offset.trim_matches([' ', '\t']) {
        "" if *kind == ExtentKind::Flat => return Err(bad("FLAT without an offset")),
        "" => None,
        n if offset.starts_with([' ', '\t']) => Some(
            decimal(n)
                .filter(|n| *n <= MAX_SECTORS)
                .ok_or_else(|| bad("bad offset"))?,
        ),
        _ => return Err(bad("text behind the file name")),
    };
    Ok(Extent {
        access,
        sectors,
        kind: *kind,
        file,
        offset,
    })
}

fn word(s: &str) -> (&str, &str) {
    let (word, rest) = s.split_once([' ', '\t']).unwrap_or((s, ""));
    (word, rest.trim_start_matches([' ', '\t']))
}

/// Digits only: no sign, no blank, at most 20 of them.
fn decimal(s: &str) -> Option<u64> {
    if s.is_empty() || s.len() > 20 || !s.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    s.parse().ok()
}

fn hex_cid(s: &str) -> Result<Cid> {
    if s.is_empty() || s.len() > 8 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::malformed(format!(
            "{s:?} is no CID of 1 to 8 hexadecimal digits"
        )));
    }
    u32::from_str_radix(s, 16)
        .map(Cid::from_file)
        .map_err(|e| Error::malformed("no CID").caused_by(e))
}

/// The text between quotes, or a bare word.
fn quoted(value: &str) -> Result<&str> {
    let value = value.trim_matches([' ', '\t']);
    let inner = match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(value),
    };
    inner
        .filter(|v| !v.contains('"'))
        .ok_or_else(|| Error::malformed(format!("quotes of {value:?} do not match")))
}

#[cfg(test)]
mod tests;
