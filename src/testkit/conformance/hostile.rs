//! Hostile titles, paths and media: refused, or carried as text. A value that became syntax would
//! add a line, a file, a disk or an argument to the plan of a harmless machine.

use super::Entry;
use super::bench::{Bench, Miss, Outcome, absolute, always, ensure, told};
use crate::plan::Content;
use crate::spec::{Cdrom, Console};
use crate::testkit::Sample;
use crate::{ErrorKind, Plan};

pub(super) const TRIALS: &[Entry] = &[
    Entry::new("hostile-titles-stay-text", always, titles),
    Entry::new("hostile-folders-stay-text", always, folders),
    Entry::new("hostile-media-stay-text", always, media),
];

/// Texts that are syntax somewhere: in XML, JSON, `.vmx`, QEMU's options, a shell, a terminal.
const HOSTILE: &[&str] = &[
    "\"",
    "'",
    "<a>&amp;</a>",
    "]]><b/><![CDATA[",
    "-->",
    "a\nb = \"c\"",
    "a\r\nsata0:9.present = \"TRUE\"",
    "\n\n\n",
    "x\",\"y\":\"z",
    ",file=/etc/passwd,if=none",
    ",,",
    "|0A|22",
    "\\",
    "\\n",
    "$(reboot)",
    "`reboot`",
    "%s%n",
    "-drive",
    "--help",
    "# no comment",
    ";",
    "a=b",
    " leading and trailing ",
    "\t",
    "\u{1b}[31m",
    "\u{202e}gnp.exe",
    "h\u{e9}\u{6f22}\u{1f5a5}",
    "\u{2028}",
    "\u{85}",
];

fn titles(bench: &Bench) -> Outcome {
    for text in HOSTILE {
        compare(bench, text, |sample, title| {
            sample.spec.title = Some(title.to_owned());
            "m".to_owned()
        })?;
    }
    Ok(())
}

fn folders(bench: &Bench) -> Outcome {
    for text in HOSTILE {
        compare(bench, text, |_, folder| part(folder))?;
    }
    Ok(())
}

fn media(bench: &Bench) -> Outcome {
    for text in HOSTILE {
        compare(bench, text, |sample, medium| {
            let image = format!("{}.iso", part(medium));
            sample.spec.hardware.cdrom = vec![Cdrom { image }];
            "m".to_owned()
        })?;
    }
    Ok(())
}

/// The text as one part of a path.
fn part(text: &str) -> String {
    format!("m{}", text.replace(['/', '\\'], "_"))
}

/// `set` puts a text into the machine and returns its folder's name.
fn compare(bench: &Bench, text: &str, set: fn(&mut Sample, &str) -> String) -> Outcome {
    let plan = |text: &str| -> Result<crate::Result<Plan>, Miss> {
        let mut sample = bench.sample()?;
        sample.spec.hardware.console = Console::Log;
        let folder = set(&mut sample, text);
        Ok(bench.backend.translate(&sample.resolve(&absolute(&folder))))
    };
    let harmless = plan("harmless")??;
    match plan(text)? {
        Ok(hostile) => {
            let (one, other) = (shape(&harmless), shape(&hostile));
            ensure!(
                one == other,
                "{text:?} changed the plan's shape {one:?} to {other:?}"
            );
            Ok(())
        }
        Err(error) => {
            let refused = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported);
            ensure!(refused, "{text:?}: {}", told(&error));
            Ok(())
        }
    }
}

/// How much of everything there is in a plan: lines of each file, disks, arguments, gaps.
fn shape(plan: &Plan) -> (Vec<usize>, usize, usize, usize) {
    let lines = |content: &Content| match content {
        Content::Text(text) => text.split(['\n', '\r']).count(),
        Content::Binary(bytes) => usize::from(!bytes.is_empty()),
        Content::CopyOf(_) => 0,
    };
    let files = plan.files.iter().map(|file| lines(&file.content)).collect();
    (files, plan.disks.len(), plan.argv.len(), plan.gaps.len())
}
