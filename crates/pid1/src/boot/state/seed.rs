//! Gives containerd the container images that are baked in: copies its databases and links to the layers into its root.

use crate::boot::root::copy_tree;
use crate::boot::switch::empty_folder;
use bootwright_base::Failure;
use bootwright_base::sys::Sys;
use bootwright_contract::{Images, paths};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// File of containerd's root with the hash of the set of images that it was filled from.
const MARKER: &str = "bootwright-images";

/// Fills containerd's root, unless that was done from this set of images. What it holds of another one goes first: its databases
/// name layers that are not there any more. Returns whether something was there.
///
/// # Errors
/// A folder cannot be read, emptied or written.
pub fn fill(sys: &dyn Sys, images: &Images) -> Result<bool, Failure> {
    let store = Path::new(&images.store);
    let marker = store.join(MARKER);
    if fs::read_to_string(&marker).is_ok_and(|set| set == images.sha256) {
        return Ok(false);
    }
    sys.make_dir(store)?;
    let mut emptied = false;
    for entry in fs::read_dir(paths::IMAGES_SEED)? {
        let old = store.join(entry?.file_name());
        sys.may_change()?;
        if let Ok(meta) = fs::symlink_metadata(&old) {
            empty_folder(&old, meta.dev(), None)?;
            emptied = true;
        }
    }
    copy_tree(sys, Path::new(paths::IMAGES_SEED), store)?;
    // Written last: a copy that was cut short is made again.
    sys.write(&marker, &images.sha256)?;
    Ok(emptied)
}
