//! newc archives, compressors, root images; a segment that did not change is taken from the cache.
//!
//! A packed segment is a folder `derived/segments/<key>` with the file and what is known of it as JSON. The key is the
//! hash of all that decides its bytes: see [`key`].

mod body;
mod compress;
mod erofs;
mod error;
mod hashed;
mod image;
mod images;
mod key;
mod newc;
mod shares;
mod squashfs;
mod tar;
mod tool;
mod verity;
mod xattrs;

pub use body::copy_body;
pub use compress::{Compressor, check_level, suffix};
pub use error::PackError;
pub use hashed::HashedFile;
pub use image::{image_of, xxh64_of};
pub use images::pack_images;
pub use key::describe_segment;
pub use newc::{archive_size, write_archive};
pub use tar::write_tar;
pub use tool::{FoundPackTool, MKFS_EROFS, MKSQUASHFS, PackTool, find_tool, on_path};
pub use verity::prove;
pub(crate) use xattrs::{Holder, check_xattrs};

use crate::cache::Cache;
use crate::entry::{Body, BodyAt, Entry, Kind, Sha256};
use crate::recipe::{CheckedRecipe, Compression, Root, SegmentName};
use crate::segment::{Archive, PackedSegment, is_image, lay_out, lay_out_image};
use crate::tree::Tree;
use crate::ui::Ui;
use bootwright_contract::RootImage;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How the recipe wants its segments.
#[derive(Debug, Clone)]
pub struct PackSettings {
    pub root: Root,
    pub boot: Compression,
    pub stable: Compression,
    pub volatile: Compression,
}

impl PackSettings {
    pub fn of(recipe: &CheckedRecipe) -> Self {
        Self {
            root: recipe.root.clone(),
            boot: recipe.pack.boot,
            stable: recipe.pack.stable,
            volatile: recipe.pack.volatile,
        }
    }

    /// The compressor of a segment's archive. One that holds an image is not compressed again.
    pub fn compression(&self, name: SegmentName) -> Compression {
        match name {
            SegmentName::Config => self.volatile,
            SegmentName::Boot => self.boot,
            name if is_image(name, self.root.image) => Compression::None,
            _ => self.stable,
        }
    }
}

/// What packing may use.
#[derive(Clone, Copy)]
pub struct PackContext<'a> {
    pub cache: &'a Cache,
    pub ui: &'a Ui,
    /// Threads, at least 1. They never change the bytes.
    pub jobs: usize,
}

/// Refuses settings that no compressor or tool takes, without running any.
pub fn check_settings(how: &PackSettings) -> Result<(), PackError> {
    check_level(how.boot)?;
    check_level(how.stable)?;
    check_level(how.volatile)?;
    match how.root.image {
        RootImage::Squashfs => squashfs::check_settings(&how.root),
        RootImage::Erofs => erofs::check_settings(&how.root),
        RootImage::Cpio => Ok(()),
    }
}

/// Packs one segment, or takes it from the cache. `extra` goes into the archive beside the tree's entries and is no part
/// of the sums: the boot config, in the config segment.
pub fn pack_segment(
    name: SegmentName,
    tree: &Tree,
    extra: &[Entry],
    how: &PackSettings,
    cx: PackContext<'_>,
) -> Result<PackedSegment, PackError> {
    check_settings(how)?;
    check_xattrs(tree.segment(name), Holder::of(name, how.root.image))?;
    let tool = match (name == SegmentName::Root, how.root.image) {
        (true, RootImage::Squashfs) => Some(find_tool(MKSQUASHFS, cx.cache)?),
        (true, RootImage::Erofs) => Some(find_tool(MKFS_EROFS, cx.cache)?),
        _ => None,
    };
    let key = key::segment_key(name, tree, extra, how, tool.as_ref());
    pack_once(name, &key, cx, |dir| {
        let (archive, image_size) = match &tool {
            Some(tool) => {
                let image = make_image(tree, &how.root, tool, dir, cx)?;
                let size = image.size;
                (lay_out_image(name, image), Some(size))
            }
            None => (lay_out(name, tree, extra), None),
        };
        let archive = archive
            .map_err(|e| PackError::BadEntry { path: e.path, problem: "the image's own layout uses that path" })?;
        let entries: Vec<(&str, &Entry)> = tree.segment(name).map(|e| (e.component.as_str(), &e.entry)).collect();
        let packed = write_packed(name, &entries, &archive, how.compression(name), dir, cx)?;
        Ok(PackedSegment { image_size, tool: tool.as_ref().map(FoundPackTool::title), ..packed })
    })
}

/// Takes a segment from the cache, or has it packed into a new folder, which the cache then keeps.
fn pack_once(
    name: SegmentName,
    key: &str,
    cx: PackContext<'_>,
    pack: impl FnOnce(&Path) -> Result<PackedSegment, PackError>,
) -> Result<PackedSegment, PackError> {
    if let Some(found) = load_packed(cx.cache, key) {
        return Ok(found);
    }
    // Another build may be packing the same segment: wait for it rather than do it twice.
    let _lock = cx.cache.lock(&format!("segment-{key}"))?;
    if let Some(found) = load_packed(cx.cache, key) {
        return Ok(found);
    }
    if cx.cache.derived(SEGMENTS, key).is_some() {
        cx.ui.say(format_args!("the packed segment {} in the cache is damaged: packing it anew", name.as_str()));
        cx.cache.discard_derived(SEGMENTS, key)?;
    }
    let _task = cx.ui.task(&format!("pack segment {}", name.as_str()), None);
    let dir = cx.cache.temp_dir()?;
    let packed = pack(dir.path())?;
    keep(cx.cache, key, dir.path(), packed)
}

