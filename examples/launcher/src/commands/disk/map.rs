//! `disk map`: where each range of a disk lies, printed while it is found out.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::{Value, json};
use stratavm::{Ctx, Result};
use stratavm_disk::{Access, Chain, Kind, MappedRange};

use super::image;
use crate::cli::disk::DiskImage;
use crate::context::Context;
use crate::output::{Answer, List, line};

/// Ranges that are kept until it is known that the whole chain can be read; of more, the chain is gone through twice.
const KEPT: usize = 1 << 16;

pub(super) fn map(context: &Context, args: &DiskImage) -> Result<Answer> {
    let chain = image::open(args, Access::Read)?;
    // An answer in JSON is one value: nothing of it is printed before all of it is known to come.
    let mut kept = Vec::new();
    let mut count = 0;
    let ctx = context.cancellable();
    ranges(ctx, &chain, &mut |range| {
        count += 1;
        if kept.len() < KEPT {
            kept.push(range.clone());
        }
        ControlFlow::Continue(())
    })?;
    let mut list = List::new(context.form, &heading());
    let mut print = |range: &Range| list.item(|| range.text(), || range.json(chain.depth()));
    if count <= kept.len() {
        let _ = kept.iter().try_for_each(&mut print);
    } else {
        drop(kept);
        ranges(ctx, &chain, &mut print)?;
    }
    Ok(list.end())
}

/// Neighbours that lie side by side in the same file, as one.
#[derive(Clone, Debug)]
struct Range {
    start: u64,
    length: u64,
    kind: Kind,
    depth: Option<usize>,
    at: Option<(PathBuf, u64)>,
}

impl Range {
    fn goes_on_with(&self, next: &MappedRange<'_>) -> bool {
        let beside = match (&self.at, next.at) {
            (None, None) => true,
            (Some((file, at)), Some((next, next_at))) => {
                file == next && at.checked_add(self.length) == Some(next_at)
            }
            _ => false,
        };
        beside && (self.kind, self.depth) == (next.kind, next.depth)
    }

    /// As `qemu-img map --output=json` has it, with the file beside the byte in it.
    fn json(&self, images: usize) -> Value {
        let mut value = json!({
            "start": self.start,
            "length": self.length,
            "depth": self.depth.unwrap_or(images - 1),
            "present": self.depth.is_some(),
            "zero": matches!(self.kind, Kind::Zero | Kind::Absent),
            "data": matches!(self.kind, Kind::Data | Kind::Packed),
            "compressed": self.kind == Kind::Packed,
        });
        if let (Some((file, at)), Some(object)) = (&self.at, value.as_object_mut()) {
            object.insert("offset".to_owned(), (*at).into());
            object.insert("file".to_owned(), file.display().to_string().into());
        }
        value
    }

    fn text(&self) -> String {
        let kind = match self.kind {
            Kind::Data => "data",
            Kind::Packed => "packed",
            Kind::Zero => "zero",
            _ => "absent",
        };
        let depth = self.depth.map_or("-".to_owned(), |depth| depth.to_string());
        let at = self
            .at
            .as_ref()
            .map(|(file, at)| (line(file.display()), at));
        let at = at.map_or(String::new(), |(file, at)| format!("{at:#014x}  {file}"));
        columns(self.start, self.length, &depth, kind, &at)
    }
}

fn heading() -> String {
    format!(
        "{:14}  {:14}  {:5}  {:6}  {:14}  FILE",
        "START", "LENGTH", "DEPTH", "KIND", "OFFSET"
    )
}

fn columns(start: u64, length: u64, depth: &str, kind: &str, at: &str) -> String {
    let line = format!("{start:#014x}  {length:#014x}  {depth:5}  {kind:6}  {at}");
    line.trim_end().to_owned()
}

/// Goes through the whole disk, neighbours merged.
fn ranges(ctx: &Ctx, chain: &Chain, see: &mut dyn FnMut(&Range) -> ControlFlow<()>) -> Result<()> {
    let mut open: Option<Range> = None;
    let mut stopped = Ok(());
    chain.map(0, chain.size(), &mut |next| {
        stopped = ctx.check();
        if stopped.is_err() {
            return ControlFlow::Break(());
        }
        if let Some(range) = open.as_mut().filter(|range| range.goes_on_with(next)) {
            range.length += next.len;
            return ControlFlow::Continue(());
        }
        let next = Range {
            start: next.offset,
            length: next.len,
            kind: next.kind,
            depth: next.depth,
            at: next.at.map(|(file, at)| (file.to_owned(), at)),
        };
        match open.replace(next) {
            Some(whole) => see(&whole),
            None => ControlFlow::Continue(()),
        }
    })?;
    stopped?;
    if let Some(last) = open {
        let _ = see(&last);
    }
    Ok(())
}
