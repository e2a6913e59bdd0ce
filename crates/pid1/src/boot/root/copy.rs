//! Copies the files of a segment over the root, with modes, owners and links.

use bootwright_base::sys::Sys;
use nix::errno::Errno;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// A file could not be copied.
#[derive(Debug, thiserror::Error)]
#[error("cannot copy `{from}` to `{to}`: {source}")]
pub struct CopyError {
    from: PathBuf,
    to: PathBuf,
    source: io::Error,
}

/// Copies all entries below the folder `from` to the folder `to`. A `from` that does not exist counts as empty. Files and
/// links replace what is there; folders are merged. A link in `to` where `from` has a folder is an error: nothing is written
/// outside of `to`. Each entry is copied only while `sys` allows changes: an attempt that was given up ends in the middle.
pub fn copy_tree(sys: &dyn Sys, from: &Path, to: &Path) -> Result<(), CopyError> {
    copy_below(sys, from, to, &mut FirstNames::new())
}

/// For files with several names: device, inode, and where the first name was copied to; sorted.
type FirstNames = Vec<(u64, u64, PathBuf)>;

fn copy_below(sys: &dyn Sys, from: &Path, to: &Path, names: &mut FirstNames) -> Result<(), CopyError> {
    let failed = |source| CopyError { from: from.into(), to: to.into(), source };
    let entries = match fs::read_dir(from) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        copy_entry(sys, &from.join(&name), &to.join(&name), names)?;
    }
    Ok(())
}

fn copy_entry(sys: &dyn Sys, from: &Path, to: &Path, names: &mut FirstNames) -> Result<(), CopyError> {
    let failed = |source| CopyError { from: from.into(), to: to.into(), source };
    sys.may_change().map_err(|errno| failed(errno.into()))?;
    let meta = fs::symlink_metadata(from).map_err(failed)?;
    if meta.is_dir() {
        make_folder(to, &meta).map_err(failed)?;
        return copy_below(sys, from, to, names);
    }
    remove_old(to).map_err(failed)?;
    if meta.is_symlink() {
        fs::read_link(from).and_then(|target| symlink(target, to)).map_err(failed)?;
        return lchown(to, Some(meta.uid()), Some(meta.gid())).map_err(failed);
    }
    if meta.nlink() > 1 {
        let inode = (meta.dev(), meta.ino());
        match names.binary_search_by(|(dev, ino, _)| (*dev, *ino).cmp(&inode)) {
            Ok(at) => return fs::hard_link(&names[at].2, to).map_err(failed),
            Err(at) => names.insert(at, (inode.0, inode.1, to.into())),
        }
    }
    copy_content(from, to).map_err(failed)?;
    take_owner_and_mode(to, &meta).map_err(failed)
}

/// std's `fs::copy` is 2 kB.
fn copy_content(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    // Its mode comes later, and must not be wider until then.
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        target.write_all(&buffer[..read])?;
    }
}

/// Makes a folder with the mode and owner of `meta`, or gives them to an existing one.
fn make_folder(to: &Path, meta: &Metadata) -> io::Result<()> {
    match fs::create_dir(to) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            if !fs::symlink_metadata(to)?.is_dir() {
                return Err(Errno::ENOTDIR.into());
            }
        }
        made => made?,
    }
    take_owner_and_mode(to, meta)
}

fn take_owner_and_mode(to: &Path, meta: &Metadata) -> io::Result<()> {
    lchown(to, Some(meta.uid()), Some(meta.gid()))?;
    // After the owner is set, because chown(2) clears the set-user-id bit.
    fs::set_permissions(to, Permissions::from_mode(meta.mode() & 0o7777))
}

fn remove_old(to: &Path) -> io::Result<()> {
    match fs::remove_file(to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::sys::{Fence, Fenced, RealSys};

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn files_links_and_modes_are_laid_over() {
        let base = std::env::temp_dir().join(format!("bootwright-copy-{}", std::process::id()));
        let (from, to) = (base.join("from"), base.join("to"));
        fs::create_dir_all(from.join("etc/ssh")).unwrap();
        fs::create_dir_all(to.join("etc")).unwrap();
        fs::write(from.join("etc/ssh/key"), "secret").unwrap();
        fs::set_permissions(from.join("etc/ssh/key"), Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(from.join("etc/ssh"), Permissions::from_mode(0o700)).unwrap();
        symlink("ssh/key", from.join("etc/link")).unwrap();
        symlink("/nowhere", to.join("etc/link")).unwrap();
        fs::write(to.join("etc/other"), "kept").unwrap();
        fs::hard_link(from.join("etc/ssh/key"), from.join("etc/name")).unwrap();
        copy_tree(&RealSys, &from, &to).unwrap();
        let inode = |path: &str| fs::metadata(to.join(path)).unwrap().ino();
        assert_eq!(inode("etc/ssh/key"), inode("etc/name"), "two names of one file");
        assert_eq!(fs::read_to_string(to.join("etc/ssh/key")).unwrap(), "secret");
        assert_eq!((mode(&to.join("etc/ssh/key")), mode(&to.join("etc/ssh"))), (0o600, 0o700));
        assert_eq!(fs::read_link(to.join("etc/link")).unwrap(), Path::new("ssh/key"));
        assert_eq!(fs::read_to_string(to.join("etc/other")).unwrap(), "kept");
        copy_tree(&RealSys, &base.join("absent"), &to).unwrap();
        // A folder of the config that meets a link is refused.
        fs::remove_dir_all(to.join("etc")).unwrap();
        symlink(&base, to.join("etc")).unwrap();
        assert!(
            copy_tree(&RealSys, &from, &to).unwrap_err().to_string().contains("ENOTDIR") || !base.join("ssh").exists()
        );
        fs::remove_dir_all(base).unwrap();
    }

    /// A kernel that takes changes away while a tree is copied, as when the deadline of an attempt passes.
    #[test]
    fn a_copy_ends_where_changes_are_no_longer_allowed() {
        let base = std::env::temp_dir().join(format!("bootwright-copy-fence-{}", std::process::id()));
        let (from, to) = (base.join("from"), base.join("to"));
        fs::create_dir_all(from.join("etc")).unwrap();
        fs::create_dir_all(&to).unwrap();
        fs::write(from.join("etc/key"), "secret").unwrap();
        let fence = Fence::default();
        let sys = Fenced { sys: &RealSys, fence: fence.clone() };
        fence.close();
        let error = copy_tree(&sys, &from, &to).unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(Errno::ECANCELED as i32));
        assert_eq!(fs::read_dir(&to).unwrap().count(), 0, "nothing is written any more");
        assert!(fence.has_refused(), "the attempt counts as one that did not do its work");
        fs::remove_dir_all(base).unwrap();
    }
}
