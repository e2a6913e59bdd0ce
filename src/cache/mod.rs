//! The content-addressed cache, shared safely by builds that run at once.
//!
//! ```text
//! <cache>/blobs/sha256/ab/<hex>   bodies by hash, read-only once there
//! <cache>/derived/<kind>/<key>    what is computed from bodies (unpacked debs, built programs, packed segments)
//! <cache>/tmp/                    unfinished work; what a killed build left is removed by the next one
//! <cache>/locks/                  advisory locks, one a key
//! ```

use crate::entry::Sha256;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// Exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
}

impl Cache {
    /// Opens (and makes) the cache folder.
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        std::fs::create_dir_all(root).map_err(|cause| CacheError::Io { action: "make", path: root.into(), cause })?;
        Ok(Self { root: root.into() })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the body with that hash is, if the cache holds it.
    pub fn blob(&self, _sha256: &Sha256) -> Option<PathBuf> {
        todo!()
    }

    /// Stores bytes by their hash; nothing happens when they are there already.
    pub fn put_blob(&self, _bytes: &[u8]) -> Result<(Sha256, PathBuf), CacheError> {
        todo!()
    }

    /// Moves a finished temporary file (made with [`Cache::temp_file`]) in as a blob.
    pub fn adopt_blob(&self, _file: tempfile::NamedTempFile, _sha256: &Sha256) -> Result<PathBuf, CacheError> {
        todo!()
    }

    /// A new file below `tmp/`.
    pub fn temp_file(&self) -> Result<tempfile::NamedTempFile, CacheError> {
        todo!()
    }

    /// A new folder below `tmp/`.
    pub fn temp_dir(&self) -> Result<tempfile::TempDir, CacheError> {
        todo!()
    }

    /// Where a derived thing is: a file or folder, present only when whole.
    pub fn derived(&self, _kind: &str, _key: &str) -> Option<PathBuf> {
        todo!()
    }

    /// Moves a finished file or folder in as a derived thing, atomically; an equal one that another build put there
    /// first wins and is returned.
    pub fn adopt_derived(&self, _kind: &str, _key: &str, _from: &Path) -> Result<PathBuf, CacheError> {
        todo!()
    }

    /// Waits for the exclusive lock of a key; released on drop, and by the kernel when the process dies.
    pub fn lock(&self, _key: &str) -> Result<CacheLock, CacheError> {
        todo!()
    }
}

/// Held lock of a key.
#[derive(Debug)]
pub struct CacheLock {
    _file: std::fs::File,
}
