//! Groups a tree's entries by how often they change: boot, root, config.

use crate::entry::{Entry, Sha256};
use crate::recipe::SegmentName;

/// One segment before packing: entries sorted by path.
#[derive(Debug, Clone)]
pub struct Segment {
    pub name: SegmentName,
    pub entries: Vec<Entry>,
}

/// A packed segment: a file in the cache whose bytes go into `initrd.img`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PackedSegment {
    pub name: SegmentName,
    /// The packed file in the cache.
    pub path: std::path::PathBuf,
    /// Bytes, padded to a multiple of 4.
    pub size: u64,
    pub sha256: Sha256,
    /// Of its sums file: what the boot config names.
    pub sums_sha256: Sha256,
    /// The program that made the image in it, with its version: `mksquashfs 4.5.1`.
    pub tool: Option<String>,
    /// Bytes after decompression as the kernel unpacks it (cpio with headers).
    pub unpacked: u64,
    /// Sum over its regular files of sizes rounded up to pages: what it occupies in the rootfs tmpfs.
    pub resident: u64,
    pub files: u64,
    /// Of the root segment: the bytes of the squashfs or erofs image in it.
    pub image_size: Option<u64>,
    /// Estimated share of the packed bytes by component.
    pub components: std::collections::BTreeMap<String, ComponentShare>,
    /// Taken from the cache as it was.
    #[serde(skip)]
    pub reused: bool,
}

/// A component's share of a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ComponentShare {
    pub files: u64,
    /// Bytes of its files.
    pub raw: u64,
    /// Its part of the packed bytes, by each file compressed on its own and scaled to the segment's size.
    pub packed: u64,
}
