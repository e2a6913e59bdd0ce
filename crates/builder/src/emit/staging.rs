//! A folder that is made beside the one that it replaces.
//!
//! `<out>/.<name>.new` is filled, then exchanged with `<out>/<name>` by one renameat2(2). After that it holds the
//! old image and is removed. Whoever holds the lock `<out>/.lock` owns both names, so what a killed build left is
//! removed by the next one. `smoke/` moves from the old folder to the new one; if a build is killed between
//! the exchange and that move, the next one makes up for it. What a boot server's owner has put into `boot/` moves along in
//! the same way.

use super::EmitError;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Logs of smoke tests, which outlive a rebuild.
const SMOKE: &str = "smoke";

/// What a kind of folder is recognised by, and what of it outlives its replacement.
#[derive(Debug, Clone, Copy)]
pub struct FolderKind {
    /// A file that every folder of this kind holds, so that nothing else is replaced.
    pub marker: &'static str,
    /// Whether the entry of this name directly in the folder moves on to the new folder, unless that has one of the name.
    pub outlives: fn(&OsStr) -> bool,
}

/// The folder of an image.
pub const IMAGE_FOLDER: FolderKind = FolderKind { marker: super::MANIFEST, outlives: |name| name == SMOKE };

/// Who may read what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Everybody on this machine: a web server of another user.
    All,
    /// The owner and the folder's group: there are secrets in it.
    Group,
}

#[derive(Debug)]
pub struct Staging {
    out: PathBuf,
    dir: PathBuf,
    target: PathBuf,
    kind: FolderKind,
    _lock: File,
}

impl Staging {
    /// Starts the folder `name` of `out`, and waits while another build has the lock of `out`.
    ///
    /// # Errors
    /// [`EmitError::NotOurs`] when there is a folder of that name and of another kind; [`EmitError::Io`].
    pub fn start(out: &Path, name: &str, kind: FolderKind, readers: Readers) -> Result<Self, EmitError> {
        std::fs::create_dir_all(out).map_err(EmitError::io("make", out))?;
        let path = out.join(".lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(EmitError::io("write", &path))?;
        lock.lock().map_err(EmitError::io("lock", &path))?;
        let (dir, target) = (out.join(format!(".{name}.new")), out.join(name));
        check_ours(&target, kind.marker)?;
        remove_leftover(&dir, &target, kind)?;
        make_dir(&dir)?;
        if readers == Readers::Group {
            close(&dir, &target)?;
        }
        Ok(Self { out: out.into(), dir, target, kind, _lock: lock })
    }

    /// Where the new image is written.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where it will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Makes a folder in the new one.
    pub fn make_folder(&self, name: &str) -> Result<(), EmitError> {
        make_dir(&self.dir.join(name))
    }

    /// Puts the new folder in its place. All its files have been synced. No other build replaces it while this is there.
    pub fn finish(&self) -> Result<(), EmitError> {
        sync_folders(&self.dir, 2)?;
        if self.target.exists() {
            exchange(&self.dir, &self.target)?;
            keep(self.kind, &self.dir, &self.target)?;
        } else {
            std::fs::rename(&self.dir, &self.target).map_err(EmitError::io("make", &self.target))?;
        }
        sync_dir(&self.out)?;
        if self.dir.exists() {
            std::fs::remove_dir_all(&self.dir).map_err(EmitError::io("remove", &self.dir))?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a failure; what cannot be removed now, the next build removes.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn make_dir(path: &Path) -> Result<(), EmitError> {
    std::fs::create_dir(path).map_err(EmitError::io("make", path))?;
    // A web server of another user reads it: the umask does not count.
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(EmitError::io("make", path))
}

/// Closes a folder to others. The group stays that of the folder which it replaces: a web server's, perhaps.
fn close(dir: &Path, target: &Path) -> Result<(), EmitError> {
    if let Ok(old) = target.metadata() {
        // Only a member may give a folder to a group; else it stays the builder's.
        let _ = std::os::unix::fs::chown(dir, None, Some(old.gid()));
    }
    std::fs::set_permissions(dir, Permissions::from_mode(0o750)).map_err(EmitError::io("close", dir))
}

/// Replacing a folder deletes what is in it: it must be an earlier image, or hold nothing but logs of smoke tests.
fn check_ours(target: &Path, marker: &str) -> Result<(), EmitError> {
    let not_ours = || EmitError::NotOurs { path: target.into() };
    match std::fs::read_dir(target) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotADirectory => Err(not_ours()),
        Err(e) => Err(EmitError::io("read", target)(e)),
        Ok(_) if target.join(marker).is_file() => Ok(()),
        Ok(mut found) => match found.all(|entry| entry.is_ok_and(|e| e.file_name() == SMOKE)) {
            true => Ok(()),
            false => Err(not_ours()),
        },
    }
}

fn remove_leftover(dir: &Path, target: &Path, kind: FolderKind) -> Result<(), EmitError> {
    let aside = aside(dir);
    if aside.exists() && !target.exists() {
        // Killed between the two renames of a file system that cannot exchange.
        std::fs::rename(&aside, target).map_err(EmitError::io("restore", target))?;
    }
    remove_old(&aside, target, kind)?;
    remove_old(dir, target, kind)
}

/// Removes a folder that a killed build left, but for what outlives it.
fn remove_old(dir: &Path, target: &Path, kind: FolderKind) -> Result<(), EmitError> {
    if !dir.exists() {
        return Ok(());
    }
    if target.exists() {
        keep(kind, dir, target)?;
    }
    std::fs::remove_dir_all(dir).map_err(EmitError::io("remove", dir))
}

/// Moves what outlives the folder that goes to the one that stays.
fn keep(kind: FolderKind, from: &Path, to: &Path) -> Result<(), EmitError> {
    for entry in std::fs::read_dir(from).map_err(EmitError::io("read", from))? {
        let name = entry.map_err(EmitError::io("read", from))?.file_name();
        let kept = to.join(&name);
        if (kind.outlives)(&name) && kept.symlink_metadata().is_err() {
            std::fs::rename(from.join(&name), &kept).map_err(EmitError::io("make", &kept))?;
        }
    }
    Ok(())
}

fn exchange(new: &Path, old: &Path) -> Result<(), EmitError> {
    use nix::errno::Errno;
    match renameat2(AT_FDCWD, new, AT_FDCWD, old, RenameFlags::RENAME_EXCHANGE) {
        // A file system that cannot exchange (NFS): two renames, the old folder stays whole under the other name.
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP) => {
            let aside = aside(new);
            let rename = |from: &Path, to: &Path| std::fs::rename(from, to).map_err(EmitError::io("replace", old));
            rename(old, &aside)?;
            rename(new, old)?;
            rename(&aside, new)
        }
        done => done.map_err(|errno| EmitError::io("replace", old)(errno.into())),
    }
}

/// Where the old folder is for a moment when folders cannot be exchanged.
fn aside(new: &Path) -> PathBuf {
    new.with_extension("old")
}

/// A folder and so many levels of those in it: the names of new files are what is not on disk yet.
fn sync_folders(dir: &Path, levels: u32) -> Result<(), EmitError> {
    let entries = std::fs::read_dir(dir).map_err(EmitError::io("read", dir))?;
    for entry in entries.take(if levels == 0 { 0 } else { usize::MAX }) {
        let entry = entry.map_err(EmitError::io("read", dir))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sync_folders(&entry.path(), levels - 1)?;
        }
    }
    sync_dir(dir)
}

fn sync_dir(path: &Path) -> Result<(), EmitError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(EmitError::io("write", path))
}
