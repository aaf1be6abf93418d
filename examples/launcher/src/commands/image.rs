//! `image`: golden images and seeds.

use serde_json::{Value, json};
use stratavm::Result;
use stratavm::image::{AddOptions, Change, Image, OddSize, Outcome as Adding, Wrap, add};
use stratavm::linux::FileSystem as Fs;

use crate::cli::{FileSystem, Image as Command, ImageAdd, ImageRoots, ImageVerify};
use crate::context::Context;
use crate::output::{Answer, bytes, table};

pub(crate) fn image(context: &Context, command: &Command) -> Result<Answer> {
    match command {
        Command::Add(args) => add_image(context, args),
        Command::List => list(context),
        Command::Verify(args) => verify(context, args),
        Command::Roots(args) => roots(context, args),
    }
}

fn add_image(context: &Context, args: &ImageAdd) -> Result<Answer> {
    let store = context.store()?;
    let mut options = AddOptions::default();
    // clap has seen to it that the three come together.
    if let (Some(fs), Some(role), Some(name)) = (args.fs, args.role, &args.name) {
        options.wrap = Some(Wrap {
            fs: kind(fs),
            role,
            name: name.clone(),
        });
    }
    if args.exact {
        options.size = OddSize::Refuse;
    }
    options.max_extent = args.max_extent.map(stratavm::spec::Size::bytes);
    let added = add::add(
        store.images(),
        &args.file,
        &options,
        store.volume(),
        context.cancellable(),
    )?;
    let digest = added.image.meta.digest;
    let known = added.outcome == Adding::Existing;
    let text = if known {
        format!("{digest}\n  was there already")
    } else {
        digest.to_string()
    };
    let mut json = as_json(&added.image)?;
    json["existing"] = json!(known);
    Ok(Answer::new(text, json))
}

fn kind(fs: FileSystem) -> Fs {
    match fs {
        FileSystem::Squashfs => Fs::Squashfs,
        FileSystem::Erofs => Fs::Erofs,
        FileSystem::Ext4 => Fs::Ext4,
    }
}

/// An image as `image list` and whatever makes one show it.
pub(super) fn as_json(image: &Image) -> Result<Value> {
    let meta = &image.meta;
    let partitions = meta.partitions.iter().map(|partition| {
        json!({
            "name": partition.name.to_string(),
            "role": partition.name.role.as_str(),
            "fs": partition.fs.as_str(),
            "digest": partition.digest.to_string(),
        })
    });
    let used_by: Vec<_> = image.leases()?.iter().map(ToString::to_string).collect();
    Ok(json!({
        "digest": meta.digest.to_string(),
        "bytes": meta.size,
        "extents": meta.extents.len(),
        "partitions": partitions.collect::<Vec<_>>(),
        "blank": meta.is_blank(),
        "time": meta.time.to_string(),
        "used-by": used_by,
        "folder": image.folder.display().to_string(),
    }))
}

fn list(context: &Context) -> Result<Answer> {
    let (mut rows, mut images, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for found in context.store()?.all_images()? {
        // A damaged image is listed with what is wrong; it does not hide the others.
        match found {
            Ok(image) => {
                let names = image.meta.partitions.iter().map(|p| p.name.to_string());
                rows.push(vec![
                    image.meta.digest.to_string(),
                    bytes(image.meta.size),
                    image.leases()?.len().to_string(),
                    names.collect::<Vec<_>>().join(" "),
                ]);
                images.push(as_json(&image)?);
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    let mut text = if rows.is_empty() {
        "no images yet: `stratavm image add FILE` adds one".to_owned()
    } else {
        table(&["DIGEST", "SIZE", "MACHINES", "PARTITIONS"], &rows)
    };
    for problem in &problems {
        text.push_str(&format!("\nproblem: {}", crate::output::line(problem)));
    }
    Ok(Answer::new(
        text,
        json!({"images": images, "problems": problems}),
    ))
}

fn roots(context: &Context, args: &ImageRoots) -> Result<Answer> {
    let mut store = context.store()?;
    if let Some(folder) = &args.add {
        store.add_image_root(folder)?;
    }
    if let Some(folder) = &args.remove {
        store.remove_image_root(folder)?;
    }
    let (mut rows, mut roots) = (Vec::new(), Vec::new());
    for folder in store.image_roots() {
        let there = folder.is_dir();
        let shown = folder.display().to_string();
        let state = if there {
            "there"
        } else {
            "not there: is its volume mounted?"
        };
        rows.push(vec![crate::output::line(&shown), state.to_owned()]);
        roots.push(json!({"folder": shown, "there": there}));
    }
    let text = if rows.is_empty() {
        "images are looked for in the store alone".to_owned()
    } else {
        table(&["FOLDER", "STATE"], &rows)
    };
    Ok(Answer::new(text, json!({"roots": roots})))
}

fn verify(context: &Context, args: &ImageVerify) -> Result<Answer> {
    let store = context.store()?;
    // A missing image is an error; a changed one is the answer.
    let verified = store
        .root_of(&args.digest)?
        .verify(&args.digest, context.cancellable())?;
    let changed = verified.changed.iter().map(|extent| {
        let change = match &extent.change {
            Change::Missing => "missing".to_owned(),
            Change::Length(bytes) => format!("length is {bytes}"),
            Change::Content => "content differs".to_owned(),
            other => format!("{other:?}"),
        };
        (extent.path.display().to_string(), change)
    });
    let changed: Vec<_> = changed.collect();
    let intact = verified.is_intact();
    let mut text = if intact {
        format!("{} is intact", args.digest)
    } else {
        format!("{} is NOT what its digest says", args.digest)
    };
    for (path, change) in &changed {
        text.push_str(&format!("\n  {}: {change}", crate::output::line(path)));
    }
    let changed: Vec<_> = changed
        .iter()
        .map(|(path, change)| json!({"path": path, "change": change}))
        .collect();
    let json = json!({"digest": args.digest.to_string(), "intact": intact, "changed": changed});
    Ok(Answer::new(text, json).done_if(intact))
}
