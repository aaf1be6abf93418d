//! Opening the images of the `disk` commands: which format a file has, and what it may lead to.

use std::path::{Path, PathBuf};

use stratavm::{Error, Result};
use stratavm_disk::{Access, Below, Chain, Format, Gate, Named};

use crate::cli::disk::{DiskImage, ImageFormat, Names};
use crate::output::line;

/// Opens an image with all that it lies on.
pub(super) fn open(args: &DiskImage, access: Access) -> Result<Chain> {
    open_as(&args.image, args.format, &args.on, &args.names, access)
}

/// Opens an image with all that it lies on: `on` if it is given, else what the images name.
pub(super) fn open_as(
    image: &Path,
    named: Option<ImageFormat>,
    on: &[PathBuf],
    names: &Names,
    access: Access,
) -> Result<Chain> {
    let format = format(image, named)?;
    let gate = gate(image, names)?;
    if on.is_empty() {
        return Ok(Chain::open(image, format, access, &gate)?);
    }
    let below = below(on)?;
    let given = below.iter().map(|(path, format)| (path.as_path(), *format));
    let all: Vec<_> = given.chain([(image, format)]).collect();
    Ok(Chain::open_all(&all, access, &gate)?)
}

/// The images that the user says it lies on, the base first.
pub(super) fn below(on: &[PathBuf]) -> Result<Vec<(PathBuf, Format)>> {
    let formats = on
        .iter()
        .map(|path| Ok((path.clone(), format(path, None)?)));
    formats.collect()
}

/// The format that the user named, or that the file's name says. What stands in the file is never asked: a guest may
/// have written it.
pub(super) fn format(path: &Path, named: Option<ImageFormat>) -> Result<Format> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let by_name = match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("raw" | "img") => Some(ImageFormat::Raw),
        Some("vmdk") => Some(ImageFormat::Vmdk),
        Some("vdi") => Some(ImageFormat::Vdi),
        Some("qcow2") => Some(ImageFormat::Qcow2),
        Some("hds") => Some(ImageFormat::Hds),
        Some("hdd") => Some(ImageFormat::Hdd),
        _ if path.ends_with("DiskDescriptor.xml") => Some(ImageFormat::Hdd),
        _ => None,
    };
    let format = named.or(by_name).ok_or_else(|| {
        let looks = stratavm_disk::probe(path).ok();
        let next = match looks.filter(|format| *format != Format::Raw) {
            Some(format) => format!("say --format; it looks like {format}"),
            None => "say --format, as in --format raw".to_owned(),
        };
        Error::invalid("the file's name does not say its format")
            .at(path)
            .next(next)
    })?;
    Ok(match format {
        ImageFormat::Raw => Format::Raw,
        // Which of the two it is stands in the file.
        ImageFormat::Vmdk => Format::VmdkSparse,
        ImageFormat::Vdi => Format::Vdi,
        ImageFormat::Qcow2 => Format::Qcow2,
        ImageFormat::Hds => Format::Hds,
        ImageFormat::Hdd => Format::Hdd,
    })
}

/// Opens what images name below one folder.
pub(super) fn gate(image: &Path, names: &Names) -> Result<Within> {
    Ok(Within(match &names.below {
        Some(folder) => Below::new(folder).map_err(|error| {
            Error::from(error)
                .at(folder)
                .next("say a folder after --below")
        })?,
        None => Below::beside(image)?,
    }))
}

/// [`Below`], which says how to allow more.
pub(super) struct Within(Below);

impl Gate for Within {
    fn allow(&self, named: &Named<'_>) -> stratavm_disk::Result<PathBuf> {
        self.0.allow(named).map_err(|error| match error.kind() {
            stratavm_disk::ErrorKind::Invalid => stratavm_disk::Error::new(
                error.kind(),
                format!(
                    "{:?} is not to be opened: say --below with a folder above both if it is yours",
                    line(named.name)
                ),
            )
            .caused_by(error),
            _ => error,
        })
    }
}
