//! What a file of this machine becomes in an image: owner, permissions and further names.
//!
//! A checkout of git keeps one bit of a mode, and belongs to whoever made it under whatever umask. So folders and what its
//! owner may execute are 0755, the rest 0644, and all of it is root's; what shall be otherwise is written in the recipe
//! (`modes`), where it is the same for everybody. A file that says otherwise on this disk, which no checkout would, is
//! refused until the recipe says it too: nothing is dropped without a word.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Permissions and owner that a recipe writes for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stated {
    /// At most 0o7777.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// By path below the folder; of a single file by its name.
pub type Modes = BTreeMap<String, Stated>;

/// Parses `0640` or `0640 UID:GID`.
pub fn parse_stated(text: &str) -> Option<Stated> {
    let (mode, owner) = text.split_once(' ').unwrap_or((text, "0:0"));
    let (uid, gid) = owner.trim().split_once(':')?;
    let octal = (3..=5).contains(&mode.len()) && mode.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(mode, 8).ok().filter(|mode| octal && *mode <= 0o7777)?;
    Some(Stated { mode, uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

/// Whether an overlay's folder holds the file or folder `inner`, or its template.
pub fn is_in_overlay(dir: &Path, inner: &str) -> bool {
    [inner, &format!("{inner}.j2")].iter().any(|name| dir.join(name).symlink_metadata().is_ok())
}

/// Why a file's attributes are not taken as they are.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error(
        "on this disk its permissions are {found:04o}, which a checkout does not keep: in the image they would be {usual:04o}"
    )]
    Mode { inner: String, found: u32, usual: u32 },
    #[error("on this disk it belongs to {uid}:{gid}, its folder to another owner: in the image it would be root's")]
    Owner { inner: String, found: u32, uid: u32, gid: u32 },
    #[error("it has a file capability (`security.capability`), which would be lost")]
    Capability,
    #[error("`modes` names `{inner}`, which is not there")]
    Unused { inner: String },
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl LocalError {
    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::Mode { inner, found, usual } => format!(
                "write `modes = {{ \"{inner}\" = \"{found:04o}\" }}` beside the folder in the recipe to keep them, or `chmod {usual:o}` the file"
            ),
            Self::Owner { inner, found, uid, gid } => format!(
                "write `modes = {{ \"{inner}\" = \"{found:04o} {uid}:{gid}\" }}` beside the folder in the recipe to keep it, or `chown` the file"
            ),
            Self::Capability => {
                "take the program from a tar (`url`), an OCI image or a Debian package, or `setcap -r` the file".into()
            }
            Self::Unused { .. } => "correct the path: it starts at the folder, and templates lose their `.j2`".into(),
            Self::Io(_) => "check the path and its permissions".into(),
        }
    }
}

/// A file or folder of this machine, and what was seen below it so far.
pub struct Local<'a> {
    modes: &'a Modes,
    /// Of the folder, or of that which a single file lies in.
    top: Metadata,
    used: BTreeSet<&'a str>,
    /// Device and inode -> the first name in the image.
    names: HashMap<(u64, u64), String>,
}

impl<'a> Local<'a> {
    /// # Errors
    /// [`LocalError::Io`]
    pub fn open(path: &Path, modes: &'a Modes) -> Result<Self, LocalError> {
        let top = match path.metadata()? {
            found if found.is_dir() => found,
            _ => path.canonicalize()?.parent().unwrap_or(Path::new("/")).metadata()?,
        };
        Ok(Self { modes, top, used: BTreeSet::new(), names: HashMap::new() })
    }

    /// Permissions and owner in the image of `path`, whose own metadata is `found` and which is `inner` in [`Modes`].
    ///
    /// # Errors
    /// [`LocalError::Mode`], [`LocalError::Owner`] or [`LocalError::Capability`]: what the image would lose.
    pub fn attributes(&mut self, path: &Path, inner: &str, found: &Metadata) -> Result<Stated, LocalError> {
        if found.is_file() && has_capability(path)? {
            return Err(LocalError::Capability);
        }
        if let Some((name, stated)) = self.modes.get_key_value(inner) {
            self.used.insert(name);
            return Ok(*stated);
        }
        let (uid, gid, mode) = (found.uid(), found.gid(), found.mode() & 0o7777);
        let inner = || inner.to_string();
        if (uid, gid) != (self.top.uid(), self.top.gid()) {
            return Err(LocalError::Owner { inner: inner(), found: mode, uid, gid });
        }
        if found.is_symlink() {
            return Ok(Stated { mode: 0o777, uid: 0, gid: 0 });
        }
        let usual = if found.is_dir() || mode & 0o100 != 0 { 0o755 } else { 0o644 };
        match self.is_of_a_checkout(mode, usual, found.is_dir()) {
            true => Ok(Stated { mode: usual, uid: 0, gid: 0 }),
            false => Err(LocalError::Mode { inner: inner(), found: mode, usual }),
        }
    }

    /// A umask closes a whole checkout to others: then the folder is closed as well.
    fn is_of_a_checkout(&self, mode: u32, usual: u32, is_dir: bool) -> bool {
        // In a folder with the set-group-ID bit new folders have it too (inode(7)).
        let inherited = if is_dir { self.top.mode() & 0o2000 } else { 0 };
        let special = mode & 0o7000 & !inherited;
        let closed = |class: u32| usual & !mode & class != 0;
        special == 0 && [0o070, 0o007].iter().all(|class| !closed(*class) || self.top.mode() & class == 0)
    }

    /// The name in the image under which the same file was seen before; else it is known as `place` from now on.
    pub fn other_name(&mut self, found: &Metadata, place: &str) -> Option<String> {
        if !found.is_file() || found.nlink() < 2 {
            return None;
        }
        match self.names.entry((found.dev(), found.ino())) {
            std::collections::hash_map::Entry::Occupied(first) => Some(first.get().clone()),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(place.into());
                None
            }
        }
    }

    /// Leaves a file out on purpose: [`Modes`] may name it.
    pub fn pass_over(&mut self, inner: &str) {
        if let Some((name, _)) = self.modes.get_key_value(inner) {
            self.used.insert(name);
        }
    }

    /// # Errors
    /// [`LocalError::Unused`] for a path of `modes` that no file had.
    pub fn check_all_used(&self) -> Result<(), LocalError> {
        match self.modes.keys().find(|inner| !self.used.contains(inner.as_str())) {
            Some(inner) => Err(LocalError::Unused { inner: inner.clone() }),
            None => Ok(()),
        }
    }
}

/// Bytes of the largest revision (linux/capability.h, `struct vfs_ns_cap_data`).
const VFS_CAP_DATA: usize = 24;

fn has_capability(path: &Path) -> std::io::Result<bool> {
    // ENODATA: it has none. ENOTSUP: nothing on that file system has.
    let mut value = [0; VFS_CAP_DATA];
    match rustix::fs::getxattr(path, "security.capability", &mut value) {
        Ok(size) => Ok(size > 0),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
