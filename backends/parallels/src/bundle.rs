//! The `.hdd` bundle of one disk: a descriptor over images that lie elsewhere.
//!
//! The images are core's; nothing but the descriptor, its copy and the empty file that Parallels
//! keeps beside them is made here.

use std::path::Path;

use stratavm::chain::{Chain, MemberRole};
use stratavm::plan::{PlanDisk, PlanFile};
use stratavm::resolved::{relative_path, slash_path};
use stratavm::{Error, ErrorKind, Resolved, Result};
use stratavm_disk::hdd::{DiskDescriptor, Image, ImageKind, LEAF_GUID, Shot, Storage};
use uuid::Uuid;

/// Cluster size in sectors of expanding images: 1 MiB, as core makes them.
const BLOCK_SECTORS: u32 = 2048;

/// The files of the bundle of `disk`, below the folder `pvm`.
///
/// # Errors
/// [`ErrorKind::Malformed`] for a chain that is none, or whose members are split differently;
/// [`ErrorKind::Invalid`] for a path that the descriptor cannot hold.
pub(crate) fn files(machine: &Resolved, disk: &PlanDisk, pvm: &Path) -> Result<Vec<PlanFile>> {
    let name = name(disk);
    let folder = pvm.join(&name);
    let descriptor = DiskDescriptor {
        sectors: disk.chain.sectors,
        // Of the disk, not of its head: Parallels refuses two disks with one id.
        uid: machine.identity.derive(&format!("hdd/{}", disk.name)),
        name: disk.name.to_string(),
        storages: storages(&disk.chain, &folder)?,
        shots: shots(&disk.chain)?,
        top_guid: None,
    };
    let path = folder.join("DiskDescriptor.xml");
    let xml = descriptor
        .to_xml()
        .map_err(|error| Error::from(error).at(&path))?;
    Ok(vec![
        PlanFile::binary(folder.join(&name), Vec::new()),
        PlanFile::text(folder.join("DiskDescriptor.xml.Backup"), xml.clone()),
        PlanFile::text(path, xml),
    ])
}

/// The name of the bundle of `disk`.
pub(crate) fn name(disk: &PlanDisk) -> String {
    format!("{}.hdd", disk.name)
}

/// How many pieces the disk is split into.
pub(crate) fn pieces(chain: &Chain) -> usize {
    chain.members.first().map_or(0, |member| member.files.len())
}

/// The id of each member, base first: the writable one has the one that Parallels looks for.
fn guids(chain: &Chain) -> Result<Vec<Uuid>> {
    if chain.head().is_none() {
        return Err(Error::new(
            ErrorKind::Malformed,
            "the chain of a disk has no head",
        ));
    }
    let last = chain.members.len() - 1;
    let guid = |(index, uuid): (usize, Uuid)| if index == last { LEAF_GUID } else { uuid };
    Ok(chain
        .members
        .iter()
        .map(|member| member.uuid)
        .enumerate()
        .map(guid)
        .collect())
}

fn shots(chain: &Chain) -> Result<Vec<Shot>> {
    let guids = guids(chain)?;
    let parents = std::iter::once(None).chain(guids.iter().copied().map(Some));
    let mut shots: Vec<_> = guids
        .iter()
        .zip(parents)
        .map(|(&guid, parent)| Shot { guid, parent })
        .collect();
    shots.reverse(); // libphdi takes the first for the current one
    Ok(shots)
}

fn storages(chain: &Chain, folder: &Path) -> Result<Vec<Storage>> {
    let guids = guids(chain)?;
    let sizes = |index: usize| -> Vec<u64> {
        chain.members[index]
            .files
            .iter()
            .map(|file| file.sectors)
            .collect()
    };
    if (1..chain.members.len()).any(|index| sizes(index) != sizes(0)) {
        let what = "the members of a chain are not split at the same sectors";
        return Err(Error::new(ErrorKind::Malformed, what));
    }
    let mut start = 0;
    let mut storages = Vec::new();
    for (piece, sectors) in sizes(0).into_iter().enumerate() {
        let mut images = Vec::new();
        for (member, &guid) in chain.members.iter().zip(&guids).rev() {
            let path = &member.files[piece].path;
            let (kind, file) = match member.role {
                MemberRole::Image(_) => (ImageKind::Plain, absolute(folder, path)?),
                MemberRole::Frozen(_) | MemberRole::Head => {
                    (ImageKind::Compressed, relative(folder, path)?)
                }
                _ => {
                    let what = "a chain of the hds family has no such member";
                    return Err(Error::new(ErrorKind::Malformed, what).at(path));
                }
            };
            images.push(Image { guid, kind, file });
        }
        let end = start + sectors;
        storages.push(Storage {
            start,
            end,
            blocksize: BLOCK_SECTORS,
            images,
        });
        start = end;
    }
    Ok(storages)
}

/// Linked clones name files outside the bundle by absolute paths, so that is what is known to work.
/// A relative path of a preview stays relative: there is nothing to complete it with.
fn absolute(folder: &Path, path: &Path) -> Result<String> {
    if path.has_root() {
        text(path).map(|_| slash_path(path))
    } else {
        relative(folder, path)
    }
}

