//! The image file inside a packed segment of the root or of container images: a plain archive, so that its bytes are there as they are.

use super::PackError;
use crate::entry::{Body, BodyAt, Sha256};
use crate::segment::{PackedSegment, image_path};
use bootwright_contract::paths;
use bootwright_contract::sums::parse_sums;
use std::fs::File;
use std::hash::Hasher;
use std::io::{Read, Seek, SeekFrom};
use twox_hash::XxHash64;

/// Fixed part of a newc header (Documentation/driver-api/early-userspace/buffer-format.rst).
const HEADER: usize = 110;
/// More than the longest path that the layout uses.
const MAX_NAME: u64 = 256;
/// Of a sums file with one line.
const MAX_SUMS: u64 = 4096;

/// Finds the image in a segment that holds one, and its hash in the segment's sums. Nothing is packed or hashed.
///
/// # Errors
/// [`PackError::Read`] when the file cannot be read, [`PackError::BadEntry`] when it is no such segment.
pub fn image_of(segment: &PackedSegment) -> Result<Body, PackError> {
    let image_path = image_path(segment.name);
    let failed = |cause| PackError::Read { path: image_path.into(), place: segment.path.clone(), cause };
    let bad = |problem| PackError::BadEntry { path: image_path.into(), problem };
    let mut file = File::open(&segment.path).map_err(failed)?;
    let (mut at, mut image, mut sums) = (0, None, None);
    while image.is_none() || sums.is_none() {
        let entry = read_header(&mut file, at).map_err(failed)?.ok_or(bad("it is not in the packed segment"))?;
        match entry.path.as_str() {
            path if path == relative(image_path) => image = Some((entry.start, entry.size)),
            path if path == format!("{}/{}", relative(paths::SUMS), segment.name.as_str())
                && entry.size <= MAX_SUMS =>
            {
                sums = Some(read_text(&mut file, &entry).map_err(failed)?);
            }
            _ => {}
        }
        at = (entry.start + entry.size).next_multiple_of(4);
    }
    let ((offset, size), sums) = (image.expect("just found"), sums.expect("just found"));
    let sums = parse_sums(&sums).map_err(|_| bad("the segment's sums cannot be read"))?;
    let sum = sums.iter().find(|sum| sum.path == image_path && sum.size == size);
    let sha256 = sum.and_then(|sum| Sha256::parse(&sum.sha256)).ok_or(bad("the segment's sums do not name it"))?;
    Ok(Body { sha256, size, at: BodyAt::File { path: segment.path.as_path().into(), offset } })
}

/// XXH64 (seed 0, 16 hex digits) of files one after another.
///
/// # Errors
/// [`PackError::Read`]
pub fn xxh64_of<'a>(files: impl Iterator<Item = (&'a str, &'a Body)>) -> Result<String, PackError> {
    let mut hasher = XxHash64::with_seed(0);
    for (path, body) in files {
        body.feed(&mut hasher).map_err(|cause| PackError::Read { path: path.into(), place: body.place(), cause })?;
    }
    Ok(format!("{:016x}", hasher.finish()))
}

struct ImageHeader {
    path: String,
    /// Of the content.
    start: u64,
    size: u64,
}

/// The entry whose header is at `at`; `None` for what is none.
fn read_header(file: &mut File, at: u64) -> std::io::Result<Option<ImageHeader>> {
    let mut header = [0; HEADER];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut header)?;
    let field = |i: usize| {
        let text = std::str::from_utf8(&header[6 + 8 * i..14 + 8 * i]).ok()?;
        u64::from_str_radix(text, 16).ok()
    };
    let (Some(size), Some(name_size)) = (field(6), field(11)) else { return Ok(None) };
    if !header.starts_with(b"070701") || name_size == 0 || name_size > MAX_NAME {
        return Ok(None);
    }
    let mut name = vec![0; name_size as usize - 1];
    file.read_exact(&mut name)?;
    let start = (at + HEADER as u64 + name_size).next_multiple_of(4);
    Ok(Some(ImageHeader { path: String::from_utf8_lossy(&name).into_owned(), start, size }))
}

fn read_text(file: &mut File, entry: &ImageHeader) -> std::io::Result<String> {
    file.seek(SeekFrom::Start(entry.start))?;
    let mut text = String::new();
    file.take(entry.size).read_to_string(&mut text)?;
    Ok(text)
}

fn relative(path: &'static str) -> &'static str {
    path.trim_start_matches('/')
}
