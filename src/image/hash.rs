//! Computing an [`ImageDigest`] over a disk: chunks side by side over the cores, holes not at all.
//!
//! Memory is bounded by the number of threads, never by the size of the disk: a chunk is hashed in
//! small pieces, and only a few chunks a thread are under way.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope};

use sha2::{Digest as _, Sha256};
use stratavm_disk::{Ctx, Patch, Phase};

use super::digest::{CHUNK_SIZE, ImageDigest};
use super::extents::Extents;
use super::follow::Written;
use crate::error::{Error, ErrorKind, Result};

/// The SHA-256 of 4 MiB of zeros.
const ZERO_CHUNK: [u8; 32] = [
    0xbb, 0x9f, 0x8d, 0xf6, 0x14, 0x74, 0xd2, 0x5e, 0x71, 0xfa, 0x00, 0x72, 0x23, 0x18, 0xcd, 0x38,
    0x73, 0x96, 0xca, 0x17, 0x36, 0x60, 0x5e, 0x12, 0x48, 0x82, 0x1c, 0xc0, 0xde, 0x3d, 0x3a, 0xf8,
];

/// Most threads that hash side by side; beyond, reading is what takes the time.
const MAX_THREADS: usize = 16;

/// Bytes that a thread reads at a time.
const PIECE: usize = 256 << 10;

/// The digest of a part of a disk, in bytes, as if it were a disk by itself.
///
/// Progress is reported as [`Phase::Hash`], holes included.
///
/// # Errors
/// What reading reports; [`ErrorKind::Cancelled`] and [`ErrorKind::Timeout`] by `ctx`.
pub(crate) fn digest(disk: &Extents, range: Range<u64>, ctx: &Ctx) -> Result<ImageDigest> {
    let written = Written::default();
    written.writer().finish();
    digest_following(disk, range, &written, ctx)
}

/// The same for a disk that is being written: no chunk is looked at before it is final.
///
/// # Errors
/// As for [`digest`]; another one if the writer gives up.
pub(super) fn digest_following(
    disk: &Extents,
    range: Range<u64>,
    written: &Written,
    ctx: &Ctx,
) -> Result<ImageDigest> {
    let len = range.end.saturating_sub(range.start);
    let mut digest = DigestBuilder::new(len);
    thread::scope(|scope| {
        let mut pipeline = Pipeline::new(scope, disk, ctx, &mut digest, len);
        let (mut data, mut remembered) = (None::<Range<u64>>, false);
        let mut at = range.start;
        while at < range.end {
            let end = (at + CHUNK_SIZE).min(range.end);
            // Asked before the disk was final, what seemed a hole behind the chunk may be data now.
            if !remembered || data.as_ref().is_some_and(|data| data.end <= at) {
                remembered = written.wait(end)?;
                data = disk.next_data(at)?;
            }
            if data.as_ref().is_some_and(|data| data.start < end) {
                pipeline.data(at..end)?;
            } else {
                pipeline.zeros(end - at)?;
            }
            at = end;
        }
        pipeline.finish()
    })?;
    Ok(digest.finish())
}

/// The digest of a disk of `size` bytes that is zero but for `patches`, which are in order of their
/// offsets and within the disk. Reads nothing.
pub(crate) fn digest_of_patches(size: u64, patches: &[Patch]) -> ImageDigest {
    let mut digest = DigestBuilder::new(size);
    let mut patches = patches
        .iter()
        .filter(|patch| !patch.bytes.is_empty())
        .peekable();
    let mut carried: Option<&Patch> = None;
    let mut at = 0;
    while at < size {
        let end = (at + CHUNK_SIZE).min(size);
        let mut chunk: Option<Vec<u8>> = None;
        while let Some(patch) = carried
            .take()
            .or_else(|| patches.next_if(|patch| patch.offset < end))
        {
            let chunk = chunk.get_or_insert_with(|| vec![0; (end - at) as usize]);
            let patch_end = patch.offset + patch.bytes.len() as u64;
            let (from, to) = (patch.offset.max(at), patch_end.min(end));
            let bytes = &patch.bytes[(from - patch.offset) as usize..(to - patch.offset) as usize];
            chunk[(from - at) as usize..(to - at) as usize].copy_from_slice(bytes);
            if patch_end > end {
                carried = Some(patch);
                break;
            }
        }
        match chunk {
            Some(chunk) => digest.push(Sha256::digest(&chunk).into()),
            None => digest.push_zeros(end - at),
        }
        at = end;
    }
    digest.finish()
}

