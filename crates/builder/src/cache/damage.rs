//! What the disk, or somebody, changed in the cache: found when a build has failed, and taken away so that it is made anew.

use super::{Cache, CacheError, make_parent, seal_file};
use crate::entry::Sha256;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// Something that the cache gave out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CachedItem {
    Blob(Sha256),
    Derived { kind: String, key: String },
}

/// How a body in the cache is.
#[derive(Debug, PartialEq, Eq)]
pub enum BlobState {
    Absent,
    /// Of the size that was asked for.
    Whole(PathBuf),
    /// It is what its hash says, so the size is wrong that was asked for; its bytes.
    OtherSize(u64),
    /// It was not what its hash says, and is there no longer; its place.
    Discarded(PathBuf),
}

impl Cache {
    /// [`Cache::blob`] that also looks at the size in bytes. A body of another size is hashed, and discarded if it is damaged.
    pub fn held_blob(&self, sha256: &Sha256, size: u64) -> Result<BlobState, CacheError> {
        let Some(path) = self.blob(sha256) else { return Ok(BlobState::Absent) };
        let got = path.metadata().map_err(CacheError::io("read", &path))?.len();
        if got == size {
            return Ok(BlobState::Whole(path));
        }
        if Sha256::of_file(&path).map_err(CacheError::io("read", &path))?.0 == *sha256 {
            return Ok(BlobState::OtherSize(got));
        }
        self.discard(&path)?;
        Ok(BlobState::Discarded(path))
    }

    /// Hashes all that was given out so far, and takes away what is not as it was put there. Returns the places.
    pub fn discard_damaged(&self) -> Result<Vec<PathBuf>, CacheError> {
        let used: Vec<CachedItem> =
            std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect();
        let mut damaged = Vec::new();
        for used in used {
            let (path, whole) = match &used {
                CachedItem::Blob(sha256) => {
                    let path = self.blob_path(sha256);
                    let whole = Sha256::of_file(&path).is_ok_and(|(found, _)| found == *sha256);
                    (path, whole)
                }
                CachedItem::Derived { kind, key } => {
                    let path = self.derived_path(kind, key);
                    let whole = self.is_as_remembered(kind, key, &path);
                    (path, whole)
                }
            };
            if !whole {
                self.discard(&path)?;
                damaged.push(path);
            }
        }
        Ok(damaged)
    }

    pub(super) fn note(&self, used: CachedItem) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(used);
    }

    /// Writes down what the files of a new derived thing hash to.
    pub(super) fn remember_sums(&self, kind: &str, key: &str, from: &Path) -> Result<(), CacheError> {
        let sums = sums(from).map_err(CacheError::io("read", from))?;
        let to = self.sums_path(kind, key);
        make_parent(&to)?;
        let file = self.temp_file()?;
        std::fs::write(file.path(), sums).map_err(CacheError::io("write", file.path()))?;
        seal_file(file.path())?;
        file.persist(&to).map_err(|e| CacheError::io("make", &to)(e.error))?;
        Ok(())
    }

    /// What was put there before sums were kept is taken for whole.
    fn is_as_remembered(&self, kind: &str, key: &str, path: &Path) -> bool {
        match std::fs::read_to_string(self.sums_path(kind, key)) {
            Ok(expected) => sums(path).is_ok_and(|found| found == expected),
            Err(_) => path.exists(),
        }
    }

    fn sums_path(&self, kind: &str, key: &str) -> PathBuf {
        self.root.join("sums").join(kind).join(key)
    }
}

/// A line for each regular file: SHA-256, two spaces, its path below `path`; sorted.
fn sums(path: &Path) -> io::Result<String> {
    let mut lines = Vec::new();
    for found in walkdir::WalkDir::new(path) {
        let found = found?;
        if found.file_type().is_file() {
            let below = found.path().strip_prefix(path).unwrap_or(found.path());
            lines.push(format!("{}  {}\n", Sha256::of_file(found.path())?.0, below.display()));
        }
    }
    lines.sort();
    Ok(lines.concat())
}
