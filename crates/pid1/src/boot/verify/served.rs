//! Checks a root on a server when it is mounted: the size of its image, or of each of its files. The contents are
//! compared in phase `image`.

use super::{ContentCheck, VerifyError, below, wants_sha256};
use crate::base::contents::{ContentError, check_files, check_image, compares, not_read, open_below};
use crate::base::node::Node;
use crate::boot::server_access::ServerAccess;
use bootwright_base::Failure;
use bootwright_base::memory;
use bootwright_contract::sums::{Sum, parse_sums};
use bootwright_contract::{RootImage, Verity, hex, paths};
use bootwright_roots::trust::{self, ImageFacts};
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::{major, minor};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Contents are kept in the page cache if so many times their size is available.
const SPARE: u64 = 3;
/// Read-ahead while all files of an exported tree are read.
const READ_AHEAD_KIB: &str = "1024";

/// A root image on a block device.
pub struct ImageDevice {
    pub image: RootImage,
    /// How it is proven while it is read.
    pub verity: Option<Verity>,
    /// Compares the content of an image that is not; `None` also when that is not wanted.
    pub check: Option<ContentCheck>,
}

/// Checks the size of a root image on a block device. The device may be larger than the image. The content of an image that is not
/// proven while it is read is compared later, by [`check_images`](super::check_images): one from before there were hash trees, which
/// a manifest names.
///
/// # Errors
/// [`VerifyError`]
pub fn check_device(servers: &ServerAccess, device: &Path) -> Result<ImageDevice, Failure> {
    let node = &servers.node;
    let path = device.to_string_lossy().into_owned();
    let ImageFacts { size, sha256, image, verity, .. } = trust::facts_elsewhere(&servers.context())?;
    let read = |source| ContentError::Read { path: path.clone(), source };
    // Past the page cache: the root is read through another device.
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(device).map_err(read)?;
    let found = file.seek(SeekFrom::End(0)).map_err(read)?;
    if found < size {
        return Err(VerifyError::Device { path, expected: size, found }.into());
    }
    let hashes = verity.is_none() && compares(&node.cmdline);
    let sum = Sum { path, size, sha256 };
    let check = move || check_image(&file, &sum, None);
    Ok(ImageDevice { image, verity, check: hashes.then(|| Arc::new(check) as ContentCheck) })
}

/// Whether a root on a server is compared by SHA-256. With a key it is: then an attacker counts too, and the right root
/// need not be that of this build.
fn wants_proof(node: &Node) -> bool {
    wants_sha256(node) || node.config.root.trust.is_some()
}

/// Whether so many bytes can stay in the page cache without evicting what the node reads.
fn fits(bytes: u64) -> bool {
    bytes.saturating_mul(SPARE) / 1024 <= memory::available_kib()
}

/// Checks that the exported tree mounted on `top` is the right one, and the size of each of its files. The contents are
/// compared later, by [`check_images`](super::check_images). A tree that is `written` to changes, so only its sums file
/// is checked.
///
/// # Errors
/// [`VerifyError`]
pub fn check_tree(
    servers: &ServerAccess,
    top: &Path,
    export: &str,
    written: bool,
) -> Result<Vec<ContentCheck>, Failure> {
    let node = &servers.node;
    let expected = trust::facts_elsewhere(&servers.context())?.tree_sums_sha256;
    let sums = load_export(top, export, &expected)?;
    if written {
        return Ok(Vec::new());
    }
    check_export_sizes(top, export, &sums)?;
    if !compares(&node.cmdline) {
        return Ok(Vec::new());
    }
    let xxh64 = node.config.root.tree_xxh64.clone().filter(|_| !wants_proof(node));
    // Opened here, because its path changes with the switch.
    let top = File::open(top)?;
    Ok(vec![Arc::new(move || check_contents(&top, &sums, xxh64.as_deref()))])
}

fn check_contents(top: &File, sums: &[Sum], xxh64: Option<&str>) -> Result<(), ContentError> {
    let cached = fits(sums.iter().map(|sum| sum.size).sum());
    let flags = if cached { OFlag::empty() } else { OFlag::O_DIRECT };
    let open = |sum: &Sum| open_below(top, sum, flags).map_err(not_read(&sum.path));
    with_read_ahead(top, cached, || check_files(sums, xxh64, &open))
}

/// Reads while the kernel asks the server for more at once, if the pages can be kept: fewer requests take half of the
/// time.
fn with_read_ahead<T>(top: &File, cached: bool, read: impl FnOnce() -> T) -> T {
    let device = top.metadata().map(|meta| meta.dev()).unwrap_or_default();
    let numbers = [&major(device).to_string(), ":", &minor(device).to_string()].concat();
    let knob = ["/sys/class/bdi/", &numbers, "/read_ahead_kb"].concat();
    let before = fs::read_to_string(&knob).unwrap_or_default();
    // Only speed depends on the knob. It is not written by way of `Sys`: a check is made in one phase and run in another.
    let _ = cached.then(|| fs::write(&knob, READ_AHEAD_KIB));
    let outcome = read();
    let _ = cached.then(|| fs::write(&knob, before));
    outcome
}

pub(super) fn load_export(top: &Path, export: &str, expected: &str) -> Result<Vec<Sum>, VerifyError> {
    let path = [paths::SUMS, "/root"].concat();
    let text = fs::read(below(top, &path)).map_err(not_exported(&path, export))?;
    let found = hex::encode(&Sha256::digest(&text));
    if found != expected {
        let (export, expected) = (export.into(), expected.into());
        return Err(VerifyError::ForeignTree { path, export, expected, found });
    }
    parse_sums(&String::from_utf8_lossy(&text)).map_err(|line| VerifyError::BadSums { path, line })
}

pub(super) fn check_export_sizes(top: &Path, export: &str, sums: &[Sum]) -> Result<(), VerifyError> {
    let mut listed = HashSet::new();
    for sum in sums {
        let path = below(top, &sum.path);
        // Listing a folder brings the sizes of its files along (READDIRPLUS), which saves a request for each file. If
        // that fails, each file is asked for.
        if let Some(folder) = path.parent().filter(|folder| listed.insert(folder.to_path_buf())) {
            let _ = fs::read_dir(folder).map(Iterator::count);
        }
        let found = fs::symlink_metadata(&path).map_err(not_exported(&sum.path, export))?.len();
        if found != sum.size {
            let (path, export) = (sum.path.clone(), export.into());
            return Err(VerifyError::TreeSize { path, export, expected: sum.size, found });
        }
    }
    Ok(())
}

fn not_exported(path: &str, export: &str) -> impl FnOnce(io::Error) -> VerifyError {
    let (path, export) = (path.to_string(), export.to_string());
    move |source| VerifyError::NotExported { path, export, source }
}