/// The tree's root as one file in `dir`.
fn make_image(
    tree: &Tree,
    root: &Root,
    tool: &FoundPackTool,
    dir: &Path,
    cx: PackContext<'_>,
) -> Result<Body, PackError> {
    let entries: Vec<Entry> = tree.segment(SegmentName::Root).map(|e| e.entry.clone()).collect();
    let out = dir.join(IMAGE);
    match root.image {
        RootImage::Erofs => {
            let staging = cx.cache.temp_dir()?;
            erofs::make_erofs(&entries, root, tool, staging.path(), &out)?;
        }
        _ => squashfs::make_squashfs(&entries, root, tool, cx.jobs, &out)?,
    }
    image_body(&out)
}

fn image_body(path: &Path) -> Result<Body, PackError> {
    let (sha256, size) = Sha256::of_file(path).map_err(PackError::io("read", path))?;
    Ok(Body { sha256, size, at: BodyAt::File { path: path.into(), offset: 0 } })
}

/// `entries`: what the segment holds, each with the name of its component.
fn write_packed(
    name: SegmentName,
    entries: &[(&str, &Entry)],
    archive: &Archive,
    how: Compression,
    dir: &Path,
    cx: PackContext<'_>,
) -> Result<PackedSegment, PackError> {
    let unpacked = archive_size(&archive.entries)?;
    let path = dir.join(file_name(how));
    let failed = |cause| PackError::io("write", &path)(cause);
    let out = HashedFile::create(&path)?;
    let mut compressor = Compressor::new(how, unpacked, cx.jobs, out).map_err(failed)?;
    write_archive(&archive.entries, &mut compressor, failed)?;
    let mut out = compressor.finish().map_err(failed)?;
    out.write_all(&vec![0; padding(how, out.size)]).map_err(failed)?;
    let (size, sha256) = out.finish(&path)?;
    let shares = shares::shares_of(entries.iter().copied(), size, cx.jobs)?;
    Ok(PackedSegment {
        name,
        path,
        size,
        sha256,
        sums_sha256: archive.sums_sha256,
        tool: None,
        unpacked,
        resident: resident(&archive.entries),
        files: entries.iter().filter(|(_, e)| matches!(e.kind, Kind::File(_) | Kind::Hardlink(_))).count() as u64,
        image_size: None,
        verity: None,
        components: shares.components,
        file_shares: shares.files,
        reused: false,
    })
}

/// Zeros after a segment. A plain cpio that follows must start at a multiple of 4 (`init/initramfs.c`). A plain cpio
/// itself ends with zeros up to a multiple of 512, as GNU cpio writes it: unmkinitramfs looks for them.
fn padding(how: Compression, size: u64) -> usize {
    let end = match how {
        Compression::None => (size + 4).next_multiple_of(512),
        _ => size.next_multiple_of(4),
    };
    (end - size) as usize
}

/// tmpfs keeps whole pages of 4 KiB (x86_64).
fn resident(entries: &[Entry]) -> u64 {
    let sizes = entries.iter().map(|e| if let Kind::File(body) = &e.kind { body.size } else { 0 });
    sizes.map(|size| size.next_multiple_of(4096)).sum()
}

/// `segment.cpio.zst`
fn file_name(how: Compression) -> String {
    format!("segment.cpio{}", suffix(how))
}

/// The cache's kind of packed segments.
const SEGMENTS: &str = "segments";
const META: &str = "packed.json";
/// Of an image file that goes into a segment.
const IMAGE: &str = "image";

fn keep(cache: &Cache, key: &str, dir: &Path, packed: PackedSegment) -> Result<PackedSegment, PackError> {
    let image = dir.join(IMAGE);
    if image.exists() {
        std::fs::remove_file(&image).map_err(PackError::io("remove", &image))?;
    }
    let meta = dir.join(META);
    let json = serde_json::to_vec_pretty(&packed).expect("a segment's facts are plain values");
    let mut file = File::create_new(&meta).map_err(PackError::io("make", &meta))?;
    file.write_all(&json).and_then(|()| file.sync_all()).map_err(PackError::io("write", &meta))?;
    let kept = cache.adopt_derived(SEGMENTS, key, dir)?;
    Ok(PackedSegment { path: moved(&packed.path, &kept), ..packed })
}

/// A segment that the cache holds whole; what cannot be read is packed anew.
fn load_packed(cache: &Cache, key: &str) -> Option<PackedSegment> {
    let dir = cache.derived(SEGMENTS, key)?;
    let json = std::fs::read(dir.join(META)).ok()?;
    let packed: PackedSegment = serde_json::from_slice(&json).ok()?;
    let path = moved(&packed.path, &dir);
    let whole = Sha256::of_file(&path).is_ok_and(|found| found == (packed.sha256, packed.size));
    whole.then_some(PackedSegment { path, reused: true, ..packed })
}

fn moved(path: &Path, to: &Path) -> PathBuf {
    to.join(path.file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests;
