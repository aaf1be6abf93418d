//! `disk`: images by hand, without a store. One module for each command; what they share is in `image`.

mod check;
mod child;
mod compare;
mod convert;
mod create;
mod image;
mod info;
mod map;

use stratavm::Result;

use crate::cli::disk::Disk;
use crate::context::Context;
use crate::output::Answer;

pub(crate) fn disk(context: &Context, command: &Disk) -> Result<Answer> {
    match command {
        Disk::Info(args) => info::info(args),
        Disk::Map(args) => map::map(context, args),
        Disk::Check(args) => check::check(context, args),
        Disk::Compare(args) => compare::compare(context, args),
        Disk::Convert(args) => convert::convert(context, args),
        Disk::Flatten(args) => convert::flatten(context, args),
        Disk::Create(args) => create::create(args),
    }
}
