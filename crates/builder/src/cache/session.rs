//! Temporary work of one process, and the removal of what killed processes left.
//!
//! Each process works below a folder of its own, `<cache>/tmp/<random>/`, and holds an flock(2) on the file `owner` in
//! it. The kernel drops that lock when the process ends, however it ends: a folder whose `owner` can be locked belongs to nobody.
//! Making and removing such folders happens under the lock `<cache>/locks/sessions`, so that no folder is seen
//! before it is locked.

use super::CacheError;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const OWNER: &str = "owner";

/// The temporary folder of this process; removed with all in it on drop.
#[derive(Debug)]
pub struct CacheSession {
    dir: PathBuf,
    _owner: File,
}

impl CacheSession {
    /// Makes the folder below `<root>/tmp`.
    pub fn start(root: &Path) -> Result<Self, CacheError> {
        let tmp = root.join("tmp");
        std::fs::create_dir_all(&tmp).map_err(CacheError::io("make", &tmp))?;
        let _sessions = lock_file(&root.join("locks"), "sessions")?;
        let dir =
            tempfile::Builder::new().prefix("").tempdir_in(&tmp).map_err(CacheError::io("write in", &tmp))?.keep();
        let path = dir.join(OWNER);
        let owner = File::create(&path).map_err(CacheError::io("make", &path))?;
        owner.lock().map_err(CacheError::io("lock", &path))?;
        Ok(Self { dir, _owner: owner })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for CacheSession {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next `Cache::open`.
        let _ = remove_tree(&self.dir);
    }
}

/// Removes the folders of processes that are gone.
pub fn remove_leftovers(root: &Path) -> Result<(), CacheError> {
    let tmp = root.join("tmp");
    let found = match std::fs::read_dir(&tmp) {
        Ok(found) => found.filter_map(Result::ok).map(|e| e.path()).collect::<Vec<_>>(),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(CacheError::io("read", &tmp)(e)),
    };
    if found.is_empty() {
        return Ok(());
    }
    let _sessions = lock_file(&root.join("locks"), "sessions")?;
    for dir in found {
        let owner = File::options().write(true).open(dir.join(OWNER));
        let alive = owner.as_ref().is_ok_and(|file| file.try_lock().is_err());
        if !alive {
            // Its build may have ended, and removed it, since the folder was read.
            unless_gone(remove_tree(&dir)).map_err(CacheError::io("remove", &dir))?;
        }
    }
    Ok(())
}

/// Opens (makes) `<dir>/<name>` and waits for its exclusive lock.
pub fn lock_file(dir: &Path, name: &str) -> Result<File, CacheError> {
    let (file, path) = open_lock(dir, name)?;
    file.lock().map_err(CacheError::io("lock", &path))?;
    Ok(file)
}

/// Opens (makes) a lock file without locking it.
pub fn open_lock(dir: &Path, name: &str) -> Result<(File, PathBuf), CacheError> {
    std::fs::create_dir_all(dir).map_err(CacheError::io("make", dir))?;
    let path = dir.join(name);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    Ok((file.map_err(CacheError::io("make", &path))?, path))
}

/// Nothing is wrong with a removal if somebody else was first.
pub fn unless_gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// `remove_dir_all`, also for trees with read-only folders (Go's module cache) and for single files.
pub fn remove_tree(path: &Path) -> std::io::Result<()> {
    if !path.symlink_metadata()?.is_dir() {
        return std::fs::remove_file(path);
    }
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            let dirs = walkdir::WalkDir::new(path).into_iter();
            // The walk reads a folder only after its mode was changed: entries come parents first.
            for dir in dirs.filter_map(Result::ok).filter(|e| e.file_type().is_dir()) {
                std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700))?;
            }
            std::fs::remove_dir_all(path)
        }
        done => done,
    }
}