/// An [`ImageDigest`] under way, fed with the hashes of its chunks in order.
struct DigestBuilder(Sha256);

impl DigestBuilder {
    fn new(size: u64) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(ImageDigest::header(size));
        Self(hasher)
    }

    fn push(&mut self, chunk: [u8; 32]) {
        self.0.update(chunk);
    }

    /// A chunk of `len` zeros.
    fn push_zeros(&mut self, len: u64) {
        if len == CHUNK_SIZE {
            return self.push(ZERO_CHUNK);
        }
        let mut hasher = Sha256::new();
        let zeros = [0; 4096];
        let mut left = len;
        while left > 0 {
            let take = left.min(zeros.len() as u64);
            hasher.update(&zeros[..take as usize]);
            left -= take;
        }
        self.push(hasher.finalize().into());
    }

    fn finish(self) -> ImageDigest {
        ImageDigest::from_bytes(self.0.finalize().into())
    }
}

type Hash = Result<[u8; 32]>;

/// A chunk to be hashed, and where its hash goes.
type Job = (Range<u64>, Sender<Hash>);

/// What is under way, in disk order.
enum Slot {
    /// A chunk of `len` bytes that some thread hashes.
    Chunk { hash: Receiver<Hash>, len: u64 },
    /// A hole of this many bytes, one chunk long.
    Zeros(u64),
}

/// Threads take chunks from one queue; the hashes are asked for in the order of the chunks.
struct Pipeline<'scope, 'env, 'a> {
    scope: &'scope Scope<'scope, 'env>,
    disk: &'scope Extents,
    ctx: &'a Ctx,
    digest: &'a mut DigestBuilder,
    jobs: Sender<Job>,
    queue: Arc<Mutex<Receiver<Job>>>,
    running: usize,
    /// How many threads there may be. Asked for once: the answer is read from files.
    threads: usize,
    pending: VecDeque<Slot>,
    done: u64,
    total: u64,
}

impl<'scope, 'env, 'a> Pipeline<'scope, 'env, 'a> {
    fn new(
        scope: &'scope Scope<'scope, 'env>,
        disk: &'scope Extents,
        ctx: &'a Ctx,
        digest: &'a mut DigestBuilder,
        total: u64,
    ) -> Self {
        let (jobs, queue) = channel();
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self {
            scope,
            disk,
            ctx,
            digest,
            jobs,
            queue: Arc::new(Mutex::new(queue)),
            running: 0,
            threads: threads.min(MAX_THREADS),
            pending: VecDeque::new(),
            done: 0,
            total,
        }
    }

    fn data(&mut self, chunk: Range<u64>) -> Result<()> {
        if self.running < self.threads {
            let (disk, queue) = (self.disk, Arc::clone(&self.queue));
            thread::Builder::new()
                .name("stratavm-hash".into())
                .spawn_scoped(self.scope, move || hash_chunks(disk, &queue))
                .map_err(|error| {
                    let message = "a thread for hashing cannot be started";
                    Error::new(ErrorKind::Io, message).caused_by(error)
                })?;
            self.running += 1;
        }
        let len = chunk.end - chunk.start;
        let (sender, hash) = channel();
        self.jobs.send((chunk, sender)).map_err(|_| gone())?;
        self.push(Slot::Chunk { hash, len })
    }

    fn zeros(&mut self, len: u64) -> Result<()> {
        self.push(Slot::Zeros(len))
    }

    fn push(&mut self, slot: Slot) -> Result<()> {
        self.pending.push_back(slot);
        while self.pending.len() > 4 * self.running.max(1) {
            self.take_one()?;
        }
        Ok(())
    }

    fn take_one(&mut self) -> Result<()> {
        self.ctx.check()?;
        let len = match self.pending.pop_front() {
            Some(Slot::Chunk { hash, len }) => {
                self.digest.push(hash.recv().map_err(|_| gone())??);
                len
            }
            Some(Slot::Zeros(len)) => {
                self.digest.push_zeros(len);
                len
            }
            None => 0,
        };
        self.done += len;
        self.ctx.report(Phase::Hash, self.done, Some(self.total));
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        while !self.pending.is_empty() {
            self.take_one()?;
        }
        Ok(())
    }
}

