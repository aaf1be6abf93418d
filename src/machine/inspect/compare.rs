//! What a file of a chain says of itself, compared with what it was made as: format, size, ids,
//! parent and content. Paths are compared by their text; nothing that a file names is opened.

use std::path::{Component, Path, PathBuf};

use stratavm_disk::vmdk::ParentLink;
use stratavm_disk::{Format, ImageInfo, ImageSpec, VmdkInfo};

use super::What;

/// The format of a file, by its first bytes: told before the rest of it is read, so that a file of
/// another format is called that and not a damaged one.
pub(super) fn compare_format(spec: &ImageSpec, found: Format) -> Result<(), String> {
    let wanted = match spec {
        ImageSpec::VmdkSparse(_) | ImageSpec::VmdkExtent(_) => Format::VmdkSparse,
        ImageSpec::VmdkSplit(_) => Format::VmdkDescriptor,
        ImageSpec::Hds(_) => Format::Hds,
        _ => return Ok(()),
    };
    match found == wanted {
        true => Ok(()),
        false => Err(format!("it is {found}, not {wanted}")),
    }
}

/// Compares what a file says of itself with what it was made as.
pub(super) fn compare(
    path: &Path,
    spec: &ImageSpec,
    info: &ImageInfo,
) -> Result<(), (What, String)> {
    if info.size != spec.disk_size() {
        let message = format!("its disk has {} bytes, not {}", info.size, spec.disk_size());
        return Err((What::Size, message));
    }
    let links = |result: Result<(), String>| result.map_err(|message| (What::Links, message));
    match (spec, &info.vmdk) {
        (ImageSpec::VmdkSparse(spec), Some(vmdk)) => {
            let own = std::slice::from_ref(&spec.file);
            links(compare_links(
                path,
                vmdk,
                "monolithicSparse",
                spec.uuid,
                spec.parent.as_ref(),
                own,
            ))
        }
        (ImageSpec::VmdkSplit(spec), Some(vmdk)) => {
            let own: Vec<_> = spec
                .extents
                .iter()
                .map(|extent| extent.file.clone())
                .collect();
            let kind = "twoGbMaxExtentSparse";
            links(compare_links(
                path,
                vmdk,
                kind,
                spec.uuid,
                spec.parent.as_ref(),
                &own,
            ))
        }
        (ImageSpec::VmdkSparse(_) | ImageSpec::VmdkSplit(_), None) => {
            Err((What::Damaged, "it has no descriptor".to_owned()))
        }
        _ => Ok(()),
    }
}

fn compare_links(
    path: &Path,
    found: &VmdkInfo,
    kind: &str,
    uuid: uuid::Uuid,
    parent: Option<&ParentLink>,
    own: &[String],
) -> Result<(), String> {
    if found.create_type != kind {
        return Err(format!("it is of type {:?}, not {kind}", found.create_type));
    }
    if found.uuid != Some(uuid) {
        return Err(format!("its id is {}, not {uuid}", shown(found.uuid)));
    }
    let parent_uuid = parent.map(|parent| parent.uuid);
    if found.parent_uuid != parent_uuid {
        return Err(format!(
            "its parent's id is {}, not {}",
            shown(found.parent_uuid),
            shown(parent_uuid)
        ));
    }
    let parent_cid = parent.map(|parent| parent.cid.to_string());
    if found.parent_cid != parent_cid {
        return Err(format!(
            "its parent's content id is {}, not {}",
            shown(found.parent_cid.as_deref()),
            shown(parent_cid.as_deref())
        ));
    }
    let folder = path.parent().unwrap_or(path);
    let leads = |text: &str| textual(&folder.join(text));
    let hint = found.parent_hint.as_deref().map(leads);
    if hint != parent.map(|parent| leads(&parent.hint)) {
        return Err(format!(
            "it names {:?} as its parent",
            found.parent_hint.as_deref().unwrap_or_default()
        ));
    }
    let files: Vec<_> = found
        .extents
        .iter()
        .map(|extent| extent.file.as_deref())
        .collect();
    if files.len() != own.len()
        || !files
            .iter()
            .zip(own)
            .all(|(found, own)| *found == Some(own))
    {
        let first = files
            .iter()
            .flatten()
            .find(|file| !own.iter().any(|own| own == *file));
        return Err(format!(
            "it names {:?} as its content",
            first.copied().unwrap_or_default()
        ));
    }
    Ok(())
}

/// A path without `.` and `..`, by its text alone: nothing is opened.
fn textual(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

fn shown<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}
