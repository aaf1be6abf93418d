//! The committed specs, and the images that they and the drawn ones name.
//!
//! Images are made as sparse files from a table, small or huge: they hold a few bytes of their
//! own so that no two are alike. Under `linux` they are disks with a named partition, as the store
//! makes them. What is tested with them is in the tests that include this module.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use stratavm::image::{AddOptions, ImageDigest, ImageRoot, Wrap, add};
use stratavm::linux::FileSystem;
use stratavm::spec::{Composition, Name, Role, VmSpec};
use stratavm::{Ctx, Result};
use stratavm_disk::Volume;

const MIB: u64 = 1 << 20;

/// Sizes in MiB of the images that are not of [`USUAL`] size.
const SIZES: [(&str, u64); 5] = [
    ("golden.raw", 2048),
    ("disk.raw", 256),
    ("large.raw", 16 * 1024),
    ("seed.raw", 33),
    ("office.raw", 700),
];

/// The size in MiB of all others.
const USUAL: u64 = 24;

/// The golden that `extents.toml` names by its digest: a partition of 96 MiB in extents of at
/// most 40.
const SPLIT: (&str, u64, u64) = ("split golden", 96, 40);

/// The folder of the committed specs.
pub(crate) fn spec_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("fixtures/specs"))
        .find(|folder| folder.is_dir())
        .expect("the repository has fixtures/specs")
}

/// The committed specs by name, sorted. Those with file names that only Unix has are left out
/// elsewhere.
pub(crate) fn specs() -> Vec<(String, VmSpec)> {
    let entries = fs::read_dir(spec_folder()).expect("the folder can be read");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    paths.sort();
    let named = |path: PathBuf| {
        let name = path.file_stem()?.to_str()?.to_owned();
        let spec = VmSpec::from_path(&path).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        (cfg!(unix) || name != "hostile-files").then_some((name, spec))
    };
    paths.into_iter().filter_map(named).collect()
}

/// Makes every image and medium that `spec` names by file, below `folder`, and those that the
/// committed specs name by digest in `store`.
///
/// # Errors
/// What making them reports.
pub(crate) fn make_images(spec: &VmSpec, folder: &Path, store: &ImageRoot) -> Result<()> {
    let linux = spec.guest.composition == Composition::Linux;
    for layer in &spec.layers {
        match &layer.image {
            Some(image) if image.starts_with(ImageDigest::PREFIX) => split_golden(store)?,
            Some(image) if linux => partitioned(&folder.join(image), image, layer.role)?,
            Some(image) => plain(&folder.join(image), image),
            None => {}
        }
    }
    for drive in &spec.hardware.cdrom {
        medium(&folder.join(&drive.image));
    }
    Ok(())
}

fn size_of(image: &str) -> u64 {
    SIZES
        .iter()
        .find(|(name, _)| *name == image)
        .map_or(USUAL, |(_, mib)| *mib)
}

/// A sparse file of `mib` MiB with a few pieces.
fn sparse(path: &Path, mib: u64, pieces: &[(u64, &[u8])]) {
    fs::create_dir_all(path.parent().expect("files have folders")).expect("folders can be made");
    let mut file = File::create(path).expect("files can be made");
    file.set_len(mib * MIB).expect("files can be sparse");
    for (offset, bytes) in pieces {
        file.seek(SeekFrom::Start(*offset))
            .expect("files can be sought");
        file.write_all(bytes).expect("files can be written");
    }
}

/// A whole disk without partitions: its name, and the mark of a boot sector.
fn plain(path: &Path, image: &str) {
    sparse(
        path,
        size_of(image),
        &[(0, image.as_bytes()), (510, &[0x55, 0xaa])],
    );
}

/// The beginning of an ISO 9660 volume (ECMA-119, section 8.4).
fn medium(path: &Path) {
    sparse(path, 1, &[(16 * 2048, b"\x01CD001\x01")]);
}

/// A disk with one `strata.<role>.<id>` partition, in the place of a file.
fn partitioned(path: &Path, image: &str, role: Role) -> Result<()> {
    let scratch = tempfile::tempdir().expect("there is room for temporary files");
    let root = ImageRoot::create(scratch.path().join("images"))?;
    let added = wrapped(&root, image, size_of(image), role, None)?;
    fs::create_dir_all(path.parent().expect("files have folders")).expect("folders can be made");
    let (extent, sectors) = added.into_iter().next().expect("an image has an extent");
    // Holes stay holes where the two are on one file system; the rest is little.
    let mut file = File::create(path).expect("files can be made");
    file.set_len(sectors * 512).expect("files can be sparse");
    copy_data(&extent, &mut file);
    Ok(())
}

/// Copies the first and last 4 MiB: all else of these images is zeros.
fn copy_data(from: &Path, to: &mut File) {
    let mut source = File::open(from).expect("extents can be read");
    let length = source.metadata().expect("extents have a size").len();
    for start in [0, length.saturating_sub(4 * MIB)] {
        source
            .seek(SeekFrom::Start(start))
            .expect("extents can be sought");
        to.seek(SeekFrom::Start(start))
            .expect("files can be sought");
        let mut piece = Read::take(&source, 4 * MIB);
        std::io::copy(&mut piece, to).expect("extents can be copied");
    }
}

/// Adds the golden of three extents.
fn split_golden(root: &ImageRoot) -> Result<()> {
    let (name, mib, most) = SPLIT;
    let extents = wrapped(root, name, mib, Role::Os, Some(most * MIB))?;
    assert_eq!(extents.len(), 3, "{extents:?}");
    Ok(())
}

/// Adds a bare file system of `mib` MiB as a layer's disk: its extents.
fn wrapped(
    root: &ImageRoot,
    image: &str,
    mib: u64,
    role: Role,
    max_extent: Option<u64>,
) -> Result<Vec<(PathBuf, u64)>> {
    let scratch = tempfile::tempdir().expect("there is room for temporary files");
    let bare = scratch.path().join("bare.squashfs");
    // Enough of a squashfs superblock (Linux, fs/squashfs/squashfs_fs.h) to be taken for one:
    // magic, version 4.0, bytes used.
    let mut head = [0; 96];
    head[..4].copy_from_slice(b"hsqs");
    head[28] = 4;
    head[40..48].copy_from_slice(&(mib * MIB).to_le_bytes());
    sparse(&bare, mib, &[(0, &head), (96, image.as_bytes())]);
    let mut options = AddOptions::default();
    let name: Name = "fixture".parse().expect("this is a name");
    options.wrap = Some(Wrap {
        fs: FileSystem::Squashfs,
        role,
        name,
    });
    options.max_extent = max_extent;
    let added = add::add(root, &bare, &options, &Volume::default(), &Ctx::default())?;
    Ok(added.image.extents())
}
