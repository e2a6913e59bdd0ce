//! The root of a network image as its server wants it: an image file, or the files themselves with a tar of them.

use super::manifest::BootFile;
use super::{EmitError, export, write};
use crate::entry::Sha256;
use crate::pack::{HashedFile, PackError, copy_body, write_tar};
use crate::recipe::RootMode;
use crate::segment::{NetworkImages, NetworkRoot};
use std::io::{BufWriter, Write};
use std::path::Path;

/// The image, for HTTP, iSCSI and NBD.
pub const IMAGE: &str = "root.img";
/// Container images, beside either.
pub const IMAGES: &str = "images.img";
/// The files, for NFS: a folder, and the same as a tar.
pub const TREE: &str = "root";
pub const TAR: &str = "root.tar";

/// Writes what the mode's server has to hold. Returns the files, without those in the folder [`TREE`], which has sums of its own.
pub fn write_root(mode: RootMode, root: &NetworkRoot, dir: &Path) -> Result<Vec<BootFile>, EmitError> {
    let (name, (size, sha256)) = match mode {
        RootMode::Nfs => {
            export::write_tree(&root.export.entries, &dir.join(TREE))?;
            (TAR, write_export_tar(root, &dir.join(TAR))?)
        }
        _ => (IMAGE, write_disk(root, &dir.join(IMAGE))?),
    };
    Ok(vec![BootFile { path: name.into(), size, sha256 }])
}

/// The image and what proves it; its content is checked against the hash that it was packed with.
fn write_disk(root: &NetworkRoot, path: &Path) -> Result<(u64, Sha256), EmitError> {
    let mut file = BufWriter::with_capacity(1 << 17, write::create(path)?);
    copy_body(IMAGE, &root.image, &mut file, PackError::io("write", path))?;
    file.write_all(&root.proven.tail).map_err(EmitError::io("write", path))?;
    let file = file.into_inner().map_err(|e| EmitError::io("write", path)(e.into_error()))?;
    write::finish(&file, path)?;
    Ok((root.proven.size, root.proven.sha256))
}

/// Writes the file of all container images.
pub fn write_images(images: &NetworkImages, dir: &Path) -> Result<BootFile, EmitError> {
    let path = dir.join(IMAGES);
    let mut file = HashedFile::create(&path)?;
    copy_body(IMAGES, &images.image, &mut file, PackError::io("write", &path))?;
    let (size, sha256) = file.finish(&path)?;
    Ok(BootFile { path: IMAGES.into(), size, sha256 })
}

fn write_export_tar(root: &NetworkRoot, path: &Path) -> Result<(u64, Sha256), EmitError> {
    let mut file = HashedFile::create(path)?;
    write_tar(&root.export.entries, &mut file, |cause| PackError::io("write", path)(cause))?;
    Ok(file.finish(path)?)
}
