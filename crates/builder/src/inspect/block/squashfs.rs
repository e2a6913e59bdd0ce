//! How a squashfs lies in its image. Layout as in fs/squashfs/squashfs_fs.h: superblock, blocks of files, blocks of ends of files
//! (fragments), inodes, folders, and the remaining tables.

use super::{BLOCK, Extent, InspectError, Map};
use backhand::{BackhandError, InnerNode, Squashfs, SquashfsFileReader};
use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::Path;

/// Bytes of `struct squashfs_super_block`.
const SUPERBLOCK: u64 = 96;

pub(super) fn load_map(path: &Path) -> Result<Map, InspectError> {
    let file = File::open(path).map_err(|cause| InspectError::Read { path: path.into(), cause })?;
    let bad = |e: BackhandError| InspectError::Layout { path: path.into(), problem: e.to_string() };
    let squashfs = Squashfs::from_reader(BufReader::new(file)).map_err(bad)?;
    let head = squashfs.superblock;
    let end = head.bytes_used;
    let tables = vec![
        (0..SUPERBLOCK, "the file system's superblock: nothing can be read without it"),
        (head.inode_table..head.dir_table, "the file system's inodes: owners, modes and places of files"),
        (head.dir_table..end, "the file system's folders, and tables of fragments, owners and attributes"),
        (end..end.next_multiple_of(BLOCK), "padding behind the file system"),
    ];
    let files = squashfs.into_filesystem_reader().map_err(bad)?;
    let block_size = u64::from(files.block_size);
    let fragments = files.fragments.as_deref().unwrap_or_default();
    let fragment =
        |index: usize| fragments.get(index).map(|found| found.start..found.start + u64::from(found.size.size()));
    let mut extents = Vec::new();
    for node in files.files() {
        if let InnerNode::File(file) = &node.inner {
            let path = node.fullpath.to_string_lossy().trim_start_matches('/').to_string();
            let places = blocks(file, block_size).chain(tail(file, block_size, fragment(file.frag_index())));
            extents.extend(places.map(|(bytes, of_path)| Extent { bytes, path: path.clone(), of_path }));
        }
    }
    Ok(Map { extents, tables })
}

/// A file's own blocks: where they lie in the image, and which bytes of the file they hold. A block of zeros takes no place.
fn blocks(file: &SquashfsFileReader, block_size: u64) -> impl Iterator<Item = (Range<u64>, Range<u64>)> {
    let size = file.file_len() as u64;
    let mut at = file.blocks_start();
    (0..).zip(file.block_sizes()).filter_map(move |(i, packed)| {
        let bytes = at..at + u64::from(packed.size());
        at = bytes.end;
        let of_file = i * block_size..((i + 1) * block_size).min(size);
        (!bytes.is_empty()).then_some((bytes, of_file))
    })
}

/// What a file has in a block that it shares with others.
fn tail(file: &SquashfsFileReader, block_size: u64, fragment: Option<Range<u64>>) -> Option<(Range<u64>, Range<u64>)> {
    let size = file.file_len() as u64;
    let start = file.block_sizes().len() as u64 * block_size;
    fragment.filter(|_| start < size).map(|bytes| (bytes, start..size))
}
