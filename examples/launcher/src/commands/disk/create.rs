//! `disk create`: a new, empty image that lies on nothing; those that lie on others are made in `child`.

use std::path::Path;

use serde_json::json;
use stratavm::{Error, Result};
use stratavm_disk::hdd::HdsSpec;
use stratavm_disk::{ConvertOptions, Durability, ImageSpec, Target, Volume, create_blank};
use uuid::Uuid;

use super::child;
use crate::cli::disk::{DiskCreate, DiskFormat};
use crate::output::{Answer, line};

const MIB: u64 = 1 << 20;

pub(super) fn create(args: &DiskCreate) -> Result<Answer> {
    let format = match args.format {
        Some(format) => format,
        None => by_name(&args.file)?,
    };
    let (size, what) = match &args.parent {
        Some(parent) => {
            let wanted = args.size.map(|size| size.bytes());
            let spec = child::spec(&args.file, format, parent, wanted)?;
            stratavm_disk::create(&args.file, &spec, &Volume::default(), Durability::Synced)?;
            (spec.disk_size(), spec.summary())
        }
        None => {
            let size = args.size.map_or(0, |size| size.bytes());
            if size == 0 || !size.is_multiple_of(MIB) {
                return Err(Error::invalid("the size is no multiple of 1 MiB")
                    .at(&args.file)
                    .next("say it as in --size '8 GiB'"));
            }
            (size, blank(&args.file, format, size)?)
        }
    };
    Ok(Answer::new(
        format!("created {}", line(args.file.display())),
        json!({"path": args.file.display().to_string(), "bytes": size, "what": what}),
    ))
}

/// Makes an image that lies on nothing; answers what was made, in one line.
fn blank(file: &Path, format: DiskFormat, size: u64) -> Result<String> {
    let Some(target) = target(format) else {
        let spec = ImageSpec::Hds(HdsSpec {
            sectors: size / 512,
            patches: Vec::new(),
        });
        stratavm_disk::create(file, &spec, &Volume::default(), Durability::Synced)?;
        return Ok(spec.summary());
    };
    let options = ConvertOptions::new(Uuid::now_v7());
    let made = create_blank(file, target, size, &options)?;
    Ok(format!("{target} size={size} files={}", made.files.len()))
}

/// What the format is called among those that whole disks are made in; a `.hds` alone is none.
fn target(format: DiskFormat) -> Option<Target> {
    Some(match format {
        DiskFormat::Raw => Target::Raw,
        DiskFormat::Vmdk => Target::Vmdk,
        DiskFormat::VmdkFlat => Target::VmdkFlat,
        DiskFormat::VmdkSplit => Target::VmdkSplit,
        DiskFormat::VmdkStream => Target::VmdkStream,
        DiskFormat::Vdi => Target::Vdi,
        DiskFormat::Hdd => Target::Hdd,
        DiskFormat::Qcow2 => Target::Qcow2,
        DiskFormat::Hds => return None,
    })
}

fn by_name(file: &Path) -> Result<DiskFormat> {
    let extension = file.extension().and_then(|extension| extension.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("raw" | "img") => Ok(DiskFormat::Raw),
        Some("vmdk") => Ok(DiskFormat::Vmdk),
        Some("vdi") => Ok(DiskFormat::Vdi),
        Some("hdd") => Ok(DiskFormat::Hdd),
        Some("hds") => Ok(DiskFormat::Hds),
        Some("qcow2") => Ok(DiskFormat::Qcow2),
        _ => Err(
            Error::invalid("the file's name says no format that can be made")
                .at(file)
                .next("say --format"),
        ),
    }
}
