//! `disk convert` and `disk flatten`: new images of old ones.

use serde_json::json;
use stratavm::{Error, Result};
use stratavm_disk::{Access, ConvertOptions, Converted, Target, convert_chain};
use uuid::Uuid;

use super::image;
use crate::cli::disk::{DiskConvert, DiskFlatten, NewFormat};
use crate::context::Context;
use crate::output::{Answer, bytes, line};

pub(super) fn convert(context: &Context, args: &DiskConvert) -> Result<Answer> {
    let DiskFlatten { image, target, .. } = &args.what;
    let to = format(&args.what)?;
    let source = image::open(image, Access::Read)?;
    let options = ConvertOptions::new(Uuid::now_v7());
    let made = match (args.chain, source.depth()) {
        (true, _) => convert_chain(&source, target, to, &options, &context.ctx)?,
        (false, 1) => stratavm_disk::flatten(&source, target, to, &options, &context.ctx)?,
        (false, depth) => {
            return Err(Error::invalid(format!(
                "the image lies on {} other{}",
                depth - 1,
                if depth == 2 { "" } else { "s" }
            ))
            .at(&image.image)
            .next(
                "say --chain to keep them apart, or `stratavm disk flatten` to make one of them",
            ));
        }
    };
    Ok(answer(&args.what, to, &made))
}

pub(super) fn flatten(context: &Context, args: &DiskFlatten) -> Result<Answer> {
    let to = format(args)?;
    let source = image::open(&args.image, Access::Read)?;
    let options = ConvertOptions::new(Uuid::now_v7());
    let made = stratavm_disk::flatten(&source, &args.target, to, &options, &context.ctx)?;
    Ok(answer(args, to, &made))
}

/// The format to make: as said, or by the target's name.
fn format(args: &DiskFlatten) -> Result<Target> {
    let said = args.to.map(|to| match to {
        NewFormat::Raw => Target::Raw,
        NewFormat::Vmdk => Target::Vmdk,
        NewFormat::VmdkFlat => Target::VmdkFlat,
        NewFormat::VmdkSplit => Target::VmdkSplit,
        NewFormat::VmdkStream => Target::VmdkStream,
        NewFormat::Vdi => Target::Vdi,
        NewFormat::Hdd => Target::Hdd,
        NewFormat::Qcow2 => Target::Qcow2,
    });
    said.or_else(|| Target::of_name(&args.target))
        .ok_or_else(|| {
            Error::invalid("the target's name does not say its format")
                .at(&args.target)
                .next("say --to, as in --to vmdk")
        })
}

fn answer(args: &DiskFlatten, to: Target, made: &Converted) -> Answer {
    let files: Vec<_> = made.files.iter().map(|f| f.display().to_string()).collect();
    let images = match made.images {
        1 => "one image".to_owned(),
        n => format!("{n} images"),
    };
    let mut text = format!("{images} of {to}, {} of data", bytes(made.written));
    for file in &files {
        text.push_str(&format!("\n  {}", line(file)));
    }
    let json = json!({
        "source": args.image.image.display().to_string(),
        "path": args.target.display().to_string(),
        "format": to.to_string(),
        "images": made.images,
        "written": made.written,
        "files": files,
    });
    Answer::new(text, json)
}
