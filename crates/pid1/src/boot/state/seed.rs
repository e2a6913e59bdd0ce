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
        // A folder may be there and empty: a tmpfs of its own is mounted on it.
        if fs::read_dir(&old).is_ok_and(|mut entries| entries.next().is_some()) {
            empty_folder(&old, fs::symlink_metadata(&old)?.dev(), None)?;
            emptied = true;
        }
    }
    copy_tree(sys, Path::new(paths::IMAGES_SEED), store)?;
    // Written last: a copy that was cut short is made again.
    sys.write(&marker, &images.sha256)?;
    Ok(emptied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::sys::RealSys;
    use bootwright_base::sys::fake::FakeSys;
    use bootwright_base::testing::in_own_root;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const BLOBS: &str = "/var/lib/containerd/content/blobs";

    /// A seed with a database and a link, in a root of its own.
    fn with_seed(test: impl FnOnce(Images) + Send + 'static) {
        in_own_root(|| {
            fs::create_dir_all("/run/images/seed/content/blobs").unwrap();
            fs::create_dir_all("/run/images/seed/meta").unwrap();
            fs::write("/run/images/seed/meta/meta.db", "first").unwrap();
            fs::set_permissions("/run/images/seed/meta", fs::Permissions::from_mode(0o700)).unwrap();
            symlink("/run/images/blobs/a", "/run/images/seed/content/blobs/a").unwrap();
            let store = "/var/lib/containerd".into();
            test(Images { sha256: "one".into(), size: 1, verity: None, store });
        });
    }

    #[test]
    fn an_empty_root_is_filled_and_left_alone_while_the_images_are_the_same() {
        with_seed(|images| {
            assert_eq!(fill(&RealSys, &images).ok(), Some(false));
            assert_eq!(fs::read_link(Path::new(BLOBS).join("a")).unwrap(), Path::new("/run/images/blobs/a"));
            let mode = fs::metadata("/var/lib/containerd/meta").unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700);
            fs::write("/var/lib/containerd/meta/meta.db", "containerd's own").unwrap();
            assert_eq!(fill(&RealSys, &images).ok(), Some(false));
            assert_eq!(fs::read_to_string("/var/lib/containerd/meta/meta.db").unwrap(), "containerd's own");
        });
    }

    #[test]
    fn with_other_images_it_begins_anew() {
        with_seed(|images| {
            fill(&RealSys, &images).unwrap();
            fs::write(Path::new(BLOBS).join("pulled"), "x").unwrap();
            fs::create_dir("/var/lib/containerd/other").unwrap();
            fs::write("/run/images/seed/meta/meta.db", "second").unwrap();
            let images = Images { sha256: "two".into(), ..images };
            assert_eq!(fill(&RealSys, &images).ok(), Some(true));
            assert_eq!(fs::read_to_string("/var/lib/containerd/meta/meta.db").unwrap(), "second");
            assert!(!Path::new(BLOBS).join("pulled").exists() && Path::new(BLOBS).join("a").is_symlink());
            assert!(Path::new("/var/lib/containerd/other").exists(), "what the seed does not have is not touched");
        });
    }

    #[test]
    fn what_was_filled_in_part_is_filled_anew() {
        with_seed(|images| {
            fs::create_dir_all(&images.store).unwrap();
            assert!(fill(&FakeSys::failing(&["write"]), &images).is_err(), "the marker cannot be written");
            assert_eq!(fill(&RealSys, &images).ok(), Some(true));
        });
    }
}
