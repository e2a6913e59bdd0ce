//! What can go wrong in the cache.

use crate::entry::Sha256;
use crate::error::{Exit, Failure};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What to do when the cache folder cannot be used for this reason.
pub(crate) fn help_for(cause: &std::io::Error) -> &'static str {
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the disk is full: free some space, or name a cache folder on another disk with --cache; what is finished is kept"
        }
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            "the cache folder must be writable: name another one with --cache"
        }
        _ => "check the cache folder (--cache), its permissions and the free space",
    }
}

/// Exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("`{}` was changed in the cache: its SHA-256 is {found}", path.display())]
    Changed { path: PathBuf, found: Sha256 },
    #[error("`{}` is damaged: {problem}", path.display())]
    Damaged { path: PathBuf, problem: String },
}

impl CacheError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |cause| Self::Io { action, path: path.into(), cause }
    }

    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::Io { cause, .. } => help_for(cause).into(),
            Self::Changed { .. } => "it was removed: build again, and it is fetched anew".into(),
            Self::Damaged { path, .. } => format!("delete `{}`, the next build makes it again", path.display()),
        }
    }

    /// Something that can only be read lies on a read-only file system or belongs to somebody else.
    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self, Self::Io { cause, .. }
            if matches!(cause.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied))
    }
}

impl From<CacheError> for Failure {
    fn from(e: CacheError) -> Self {
        Self { exit: Exit::Other, message: e.to_string(), help: Some(e.help()) }
    }
}
