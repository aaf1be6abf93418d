//! What a check looks at in a sparse extent beside its entries: the second copies of the grain directory and of the
//! grain tables, which VMware and VirtualBox keep like the first ones, and VirtualBox refuses where they are not.

use super::SECTOR;
use super::header::{GT_SECTORS, GTES_PER_GT, SparseHeader};
use crate::Result;
use crate::check::{Ahead, Edit, Fault, Mend, Walk};
use crate::engine::Layout;

/// Bytes of a grain table.
const TABLE: u64 = GT_SECTORS * SECTOR;

/// Compares the second copy with the first, by which all readers go.
pub(super) fn second_copy<L: Layout>(
    layout: &L,
    header: &SparseHeader,
    walk: &mut Walk<'_, '_>,
) -> Result<()> {
    let Some(main) = header.directory else {
        return Ok(());
    };
    let bytes = header.table_count() * 4;
    let main = main * SECTOR;
    walk.claim(main..main + bytes, main)?;
    let second = header.redundant_directory.filter(|_| !header.is_stream());
    let Some(second) = second.map(|sector| sector * SECTOR) else {
        return Ok(());
    };
    let file = walk.file;
    if second + bytes > file.len() {
        let detail = || "the second grain directory is cut off".to_owned();
        return walk.find(Fault::Table, second, detail, Mend::Never);
    }
    walk.claim(second..second + bytes, second)?;
    let mut directory = Ahead::new(file);
    let (mut first_tables, mut second_tables) = (Ahead::new(file), Ahead::new(file));
    for page in 0..header.table_count() {
        let Ok(first) = layout.page(file, page) else {
            // It was told already.
            continue;
        };
        let by = second + page * 4;
        let word = directory.word(by)?;
        let table = u64::from(word) * SECTOR;
        let whole = table + TABLE <= file.len();
        if word != 0 && whole {
            walk.claim(table..table + TABLE, by)?;
        }
        match first.map(|first| first.offset) {
            None if word == 0 => {}
            Some(first) if word != 0 && whole => {
                let pair = (&mut first_tables, first, &mut second_tables, table);
                compare(layout, walk, page, pair)?;
            }
            None => {
                // What only a table names that nobody goes by is not lost as long as it can be looked for.
                let mut knows = false;
                for n in 0..if whole { GTES_PER_GT } else { 0 } {
                    let entry = layout.decode(second_tables.word(table + n * 4)?);
                    knows |= walk.is_free(layout, entry);
                }
                let edit = Edit::Word {
                    at: by,
                    old: word,
                    new: 0,
                };
                let mend = match knows {
                    true => Mend::DropLost(edit),
                    false => Mend::Safe(edit),
                };
                let detail = || format!("grain table {page} is in the second directory only");
                walk.find(Fault::SecondCopy, by, detail, mend)?;
            }
            Some(_) => {
                let detail = || format!("grain table {page} has no second copy in the file");
                walk.find(Fault::SecondCopy, by, detail, Mend::Never)?;
            }
        }
    }
    Ok(())
}

/// Compares a grain table with its second copy.
fn compare<L: Layout>(
    layout: &L,
    walk: &mut Walk<'_, '_>,
    page: u64,
    (first, from, second, to): (&mut Ahead<'_>, u64, &mut Ahead<'_>, u64),
) -> Result<()> {
    if first.is_hole(from, TABLE)? && second.is_hole(to, TABLE)? {
        return Ok(());
    }
    let (mut differ, mut knows) = (0, false);
    for n in 0..GTES_PER_GT {
        let (a, b) = (first.word(from + n * 4)?, second.word(to + n * 4)?);
        if a != b {
            differ += 1;
            // Data that only the second copy knows of: after a crash it was never flushed, but a first copy that was
            // damaged looks the same.
            knows |= walk.is_free(layout, layout.decode(b));
        }
    }
    if differ == 0 {
        return Ok(());
    }
    let copy = Edit::Copy {
        from,
        to,
        len: TABLE,
    };
    let (mend, why) = match knows {
        true => (
            Mend::DropLost(copy),
            ", and names data that the first does not",
        ),
        false => (Mend::Safe(copy), ""),
    };
    let detail =
        || format!("{differ} entries of grain table {page} differ in its second copy{why}");
    walk.find(Fault::SecondCopy, to, detail, mend)
}