fn relative(folder: &Path, path: &Path) -> Result<String> {
    text(folder)?;
    text(path).map(|_| relative_path(folder, path))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .ok_or_else(|| Error::invalid("a bundle cannot name a path that is no UTF-8").at(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use stratavm::chain::MemberFile;
    use stratavm::plan::Content;
    use stratavm::spec::Controller;

    use super::*;
    use crate::capability::capabilities;
    use crate::disks::attach;
    use crate::testing::{machine, parse_xml};

    fn first(machine: &Resolved) -> PlanDisk {
        attach(machine, &capabilities()).unwrap().disks.remove(0)
    }

    fn made(machine: &Resolved, disk: &PlanDisk) -> Result<Vec<PlanFile>> {
        files(machine, disk, Path::new("/s/m/config/finance.pvm"))
    }

    fn descriptor(file: &PlanFile) -> (String, DiskDescriptor) {
        let Content::Text(text) = &file.content else {
            panic!("no text")
        };
        (
            text.clone(),
            DiskDescriptor::parse(text.as_bytes(), &file.path).unwrap(),
        )
    }

    #[test]
    fn the_leaf_comes_first_and_the_image_last() {
        let machine = machine(Controller::Sata);
        let files = made(&machine, &first(&machine)).unwrap();
        let paths: Vec<_> = files.iter().map(|file| slash_path(&file.path)).collect();
        let folder = "/s/m/config/finance.pvm/os.hdd";
        assert_eq!(
            paths,
            [
                format!("{folder}/os.hdd"),
                format!("{folder}/DiskDescriptor.xml.Backup"),
                format!("{folder}/DiskDescriptor.xml")
            ]
        );
        assert_eq!(files[0].content, Content::Binary(Vec::new()));
        assert_eq!(files[1].content, files[2].content);

        let (text, read) = descriptor(&files[2]);
        let images = &read.storages[0].images;
        let seen: Vec<_> = images
            .iter()
            .map(|image| (image.kind, image.file.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                (ImageKind::Compressed, "../../../layers/os/2.hds"),
                (ImageKind::Compressed, "../../../layers/os/1.hds"),
                (ImageKind::Plain, "/s/images/golden.raw"),
            ]
        );
        assert_eq!(images[0].guid, LEAF_GUID);
        assert_eq!(read.chain().unwrap().len(), 3);
        assert!(!text.contains("TopGUID"));
        let shots = parse_xml(&text);
        let first = shots.all("Snapshots")[0].all("Shot")[0].all("GUID")[0]
            .text
            .clone();
        assert_eq!(first, format!("{{{LEAF_GUID}}}"));
    }

    #[test]
    fn ids_of_disks_differ() {
        let machine = machine(Controller::Sata);
        let attached = attach(&machine, &capabilities()).unwrap();
        let uids: std::collections::BTreeSet<_> = attached
            .disks
            .iter()
            .map(|disk| descriptor(&made(&machine, disk).unwrap()[2]).1.uid)
            .collect();
        assert_eq!(uids.len(), 5);
    }

    #[test]
    fn each_extent_is_a_storage() {
        let machine = machine(Controller::Sata);
        let mut disk = first(&machine);
        for member in &mut disk.chain.members {
            let path = member.files[0].path.with_extension("second");
            member.files[0].sectors = 2048;
            member
                .files
                .push(MemberFile::existing(path, disk.chain.sectors - 2048));
        }
        let (_, read) = descriptor(&made(&machine, &disk).unwrap()[2]);
        let ranges: Vec<_> = read.storages.iter().map(|s| (s.start, s.end)).collect();
        assert_eq!(ranges, [(0, 2048), (2048, disk.chain.sectors)]);
        assert_eq!(read.storages[1].images[2].file, "/s/images/golden.second");
        assert_eq!(pieces(&disk.chain), 2);

        disk.chain.members[1].files.pop();
        assert_eq!(
            made(&machine, &disk).unwrap_err().kind(),
            ErrorKind::Malformed
        );
    }

    #[test]
    fn a_session_disk_is_one_image() {
        let machine = machine(Controller::Sata);
        let mut disk = first(&machine);
        disk.chain.members.drain(..2);
        let (_, read) = descriptor(&made(&machine, &disk).unwrap()[2]);
        assert_eq!(read.chain().unwrap(), [LEAF_GUID]);
        assert_eq!(read.storages[0].images[0].kind, ImageKind::Compressed);
    }

    #[test]
    fn hostile_paths_and_broken_chains_are_refused() {
        let machine = machine(Controller::Sata);
        let disk = first(&machine);
        for bad in ["/s/a\nb", "/s/a\0b"] {
            let mut disk = disk.clone();
            disk.chain.members[0].files[0].path = bad.into();
            assert_eq!(
                made(&machine, &disk).unwrap_err().kind(),
                ErrorKind::Invalid,
                "{bad:?}"
            );
        }
        let mut odd = disk.clone();
        odd.chain.members[0].files[0].path = "/s/<é> &\"多".into();
        let (_, read) = descriptor(&made(&machine, &odd).unwrap()[2]);
        assert_eq!(read.storages[0].images[2].file, "/s/<é> &\"多");

        let mut headless = disk.clone();
        headless.chain.members.pop();
        assert_eq!(
            made(&machine, &headless).unwrap_err().kind(),
            ErrorKind::Malformed
        );

        let mut vmdk = disk;
        vmdk.chain.members[1].role = MemberRole::Base;
        assert_eq!(
            made(&machine, &vmdk).unwrap_err().kind(),
            ErrorKind::Malformed
        );
    }
}
