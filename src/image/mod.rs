//! Images: immutable, content-addressed disks.

mod digest;

pub use digest::{CHUNK_SIZE, DigestError, ImageDigest};
