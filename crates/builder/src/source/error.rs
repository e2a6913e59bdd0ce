//! What can go wrong in a source.

use crate::cache::CacheError;
use crate::error::{Exit, Failure};
use crate::fetch::FetchError;
use std::path::PathBuf;

/// Exit code 3, but for errors of the cache.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("`{tool}` is missing, which {needed_for} needs")]
    MissingTool { tool: String, needed_for: String, install: String },
    #[error("the programs are pinned to be built by {pinned}, and this machine has {found}")]
    OtherToolchain { pinned: String, found: String, install: &'static str },
    #[error("`{command}` failed ({status}): {stderr}")]
    Command { command: String, status: String, stderr: String },
    #[error("`{archive}`: {problem} at `{entry}`")]
    BadArchive { archive: String, entry: String, problem: String },
    #[error("no list has the source packages `{packages}`: asked {places}")]
    NoSources { packages: String, places: String },
    #[error("`{subject}`: {problem}")]
    BadInput { subject: String, problem: String, help: String },
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    /// Exit code of the cache's own errors.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl SourceError {
    /// What was pinned is no longer to be had: pinning it anew may help.
    pub fn is_outdated_pin(&self) -> bool {
        matches!(self, Self::Fetch(FetchError::Gone { .. }) | Self::OtherToolchain { .. })
    }

    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::Fetch(cause) => cause.help(),
            Self::MissingTool { install, .. } => install.clone(),
            Self::OtherToolchain { pinned, install, .. } => {
                format!(
                    "install {pinned} by {install}; or renew the pins with `bootwright lock`, look at the difference and commit it"
                )
            }
            Self::Command { .. } => "run it by hand to see more, or with -v".into(),
            Self::BadArchive { .. } => {
                "the archive is damaged or not meant for an image; nothing of it was used".into()
            }
            Self::NoSources { .. } => {
                "name a mirror or a snapshot archive that has them with --mirror or --snapshot, or renew the pins with `bootwright lock` \
                 and build anew"
                    .into()
            }
            Self::BadInput { help, .. } => help.clone(),
            Self::Io { .. } => "check the path, its permissions and the free space".into(),
            Self::Cache(cause) => cause.help(),
        }
    }
}

impl From<SourceError> for Failure {
    fn from(e: SourceError) -> Self {
        match e {
            SourceError::Fetch(e) => e.into(),
            SourceError::Cache(e) => e.into(),
            e => Self { exit: Exit::Source, message: e.to_string(), help: Some(e.help()) },
        }
    }
}
