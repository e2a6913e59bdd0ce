//! Which extended attributes each form of a root can hold. What cannot be kept is refused by name, never dropped.

use super::PackError;
use crate::recipe::SegmentName;
use crate::segment::is_image;
use crate::tree::{Owner, TreeEntry};
use bootwright_contract::RootImage;

/// A form that entries are packed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Its header has no place for them (Documentation/driver-api/early-userspace/buffer-format.rst).
    Newc,
    /// Made from a folder, where only root could set those that count.
    Erofs,
    /// `user.`, `trusted.` and `security.` (fs/squashfs/xattr.c, `squashfs_xattr_handlers`).
    Squashfs,
    /// The protocol carries `user.` at most (RFC 8276).
    Nfs,
}

/// Refuses the first entry with an attribute that the form cannot hold.
///
/// # Errors
/// [`PackError::Xattr`]
pub fn check_xattrs<'a>(mut entries: impl Iterator<Item = &'a TreeEntry>, holder: Holder) -> Result<(), PackError> {
    let kept = |name: &str| {
        holder == Holder::Squashfs && ["user.", "trusted.", "security."].iter().any(|prefix| name.starts_with(prefix))
    };
    match entries.find_map(|found| Some((found, found.entry.xattrs.keys().find(|name| !kept(name))?))) {
        None => Ok(()),
        Some((found, name)) => Err(PackError::Xattr {
            path: found.entry.path.clone(),
            owner: Box::new(Owner::of(found)),
            name: name.clone(),
            holder: holder.title(),
        }),
    }
}

impl Holder {
    /// What a segment's entries are packed in.
    pub fn of(name: SegmentName, image: RootImage) -> Self {
        match image {
            _ if !is_image(name, image) => Self::Newc,
            RootImage::Erofs => Self::Erofs,
            _ => Self::Squashfs,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Newc => "an archive of the initramfs (cpio)",
            Self::Erofs => "an erofs made from files",
            Self::Squashfs => "a squashfs",
            Self::Nfs => "a root over NFS",
        }
    }
}
