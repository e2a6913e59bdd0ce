//! Phase `verify`: compares what the boot loader has loaded with what was packed.
//!
//! When unpacking fails, the kernel logs a line, leaves truncated files, and runs an `/init` that it unpacked before.
//! So the sizes of all files are checked first, which is quick and finds a lack of RAM; then the contents. The root
//! image, the largest file by far, is checked just before the services start (phase `image`), because its long reads
//! would slow down the other phases.

mod served;
#[cfg(test)]
mod tests;

pub use served::{check_device, check_tree};

use crate::base::contents::{
    ContentError, MORE_RAM, check_files, check_image, compares, not_read, open_below, relative,
};
use crate::base::node::Node;
use bootwright_base::Failure;
use bootwright_contract::sums::{Sum, parse_sums};
use bootwright_contract::{SegmentSums, hex, paths};
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error("segment `{segment}` is missing or truncated: cannot read `{path}`: {source}; {MORE_RAM}")]
    NoSums { segment: String, path: String, source: io::Error },
    #[error(
        "segment `{segment}` does not belong to this image: the hash of `{path}` is {found}, expected {expected}; load all segments from one build"
    )]
    ForeignSums { segment: String, path: String, expected: String, found: String },
    #[error("line {line} of `{path}` cannot be read")]
    BadSums { path: String, line: usize },
    #[error("`{path}` is missing from segment `{segment}`: {source}; {MORE_RAM}")]
    Missing { segment: String, path: String, source: io::Error },
    #[error("`{path}` is truncated: it has {found} bytes, the root image {expected}; export the image of this build")]
    Device { path: String, expected: u64, found: u64 },
    #[error(
        "`{path}` is not in the export `{export}`, or cannot be read: {source}; export the root of this build, without root_squash"
    )]
    NotExported { path: String, export: String, source: io::Error },
    #[error("the export `{export}` is of another build: the hash of `{path}` is {found}, expected {expected}")]
    ForeignTree { path: String, export: String, expected: String, found: String },
    #[error(
        "`{path}` in the export `{export}` is truncated: found {found} of {expected} bytes; export the root of this build"
    )]
    TreeSize { path: String, export: String, expected: u64, found: u64 },
}

/// Key of the kernel command line: SHA-256 of the sums file of the node segment, which is then copied over the root.
pub const NODE_KEY: &str = "bw.node";

/// The node segment, which a boot loader adds to the segments of the image. The image cannot know its hash, so the boot
/// script gives it. So a node does not come up half configured when its segment was lost, cut short, or taken from
/// another node.
fn node_segment(sums_sha256: Option<&str>) -> Option<SegmentSums> {
    Some(SegmentSums { name: paths::NODE_SUMS.into(), sums_sha256: sums_sha256?.into(), xxh64: None })
}

/// Phase `verify`. `bw.verify=0` skips the hashes but not the sizes. Contents are compared by XXH64, or with
/// `bw.verify=sha256` by SHA-256. Returns the checks of images, which run in phase `image`.
///
/// # Errors
/// [`VerifyError`], [`ContentError`]
pub fn check_segments(node: &Node) -> Result<Vec<ContentCheck>, Failure> {
    let root = Path::new("/");
    let mut segments = node.config.segments.clone();
    segments.extend(node_segment(node.cmdline.value(NODE_KEY)));
    if node.cmdline.value(NODE_KEY).is_none() && root.join(&paths::NODE_TREE[1..]).exists() {
        node.timeline.note("the node's own segment is not used: no bw.node on the kernel command line");
    }
    let mut listed = Vec::new();
    for segment in segments {
        listed.push((load_sums(root, &segment)?, segment));
    }
    for (sums, segment) in &listed {
        sums.iter().try_for_each(|sum| check_size(root, &segment.name, sum))?;
    }
    let mut checks: Vec<ContentCheck> = Vec::new();
    if !compares(&node.cmdline) {
        return Ok(checks);
    }
    let xxh64 = |segment: &SegmentSums| segment.xxh64.clone().filter(|_| !wants_sha256(node));
    let (images, others): (Vec<_>, Vec<_>) = listed.into_iter().partition(|(sums, _)| is_image(sums));
    for (sums, segment) in images {
        for sum in sums {
            // Opened here, because its path is gone after the switch.
            let file = File::open(&sum.path).map_err(not_read(&sum.path))?;
            let expected = xxh64(&segment);
            checks.push(Arc::new(move || check_image(&file, &sum, expected.as_deref())));
        }
    }
    let top = File::open(root)?;
    let open = |sum: &Sum| open_below(&top, sum, OFlag::empty()).map_err(not_read(&sum.path));
    for (sums, segment) in others {
        check_files(&sums, xxh64(&segment).as_deref(), &open)?;
    }
    Ok(checks)
}

/// Whether the sums are those of an image, which is the only file of its segment.
fn is_image(sums: &[Sum]) -> bool {
    matches!(sums, [sum] if [paths::ROOT_IMAGE, paths::IMAGES_FILE].contains(&&sum.path[..]))
}

fn wants_sha256(node: &Node) -> bool {
    node.cmdline.value("bw.verify") == Some("sha256")
}

/// Phase `image`: runs the checks of all images.
pub fn check_images(images: &[ContentCheck]) -> Result<(), Failure> {
    images.iter().try_for_each(|check| Ok(check()?))
}

/// Compares an image, or the files of a root, with the build. It can run again, and keeps the files open.
pub type ContentCheck = Arc<dyn Fn() -> Result<(), ContentError> + Send + Sync>;

fn load_sums(root: &Path, segment: &SegmentSums) -> Result<Vec<Sum>, VerifyError> {
    let path = format!("{}/{}", paths::SUMS, segment.name);
    let text = fs::read(below(root, &path)).map_err(|source| VerifyError::NoSums {
        segment: segment.name.clone(),
        path: path.clone(),
        source,
    })?;
    let found = hex::encode(&Sha256::digest(&text));
    if found != segment.sums_sha256 {
        let (segment, expected) = (segment.name.clone(), segment.sums_sha256.clone());
        return Err(VerifyError::ForeignSums { segment, path, expected, found });
    }
    parse_sums(&String::from_utf8_lossy(&text)).map_err(|line| VerifyError::BadSums { path, line })
}

fn check_size(root: &Path, segment: &str, sum: &Sum) -> Result<(), VerifyError> {
    let missing = |source| VerifyError::Missing { segment: segment.into(), path: sum.path.clone(), source };
    let found = fs::symlink_metadata(below(root, &sum.path)).map_err(missing)?.len();
    match found == sum.size {
        true => Ok(()),
        false => Err(ContentError::Size { path: sum.path.clone(), expected: sum.size, found }.into()),
    }
}

fn below(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(relative(path))
}
