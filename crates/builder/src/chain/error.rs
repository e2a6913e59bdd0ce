//! What can go wrong while the boot chain is written.

use crate::emit::EmitError;
use crate::error::{Exit, Failure};
use crate::pack::PackError;
use crate::recipe::Origin;
use crate::signing::SigningError;
use crate::tree::TreeError;
use std::path::{Path, PathBuf};

/// Exit code 2 where `nodes.toml` is to blame, else 1.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("no images in `{}`", out.display())]
    NoImages { out: PathBuf },
    #[error("{origin}: node `{node}` boots the image `{image}`, which is not there")]
    NoImage { origin: Origin, node: String, image: String, there: Vec<String> },
    #[error("the menu's default `{found}` is no image that is there, and none of `local`, `shell`, `reboot`")]
    NoDefault { found: String, there: Vec<String> },
    #[error("the kernel command line of `{entry}` is too long: {length} characters, limit {limit}")]
    CommandLine { entry: String, length: usize, limit: usize },
    #[error("{origin}: the files of node `{node}`: {cause}")]
    Files { origin: Origin, node: String, cause: Box<TreeError> },
    #[error("{origin}: the files of node `{node}` would hold secrets, and whoever asks the boot server gets them: {}", found.join(", "))]
    Secrets { origin: Origin, node: String, found: Vec<String> },
    #[error("the segment of node `{node}`: {cause}")]
    Segment { node: String, cause: Box<PackError> },
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("cannot start `openssl`: {cause}")]
    NoOpenssl { cause: std::io::Error },
    #[error("`openssl` cannot sign `{}`: {complaint}", path.display())]
    Signing { path: PathBuf, complaint: String },
    #[error("nodes join a cluster by asking this server, and its address is not known")]
    NoServer,
    #[error("{0}")]
    Key(#[from] SigningError),
    #[error("{0}")]
    Emit(Box<EmitError>),
}

impl From<EmitError> for ChainError {
    fn from(e: EmitError) -> Self {
        Self::Emit(Box::new(e))
    }
}

impl ChainError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |cause| Self::Io { action, path: path.into(), cause }
    }

    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::NoImages { .. } => {
                "build one first (`bootwright build --recipe worker`), or name their folder with --out".into()
            }
            Self::NoImage { image, there, .. } => {
                format!(
                    "build it (an image with another root than RAM: `bootwright build --root ...`), or take one that is there: {}; looked for `{image}`",
                    there.join(", ")
                )
            }
            Self::NoDefault { there, .. } => format!("there are: {}", there.join(", ")),
            Self::CommandLine { .. } => {
                "the kernel and loaders cut it off: take words out of the recipe or of nodes.toml".into()
            }
            Self::Files { cause, .. } => cause.help(),
            Self::Secrets { .. } => {
                "let the node fetch them once it runs; or write `secrets = \"allowed\"` and `secrets_reason = \"...\"` for the node or in `[defaults]`"
                    .into()
            }
            Self::Segment { cause, .. } => cause.help(),
            Self::Io { .. } => "check the path, its permissions and the free space".into(),
            Self::NoOpenssl { .. } => "install it (Debian: `apt-get install openssl`), or leave the key out".into(),
            Self::Signing { .. } => "check that certificate and key belong together and are PEM files".into(),
            Self::NoServer => "name it with --url http://ADDRESS:PORT, or `url` of `[server]`".into(),
            Self::Key(SigningError::Io { .. }) => {
                "`bootwright cluster add` makes it where it is missing; `signing_key` of `[cluster]` says where it is".into()
            }
            Self::Key(cause) => cause.help(),
            Self::Emit(cause) => cause.help(),
        }
    }
}

impl From<ChainError> for Failure {
    fn from(e: ChainError) -> Self {
        let exit = match e {
            ChainError::NoImage { .. } | ChainError::NoDefault { .. } | ChainError::CommandLine { .. } => Exit::Usage,
            ChainError::Files { .. } | ChainError::Secrets { .. } => Exit::Usage,
            ChainError::NoServer | ChainError::Key(_) => Exit::Usage,
            _ => Exit::Other,
        };
        Self { exit, message: e.to_string(), help: Some(e.help()) }
    }
}
