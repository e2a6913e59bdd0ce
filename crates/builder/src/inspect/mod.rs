//! What is in an image: one of ours by its manifest, any other initrd by reading it.

pub mod block;
pub mod explain;
pub mod initrd;
pub mod newc;
mod packed;
pub mod report;
mod stream;
#[cfg(test)]
mod tests;

pub use report::{ImageReport, InitrdReport};

use crate::emit::EmitError;
use crate::emit::manifest::{MANIFEST, load_manifest};
use crate::error::{Exit, Failure};
use crate::input_file::open_regular;
use std::path::{Path, PathBuf};

/// Exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("cannot read `{}`: {cause}", path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("`{}` is no initrd: neither a cpio archive nor a known compression", path.display())]
    NoInitrd { path: PathBuf },
    #[error("`{}` is no image: it holds no {MANIFEST}", path.display())]
    NoManifest { path: PathBuf },
    #[error(transparent)]
    Manifest(#[from] EmitError),
    #[error("`{path}` is not in the image `{recipe}`")]
    NoSuchFile { path: String, recipe: String, similar: Vec<String> },
    #[error("`{file}` of `{recipe}` is no file whose blocks are proven")]
    NotProven { file: String, recipe: String },
    #[error("block {block} is not in `{file}`, whose blocks are 0 to {}", blocks - 1)]
    NoBlock { file: String, block: u64, blocks: u64 },
    #[error("`{}` is not the file that was built", path.display())]
    OtherFile { path: PathBuf },
    #[error("cannot see where files lie in `{}`: {problem}", path.display())]
    Layout { path: PathBuf, problem: String },
    #[error("no `dump.erofs` on PATH: it tells where files lie in an erofs")]
    NoDump,
}

impl InspectError {
    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::Read { .. } | Self::NoInitrd { .. } => "name an initrd, or the folder of an image".into(),
            Self::NoManifest { .. } => "build it first: `bootwright build --recipe NAME`".into(),
            Self::Manifest(e) => e.help(),
            Self::NoSuchFile { similar, .. } if similar.is_empty() => {
                "`bootwright inspect --files` lists all that is in it".into()
            }
            Self::NotProven { .. } => {
                "name `root.img` or `images.img` of an image whose root is on a server: --root nbd, iscsi or http"
                    .into()
            }
            Self::NoBlock { .. } => "see that --recipe, --root and --out name the image that the node runs".into(),
            Self::OtherFile { .. } | Self::Layout { .. } => "build the image again".into(),
            Self::NoDump => "install erofs-utils".into(),
            Self::NoSuchFile { similar, .. } => format!("did you mean {}?", similar.join(", ")),
        }
    }
}

impl From<InspectError> for Failure {
    fn from(e: InspectError) -> Self {
        match e {
            InspectError::Manifest(e) => e.into(),
            e @ (InspectError::NotProven { .. } | InspectError::NoBlock { .. }) => {
                Self { exit: Exit::Usage, message: e.to_string(), help: Some(e.help()) }
            }
            e => Self { exit: Exit::Other, message: e.to_string(), help: Some(e.help()) },
        }
    }
}

/// What was found at a path.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Inspected {
    Image(ImageReport),
    Initrd(InitrdReport),
}

/// Looks at an image's folder, or at an initrd of whatever origin. `top`: how many of the largest files are named.
pub fn load_report(path: &Path, top: usize, files: bool) -> Result<Inspected, InspectError> {
    if path.is_dir() {
        let manifest = load_image(path)?;
        return Ok(Inspected::Image(report::image_report(&manifest, top, files)));
    }
    let failed = |cause| InspectError::Read { path: path.into(), cause };
    let file = open_regular(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let segments = initrd::read_initrd(file, newc::InitrdLimits::default()).map_err(failed)?;
    if segments.first().is_none_or(|first| first.compression == initrd::SegmentPacking::Unknown) {
        return Err(InspectError::NoInitrd { path: path.into() });
    }
    Ok(Inspected::Initrd(report::initrd_report(segments, size, top, files)))
}

/// The manifest of an image's folder.
pub fn load_image(dir: &Path) -> Result<crate::emit::manifest::Manifest, InspectError> {
    let path = dir.join(MANIFEST);
    if !path.is_file() {
        return Err(InspectError::NoManifest { path: dir.into() });
    }
    Ok(load_manifest(&path)?)
}
