//! A plan as text: complete, so that two plans with the same text do the same.
//!
//! Text files are printed in full; binary files and new images as size and SHA-256.

use std::fmt;

use sha2::{Digest as _, Sha256};
use stratavm_disk::ImageSpec;

use super::{Content, FileKind, Plan, PlanFile};
use crate::chain::{Member, MemberRole, Source};
use crate::resolved::slash_path;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "product {}", self.product)?;
        writeln!(f, "needs {}", self.needs)?;
        if let Some(entry) = &self.entry {
            writeln!(f, "entry {}", slash_path(entry))?;
        }
        for note in &self.notes {
            writeln!(f, "note {note}")?;
        }
        section(f, "arguments", self.argv.is_empty())?;
        for argument in &self.argv {
            writeln!(f, "  {}", visible(argument))?;
        }
        section(f, "disks", self.disks.is_empty())?;
        for disk in &self.disks {
            writeln!(
                f,
                "  {} on {} {} ({}), {} sectors, {}",
                disk.name,
                disk.controller,
                disk.slot,
                disk.place,
                disk.chain.sectors,
                disk.chain.family
            )?;
            for member in &disk.chain.members {
                write_member(f, member)?;
            }
        }
        section(f, "gaps", self.gaps.is_empty())?;
        for gap in &self.gaps {
            writeln!(f, "  {gap}")?;
        }
        section(f, "files", self.files.is_empty())?;
        self.files.iter().try_for_each(|file| write_file(f, file))
    }
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, empty: bool) -> fmt::Result {
    writeln!(f, "\n{title}{}", if empty { ": none" } else { ":" })
}

fn write_member(f: &mut fmt::Formatter<'_>, member: &Member) -> fmt::Result {
    let role = match &member.role {
        MemberRole::Image(digest) => format!("image {digest}"),
        MemberRole::Base => "base".to_owned(),
        MemberRole::Frozen(revision) => format!("frozen {revision}"),
        MemberRole::Head => "head".to_owned(),
    };
    write!(f, "    {role}, of {}, uuid {}", member.owner, member.uuid)?;
    match member.cid {
        Some(cid) => writeln!(f, ", cid {cid}")?,
        None => writeln!(f)?,
    }
    for file in member.all_files() {
        let path = slash_path(&file.path);
        match &file.source {
            Source::Existing => writeln!(f, "      existing {path}, {} sectors", file.sectors)?,
            Source::New(spec) => {
                writeln!(
                    f,
                    "      new {path}, {} sectors, {}",
                    file.sectors,
                    summary(spec)
                )?;
            }
        }
    }
    Ok(())
}

/// One line for a new image: what it is, and size and SHA-256 of its metadata.
fn summary(spec: &ImageSpec) -> String {
    let rendering = match stratavm_disk::image_bytes(spec) {
        Ok(rendering) => rendering,
        Err(error) => return format!("{}, invalid: {error}", spec.summary()),
    };
    let mut hasher = Sha256::new();
    for (offset, bytes) in &rendering.pieces {
        hasher.update(offset.to_le_bytes());
        hasher.update(bytes);
    }
    format!(
        "{}, {} bytes, sha256 {}",
        spec.summary(),
        rendering.len,
        hex(&hasher.finalize())
    )
}

fn write_file(f: &mut fmt::Formatter<'_>, file: &PlanFile) -> fmt::Result {
    let path = slash_path(&file.path);
    let kept = match file.kind {
        FileKind::Ours => "",
        FileKind::Kept => " (kept)",
    };
    match &file.content {
        Content::Text(text) => {
            writeln!(f, "\n--- {path}{kept}")?;
            f.write_str(text)?;
            if text.ends_with('\n') {
                Ok(())
            } else {
                writeln!(f, "\n(no newline at the end)")
            }
        }
        Content::Binary(bytes) => writeln!(
            f,
            "\n--- {path}{kept}: {} bytes, sha256 {}",
            bytes.len(),
            hex(&Sha256::digest(bytes))
        ),
        Content::CopyOf(from) => writeln!(f, "\n--- {path}{kept}: copy of {}", slash_path(from)),
    }
}

/// An argument on one line: control characters cannot make it look like two.
fn visible(argument: &str) -> String {
    argument
        .chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
