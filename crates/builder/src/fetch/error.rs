//! What can go wrong between a place that has a body and the cache.

use crate::cache::CacheError;
use crate::entry::Sha256;
use crate::error::{Exit, Failure};
use std::path::{Path, PathBuf};

/// Why a body is not in the cache. Exit code 3, but for errors of the cache and of reading and writing a vendor folder.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{} is gone from {place}", format!("`{name}` {version}").trim_end())]
    Gone { name: String, version: String, place: String },
    #[error("`{name}` has the wrong hash: expected {expected}, got {got}")]
    WrongHash { name: String, expected: Sha256, got: Sha256 },
    #[error("`{name}` has the wrong size: expected {expected} bytes, got {got}")]
    WrongSize { name: String, expected: u64, got: u64 },
    #[error("cannot fetch `{name}`: {cause}")]
    Failed { name: String, cause: String },
    #[error("`{name}` is not in the cache and --offline is set")]
    Offline { name: String },
    #[error("`{name}` is not in the vendor folder: there is no `{}`", path.display())]
    NotVendored { name: String, path: PathBuf },
    #[error("`{}` in the vendor folder is no good for `{name}`: {problem}", path.display())]
    VendorDamaged { name: String, path: PathBuf, problem: String },
    /// Reading or writing the vendor folder. Exit code 1.
    #[error("cannot {action} `{}` of the vendor folder: {cause}", path.display())]
    Vendor { action: &'static str, path: PathBuf, cause: std::io::Error },
    /// An address, a variable or a file of the user.
    #[error("`{subject}`: {problem}")]
    Unusable { subject: String, problem: String, help: String },
    /// Exit code of the cache's own errors.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl FetchError {
    pub(super) fn vendor(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |cause| Self::Vendor { action, path: path.into(), cause }
    }

    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::Gone { .. } => "renew the pins with `bootwright lock`, or name a mirror that still has it with --mirror, or a snapshot archive with --snapshot".into(),
            Self::WrongHash { .. } | Self::WrongSize { .. } => {
                "the place served something else: try again, name another mirror, or renew the pin if upstream really changed it".into()
            }
            Self::Failed { .. } => "check the network, the proxy variables and the mirror, then run the command again: it resumes".into(),
            Self::Offline { .. } => "run once without --offline to fill the cache".into(),
            Self::NotVendored { .. } | Self::VendorDamaged { .. } => {
                "run `bootwright vendor` for this recipe and folder again: it adds what is missing, and replaces what is damaged".into()
            }
            Self::Vendor { .. } => "check the vendor folder, its permissions and the free space".into(),
            Self::Unusable { help, .. } => help.clone(),
            Self::Cache(cause) => cause.help(),
        }
    }
}

impl From<FetchError> for Failure {
    fn from(e: FetchError) -> Self {
        match e {
            FetchError::Cache(e) => e.into(),
            FetchError::Vendor { .. } => Self { exit: Exit::Other, message: e.to_string(), help: Some(e.help()) },
            e => Self { exit: Exit::Source, message: e.to_string(), help: Some(e.help()) },
        }
    }
}