/// Hashes chunk after chunk until nobody can ask any more.
fn hash_chunks(disk: &Extents, queue: &Mutex<Receiver<Job>>) {
    let mut piece = vec![0; PIECE];
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((chunk, hash)) = job else { return };
        // Whoever asked may have given up.
        let _ = hash.send(hash_chunk(disk, chunk, &mut piece));
    }
}

fn hash_chunk(disk: &Extents, chunk: Range<u64>, piece: &mut [u8]) -> Hash {
    let mut hasher = Sha256::new();
    let mut at = chunk.start;
    while at < chunk.end {
        let take = (chunk.end - at).min(piece.len() as u64);
        let bytes = &mut piece[..take as usize];
        disk.read_at(at, bytes)?;
        hasher.update(&*bytes);
        at += take;
    }
    Ok(hasher.finalize().into())
}

fn gone() -> Error {
    Error::new(ErrorKind::Io, "a hashing thread ended early")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;
    use stratavm_disk::CancelToken;

    fn plain(bytes: &[u8]) -> ImageDigest {
        let chunks = bytes
            .chunks(CHUNK_SIZE as usize)
            .map(|chunk| Sha256::digest(chunk).into());
        ImageDigest::from_chunks(bytes.len() as u64, chunks)
    }

    fn of(path: &Path) -> ImageDigest {
        let disk = Extents::open_file(path).unwrap();
        digest(&disk, 0..disk.len(), &Ctx::none()).unwrap()
    }

    /// Bytes that differ from chunk to chunk, with zeros from 5 to 13 MiB.
    fn content(len: usize) -> Vec<u8> {
        let zeros = 5 << 20..13 << 20;
        (0..len)
            .map(|n| {
                if zeros.contains(&n) {
                    0
                } else {
                    (n % 251) as u8 ^ (n >> 20) as u8
                }
            })
            .collect()
    }

    #[test]
    fn the_constant_is_the_hash_of_a_zero_chunk() {
        assert_eq!(
            ZERO_CHUNK,
            <[u8; 32]>::from(Sha256::digest(vec![0; CHUNK_SIZE as usize]))
        );
    }

    #[test]
    fn equals_the_definition_whatever_the_extents() {
        let dir = tempfile::tempdir().unwrap();
        for len in [1, 512, 4 << 20, (4 << 20) + 1, 17 << 20] {
            let bytes = content(len);
            let path = dir.path().join("disk");
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(of(&path), plain(&bytes), "{len}");
        }
        let bytes = content(17 << 20);
        let list = [0..3 << 20, 3 << 20..10 << 20, 10 << 20..17 << 20].map(|range| {
            let path = dir.path().join(range.start.to_string());
            std::fs::write(&path, &bytes[range.clone()]).unwrap();
            (path, range.len() as u64)
        });
        let disk = Extents::open(list).unwrap();
        assert_eq!(
            digest(&disk, 0..disk.len(), &Ctx::none()).unwrap(),
            plain(&bytes)
        );
        let part = (1 << 20) as usize..(16 << 20) as usize;
        let found = digest(&disk, part.start as u64..part.end as u64, &Ctx::none()).unwrap();
        assert_eq!(found, plain(&bytes[part]));
    }

    #[test]
    fn holes_cost_nothing_and_equal_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(9 << 20).unwrap();
        assert_eq!(of(&path), plain(&vec![0; 9 << 20]));
    }

    #[test]
    fn patches_are_hashed_as_if_written() {
        let mut bytes = vec![0; 13 << 20];
        let patch = |offset: u64, len: usize| Patch {
            offset,
            bytes: vec![7; len],
        };
        let patches = [
            patch(446, 66),
            patch(512, 5 << 20),
            patch(12 << 20, 0),
            patch((13 << 20) - 1, 1),
        ];
        for patch in &patches {
            bytes[patch.offset as usize..][..patch.bytes.len()].copy_from_slice(&patch.bytes);
        }
        assert_eq!(
            digest_of_patches(bytes.len() as u64, &patches),
            plain(&bytes)
        );
        assert_eq!(digest_of_patches(5, &[]), plain(&[0; 5]));
    }

    #[test]
    fn a_cancelled_call_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        std::fs::write(&path, content(9 << 20)).unwrap();
        let disk = Extents::open_file(&path).unwrap();
        let token = CancelToken::new();
        let seen = token.clone();
        // Cancelled in the middle: after the first chunk.
        let ctx = Ctx::none()
            .with_cancel(token)
            .with_progress(move |_| seen.cancel());
        let error = digest(&disk, 0..disk.len(), &ctx).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
}
