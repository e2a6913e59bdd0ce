//! What a block of a proven image file is needed for: from the number that PID1 tells to files of the root.

mod erofs;
mod squashfs;
mod tree;

use super::InspectError;
use crate::emit::ROOT_IMAGE;
use crate::emit::manifest::{BootFile, FileRecord, Manifest};
use crate::entry::Sha256;
use crate::recipe::SegmentName;
use serde::Serialize;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

/// Of data and of hashes, in bytes.
const BLOCK: u64 = 4096;
/// Files that a text names.
const SHOWN: usize = 20;
/// `SQUASHFS_MAGIC` and `EROFS_SUPER_MAGIC_V1`, little-endian (include/uapi/linux/magic.h), and where they are.
const SQUASHFS: (u64, [u8; 4]) = (0, *b"hsqs");
const EROFS: (u64, [u8; 4]) = (1024, [0xe2, 0xe1, 0xf5, 0xe0]);

/// What some bytes of an image file are needed for.
struct Extent {
    bytes: Range<u64>,
    /// The file, link or folder, and the bytes of it that cannot be read without; no leading `/`.
    path: String,
    of_path: Range<u64>,
}

/// How a file system lies in its image.
struct Map {
    /// Some bytes belong to several files: to hard links, to files with the same content, to ends of files that are packed together.
    extents: Vec<Extent>,
    /// What else there is, named; a block may touch several.
    tables: Vec<(Range<u64>, &'static str)>,
}

/// The answer to `explain --block`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BlockExplanation {
    /// Layout of this document; 1.
    pub version: u32,
    pub recipe: String,
    pub image_id: String,
    /// `root.img` or `images.img`.
    pub file: String,
    pub block: u64,
    /// First byte of the block in the file.
    pub offset: u64,
    /// Of the hash tree: level from the leaves, which are 0, and the first and the last block of data that cannot be read without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hashes: Option<Hashes>,
    /// By path.
    pub contents: Vec<Content>,
    /// Parts of the file system that belong to no single file.
    pub tables: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Hashes {
    pub level: u32,
    pub first_block: u64,
    pub last_block: u64,
}

/// Bytes of a file, link or folder that cannot be read without the block.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Content {
    /// No leading `/`. Of `images.img`: below the folder where it is mounted.
    pub path: String,
    /// First byte, and the one after the last.
    pub from: u64,
    pub to: u64,
    /// Of files of the root: who brought it, recipe file and line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// Names what a block is needed for: a block of `file`, `root.img` or `images.img` in the image's folder `dir`, whose manifest is given.
///
/// # Errors
/// [`InspectError::NotProven`], [`InspectError::NoBlock`]; [`InspectError::OtherFile`] when the file is not the one that was built;
/// [`InspectError::Layout`], [`InspectError::NoDump`] when its file system cannot be read.
pub fn explain_block(
    dir: &Path,
    manifest: &Manifest,
    file: &str,
    block: u64,
) -> Result<BlockExplanation, InspectError> {
    let not_proven = || InspectError::NotProven { file: file.into(), recipe: manifest.recipe.clone() };
    let record = manifest.root.iter().flat_map(|root| &root.files).find(|f| f.path == file).ok_or_else(not_proven)?;
    let data = tree::data_blocks(record.size / BLOCK).ok_or_else(not_proven)?;
    let blocks = record.size / BLOCK;
    if block >= blocks {
        return Err(InspectError::NoBlock { file: file.into(), block, blocks });
    }
    let path = dir.join(file);
    check_is_built(&path, record)?;
    let hashes = (block >= data).then(|| tree::hashed_by(data, block));
    let needed = hashes.map_or(block..block + 1, |hashes| hashes.first_block..hashes.last_block + 1);
    let needed = needed.start * BLOCK..needed.end * BLOCK;
    let map = load_map(&path, manifest, file)?;
    let tables = map.tables.iter().filter(|(bytes, _)| overlap(bytes, &needed)).map(|(_, name)| *name).collect();
    let mut contents: Vec<Content> = Vec::new();
    let mut extents: Vec<Extent> = map.extents.into_iter().filter(|e| overlap(&e.bytes, &needed)).collect();
    extents.sort_by(|a, b| (&a.path, a.of_path.start).cmp(&(&b.path, b.of_path.start)));
    for extent in extents {
        match contents.last_mut() {
            Some(last) if last.path == extent.path && last.to == extent.of_path.start => last.to = extent.of_path.end,
            _ => contents.push(content(manifest, file, extent)),
        }
    }
    let (recipe, image_id) = (manifest.recipe.clone(), manifest.image_id.clone());
    let offset = block * BLOCK;
    Ok(BlockExplanation { version: 1, recipe, image_id, file: file.into(), block, offset, hashes, contents, tables })
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

fn content(manifest: &Manifest, file: &str, extent: Extent) -> Content {
    let of_root = |f: &&FileRecord| f.segment == SegmentName::Root && f.path == extent.path;
    let known = manifest.files.iter().find(of_root).filter(|_| file == ROOT_IMAGE);
    Content {
        from: extent.of_path.start,
        to: extent.of_path.end,
        component: known.map(|f| f.component.clone()),
        origin: known.map(|f| f.origin.clone()),
        path: extent.path,
    }
}

/// Where files lie is read in the file, so it has to be the one that the number is of.
fn check_is_built(path: &Path, record: &BootFile) -> Result<(), InspectError> {
    let failed = |cause| InspectError::Read { path: path.into(), cause };
    let mut file = crate::input_file::open_regular(path).map_err(failed)?;
    let (sha256, _) = Sha256::of_reader(&mut file).map_err(failed)?;
    match sha256 == record.sha256 {
        true => Ok(()),
        false => Err(InspectError::OtherFile { path: path.into() }),
    }
}

fn load_map(path: &Path, manifest: &Manifest, file: &str) -> Result<Map, InspectError> {
    let failed = |cause| InspectError::Read { path: path.into(), cause };
    let mut image = crate::input_file::open_regular(path).map_err(failed)?;
    let mut has = |(at, magic): (u64, [u8; 4])| {
        let mut found = [0; 4];
        image.seek(SeekFrom::Start(at)).and_then(|_| image.read_exact(&mut found)).is_ok() && found == magic
    };
    let (is_squashfs, is_erofs) = (has(SQUASHFS), has(EROFS));
    match file {
        _ if is_squashfs => squashfs::load_map(path),
        ROOT_IMAGE if is_erofs => erofs::load_map(path, manifest),
        _ => Err(InspectError::Layout { path: path.into(), problem: "it is neither a squashfs nor an erofs".into() }),
    }
}

impl BlockExplanation {
    /// For people.
    pub fn to_text(&self) -> String {
        let what = match self.hashes {
            None => format!("data, bytes {} to {}", self.offset, self.offset + BLOCK - 1),
            Some(Hashes { level, first_block, last_block }) => {
                format!("hash tree, level {level}: without it blocks {first_block} to {last_block} cannot be read")
            }
        };
        let mut text = format!("block {} of `{}` (image {}): {what}\n", self.block, self.file, self.image_id);
        for Content { path, from, to, component, origin } in self.contents.iter().take(SHOWN) {
            let of = component.iter().zip(origin).map(|(component, origin)| format!(" ({component}, {origin})"));
            let last = to.saturating_sub(1);
            text += &format!("  /{path}{}: its bytes {from} to {last}\n", of.collect::<String>());
        }
        if self.contents.len() > SHOWN {
            text += &format!("  and {} more (--json lists all)\n", self.contents.len() - SHOWN);
        }
        for table in &self.tables {
            text += &format!("  {table}\n");
        }
        text
    }
}
