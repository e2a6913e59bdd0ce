//! Reads of kernel and segments what the limits of loaders are about.

use crate::entry::Body;
use crate::error::{Exit, Failure};
use crate::loader_limits::{BootFiles, Lint, SetupHeader, check_limits, refuse, zstd_window};
use crate::recipe::CheckedRecipe;
use crate::segment::PackedSegment;
use std::fs::File;
use std::io::{Error, Read};
use std::path::Path;

/// Longest header of a zstd frame (RFC 8878, section 3.1.1): magic, descriptor, window, dictionary and content size.
const FRAME_HEADER: u64 = 18;

/// What loaders cannot take of an image.
///
/// # Errors
/// When no machine could boot it, or it cannot be read.
pub fn check(recipe: &CheckedRecipe, kernel: &Body, segments: &[PackedSegment]) -> Result<Vec<Lint>, Failure> {
    let place = kernel.place();
    let start = kernel.read_start(SetupHeader::BYTES).map_err(|cause| unreadable(&place, cause))?;
    let mut zstd_windows = Vec::new();
    for segment in segments {
        let mut start = Vec::new();
        let read = File::open(&segment.path).and_then(|file| file.take(FRAME_HEADER).read_to_end(&mut start));
        read.map_err(|cause| unreadable(&segment.path, cause))?;
        zstd_windows.extend(zstd_window(&start).map(|window| (segment.name.as_str().to_string(), window)));
    }
    let lints = check_limits(&BootFiles {
        header: SetupHeader::parse(&start),
        kernel: kernel.size,
        initrd: segments.iter().map(|segment| segment.size).sum(),
        command_line: recipe.kernel.cmdline.join(" ").len(),
        zstd_windows,
        ram_mib: recipe.budget.ram_mib,
    });
    refuse(&recipe.name, &lints)?;
    Ok(lints)
}

fn unreadable(path: &Path, cause: Error) -> Failure {
    Failure {
        exit: Exit::Other,
        message: format!("cannot read `{}`: {cause}", path.display()),
        help: Some("build it again: the cache has changed meanwhile".into()),
    }
}
