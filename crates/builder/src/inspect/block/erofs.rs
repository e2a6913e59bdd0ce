//! How an erofs lies in its image, as dump.erofs(1) of the tools that made it tells.

use super::{BLOCK, Extent, InspectError, Map};
use crate::emit::manifest::{FileKind, Manifest};
use crate::pack::on_path;
use crate::parallel;
use crate::recipe::SegmentName;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

const DUMP: &str = "dump.erofs";
/// `EROFS_SUPER_OFFSET` and the size of `struct erofs_super_block` (fs/erofs/erofs_fs.h).
const SUPERBLOCK: Range<u64> = 1024..1152;

pub(super) fn load_map(path: &Path, manifest: &Manifest) -> Result<Map, InspectError> {
    let tool = on_path(DUMP).ok_or(InspectError::NoDump)?;
    let bad = |problem: String| InspectError::Layout { path: path.into(), problem };
    let dump = |args: &[&str]| {
        let output = Command::new(&tool).args(args).arg(path).env("LC_ALL", "C").stdin(Stdio::null()).output();
        let output = output.map_err(|cause| InspectError::Read { path: tool.clone(), cause })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(text),
            false => Err(bad(format!("{DUMP}: {}", String::from_utf8_lossy(&output.stderr).trim()))),
        }
    };
    let head = dump(&["-s"])?;
    let blocks = head.lines().find_map(|line| line.strip_prefix("Filesystem blocks:")?.trim().parse::<u64>().ok());
    let end = blocks.ok_or_else(|| bad(format!("{DUMP} does not say how many blocks it has")))? * BLOCK;
    // A device has no place of its own.
    let holds = |kind| matches!(kind, FileKind::File | FileKind::Hardlink | FileKind::Dir | FileKind::Symlink);
    let files = manifest.files.iter().filter(|f| f.segment == SegmentName::Root && holds(f.kind));
    let paths: Vec<&str> = files.map(|f| f.path.as_str()).collect();
    let jobs = std::thread::available_parallelism().map_or(1, |jobs| jobs.get());
    let found = parallel::map(&paths, jobs, |inner| -> Result<Vec<Extent>, InspectError> {
        let text = dump(&["-e", &format!("--path=/{inner}")])?;
        let extent = |(of_path, bytes)| Extent { bytes, path: inner.to_string(), of_path };
        Ok(text.lines().filter_map(parse_extent).map(extent).collect())
    });
    let mut extents = Vec::new();
    for found in found {
        extents.extend(found?);
    }
    extents.sort_by_key(|extent| extent.bytes.start);
    let mut tables = vec![(SUPERBLOCK, "the file system's superblock: nothing can be read without it")];
    let mut at = SUPERBLOCK.end;
    for bytes in extents.iter().map(|extent| &extent.bytes).chain([&(end..end)]) {
        if at < bytes.start {
            tables.push((at..bytes.start, "the file system's inodes: owners, modes and places of files"));
        }
        at = at.max(bytes.end);
    }
    Ok(Map { extents, tables })
}

/// `   0:        0..  299008 |  299008 :     532480..    831488 |  299008`: bytes of the file, bytes of the image.
fn parse_extent(line: &str) -> Option<(Range<u64>, Range<u64>)> {
    let numbers: Vec<u64> = line
        .split(|c: char| !c.is_ascii_digit())
        .filter(|word| !word.is_empty())
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    match numbers[..] {
        [_, from, to, _, start, end, _] if line.contains("..") => Some((from..to, start..end)),
        _ => None,
    }
}
