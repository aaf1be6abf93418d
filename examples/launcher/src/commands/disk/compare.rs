//! `disk compare`: whether two disks hold the same.

use serde_json::json;
use stratavm::Result;
use stratavm_disk::{Access, Comparison, Sizes};

use super::image;
use crate::cli::disk::DiskCompare;
use crate::context::Context;
use crate::output::{Answer, line};

pub(super) fn compare(context: &Context, args: &DiskCompare) -> Result<Answer> {
    let open = |path, format, on| image::open_as(path, format, on, &args.names, Access::Read);
    let a = open(&args.a, args.format_a, &args.on_a)?;
    let b = open(&args.b, args.format_b, &args.on_b)?;
    let sizes = match args.strict {
        true => Sizes::MustAgree,
        false => Sizes::MayDiffer,
    };
    let compared = stratavm_disk::compare(&a, &b, sizes, context.cancellable())?;
    let (equal, offset) = match compared {
        Comparison::Equal => (true, None),
        Comparison::Differs(offset) => (false, Some(offset)),
        _ => (false, None),
    };
    let mut text = match (equal, offset) {
        (true, _) => "the disks hold the same".to_owned(),
        (false, Some(offset)) => format!("the disks differ, first at byte {offset}"),
        (false, None) => "the disks differ in size".to_owned(),
    };
    if a.size() != b.size() {
        text.push_str(&format!(
            "\n{}: {} bytes, {}: {} bytes",
            line(args.a.display()),
            a.size(),
            line(args.b.display()),
            b.size()
        ));
    }
    let json = json!({
        "equal": equal,
        "first-difference": offset,
        "sizes": [a.size(), b.size()],
    });
    Ok(Answer::new(text, json).done_if(equal))
}
