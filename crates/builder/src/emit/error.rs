//! What can go wrong while an image's folder is written.

use crate::entry::Sha256;
use crate::error::{Exit, Failure};
use crate::measure::pe::PeError;
use crate::pack::PackError;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Exit code 1, but for [`EmitError::CommandLine`], which is the recipe's fault: 2.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("`{}` is there and no image of ours", path.display())]
    NotOurs { path: PathBuf },
    #[error("`{}` is damaged: expected sha256 {expected}, found {found}", path.display())]
    Damaged { path: PathBuf, expected: Sha256, found: Sha256 },
    #[error("`{word}` cannot be on the kernel command line: {problem}")]
    CommandLine { word: String, problem: &'static str },
    #[error("the kernel `{}` is damaged: {problem}", path.display())]
    Kernel { path: PathBuf, problem: PeError },
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error("`{}` is no manifest that can be read: {problem}", path.display())]
    Manifest { path: PathBuf, problem: String },
}

impl EmitError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |cause| Self::Io { action, path: path.into(), cause }
    }

    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::Io { cause, .. } => match cause.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    "the disk is full: free some space, or write to another one with --out; the last image is still there"
                        .into()
                }
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                    "the folder must be writable: name another one with --out".into()
                }
                _ => "check the path and its permissions; the last image is still there".into(),
            },
            Self::NotOurs { .. } => "move it away, or name another folder with --out".into(),
            Self::Damaged { path, .. } => format!("delete `{}` and build again", path.display()),
            Self::Kernel { .. } => "no UEFI firmware can start it: take another one".into(),
            Self::Pack(cause) => cause.help(),
            Self::CommandLine { .. } => "change [kernel] cmdline in the recipe".into(),
            Self::Manifest { .. } => "build the recipe again with this version".into(),
        }
    }
}

impl From<EmitError> for Failure {
    fn from(e: EmitError) -> Self {
        let exit = if matches!(e, EmitError::CommandLine { .. }) { Exit::Usage } else { Exit::Other };
        Self { exit, message: e.to_string(), help: Some(e.help()) }
    }
}
