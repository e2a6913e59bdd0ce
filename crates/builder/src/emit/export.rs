//! The export tree of an NFS root: a folder with the root's files, which a server can export as it stands.

use super::EmitError;
use crate::entry::{Entry, Kind};
use crate::pack::{PackError, copy_body};
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, geteuid, syncfs};
use std::fs::{File, Permissions};
use std::io::BufWriter;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;

/// Set-user-ID and set-group-ID: meant for root's files, not for a builder's.
const SET_ID: u32 = 0o6000;

/// Whether the files will belong to whom they should: only root may give files away.
pub fn owners_are_exact() -> bool {
    geteuid().is_root()
}

/// Makes `dir` with these entries, sorted by path, parents before children; times are 0. For who is not root all files are
/// his own, without set-ID bits: the tar beside it has the owners.
pub fn write_tree(entries: &[Entry], dir: &Path) -> Result<(), EmitError> {
    make_folder(dir)?;
    let (links, others): (Vec<_>, Vec<_>) = entries.iter().partition(|e| matches!(e.kind, Kind::Hardlink(_)));
    for entry in others.iter().chain(&links) {
        make(entry, dir)?;
    }
    // Children first: making a file changes its folder's time.
    for entry in others.iter().rev() {
        finish(entry, dir)?;
    }
    set_time(dir)?;
    let folder = File::open(dir).map_err(EmitError::io("open", dir))?;
    syncfs(&folder).map_err(|errno| EmitError::io("write", dir)(errno.into()))
}

fn make(entry: &Entry, dir: &Path) -> Result<(), EmitError> {
    let path = dir.join(&entry.path);
    let failed = |cause: std::io::Error| EmitError::io("make", &path)(cause);
    match &entry.kind {
        Kind::Dir => make_folder(&path),
        Kind::File(body) => {
            let file = File::options().write(true).create_new(true).open(&path).map_err(failed)?;
            let mut out = BufWriter::with_capacity(1 << 17, file);
            copy_body(&entry.path, body, &mut out, PackError::io("write", &path))?;
            out.into_inner().map(drop).map_err(|e| failed(e.into_error()))
        }
        Kind::Symlink(target) => symlink(target, &path).map_err(failed),
        Kind::Hardlink(target) => std::fs::hard_link(dir.join(target), &path).map_err(failed),
        Kind::CharDevice { major, minor } => make_node(&path, SFlag::S_IFCHR, *major, *minor),
        Kind::BlockDevice { major, minor } => make_node(&path, SFlag::S_IFBLK, *major, *minor),
        Kind::Fifo => make_node(&path, SFlag::S_IFIFO, 0, 0),
    }
}

fn make_folder(path: &Path) -> Result<(), EmitError> {
    std::fs::create_dir(path).map_err(EmitError::io("make", path))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(EmitError::io("make", path))
}

fn make_node(path: &Path, kind: SFlag, major: u32, minor: u32) -> Result<(), EmitError> {
    let device = makedev(major.into(), minor.into());
    mknod(path, kind, Mode::from_bits_truncate(0o600), device)
        .map_err(|errno| EmitError::io("make", path)(errno.into()))
}

/// Owner, then mode (chown(2) clears set-ID bits), then time.
fn finish(entry: &Entry, dir: &Path) -> Result<(), EmitError> {
    let path = dir.join(&entry.path);
    let failed = |cause: std::io::Error| EmitError::io("write", &path)(cause);
    let exact = owners_are_exact();
    if exact {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        lchown(&path, Some(uid.as_raw()), Some(gid.as_raw())).map_err(failed)?;
    }
    if !matches!(entry.kind, Kind::Symlink(_)) {
        let mode = if exact { entry.mode } else { entry.mode & !SET_ID };
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(failed)?;
    }
    set_time(&path)
}

fn set_time(path: &Path) -> Result<(), EmitError> {
    let zero = TimeSpec::new(0, 0);
    utimensat(AT_FDCWD, path, &zero, &zero, UtimensatFlags::NoFollowSymlink)
        .map_err(|errno| EmitError::io("write", path)(errno.into()))
}
