//! Container images as a segment of their own: one squashfs, whose files keep their times.

use super::squashfs::{DATED, make_dated_squashfs};
use super::{IMAGE, MKSQUASHFS, PackContext, PackError, find_tool, image_body, key, pack_once, prove, write_packed};
use crate::baked::BakedEntry;
use crate::entry::{Body, BodyAt, Entry};
use crate::recipe::{Compression, SegmentName};
use crate::segment::{PackedSegment, Proven, lay_out_image};
use bootwright_contract::{Verity, paths};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Packs images, or takes them from the cache.
pub fn pack_images(baked: &[BakedEntry], cx: PackContext<'_>) -> Result<PackedSegment, PackError> {
    let tool = find_tool(MKSQUASHFS, cx.cache)?;
    let name = SegmentName::Images;
    let described = baked.iter().map(|BakedEntry { entry, mtime, image }| (entry, image.as_str(), *mtime));
    let key = key::images_key(described, &DATED, &tool);
    pack_once(name, &key, cx, |dir| {
        let out = dir.join(IMAGE);
        let dated: Vec<(&Entry, u32)> = baked.iter().map(|baked| (&baked.entry, baked.mtime)).collect();
        make_dated_squashfs(&dated, &tool, cx.jobs, &out)?;
        let (image, verity) = finish_images(&out)?;
        let image_size = Some(image.size);
        let archive = lay_out_image(name, image)
            .map_err(|e| PackError::BadEntry { path: e.path, problem: "the image's own layout uses that path" })?;
        let entries: Vec<(&str, &Entry)> = baked.iter().map(|baked| (baked.image.as_str(), &baked.entry)).collect();
        let packed = write_packed(name, &entries, &archive, Compression::None, dir, cx)?;
        Ok(PackedSegment { image_size, verity: Some(verity), tool: Some(tool.title()), ..packed })
    })
}

/// Appends what proves the file while it is read from a server; a squashfs ends before it by its own head.
fn finish_images(path: &Path) -> Result<(Body, Verity), PackError> {
    let Proven { tail, verity, size, sha256 } = prove(paths::IMAGES_FILE, &image_body(path)?)?;
    let appended = File::options().append(true).open(path).and_then(|mut file| file.write_all(&tail));
    appended.map_err(PackError::io("write", path))?;
    Ok((Body { sha256, size, at: BodyAt::File { path: path.into(), offset: 0 } }, verity))
}
