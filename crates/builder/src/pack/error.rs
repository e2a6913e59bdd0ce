//! What can go wrong while packing.

use crate::cache::{CacheError, help_for};
use crate::error::{Exit, Failure};
use crate::tree::Owner;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("`{path}` is too large for an initramfs: {size} bytes, newc holds at most {limit}")]
    TooLarge { path: String, size: u64, limit: u64 },
    #[error("`{path}` cannot be in an archive: {problem}")]
    BadEntry { path: String, problem: &'static str },
    #[error("`{path}` changed while it was packed: {}: expected {expected} bytes, {found}", place.display())]
    Changed { path: String, place: PathBuf, expected: u64, found: String },
    #[error("cannot read `{path}`: {}: {cause}", place.display())]
    Read { path: String, place: PathBuf, cause: std::io::Error },
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("cannot compress segment `{segment}`: {cause}")]
    Compress { segment: &'static str, cause: std::io::Error },
    #[error("level {level} is out of range for {compressor}: it takes {range}")]
    BadLevel { compressor: String, level: i64, range: &'static str },
    #[error("block size {block_kib} KiB is out of range for {image}: a power of two from 4 to 1024")]
    BadBlock { image: &'static str, block_kib: u32 },
    #[error("{image} has no compressor `{compressor}`: it takes {known}")]
    BadCompressor { image: &'static str, compressor: String, known: &'static str },
    #[error("`{tool}` {version} has no compressor `{compressor}`: it has {known}")]
    ToolLacks { tool: &'static str, version: String, compressor: String, known: String },
    #[error("`{tool}` is missing, which {needed_for} needs")]
    MissingTool { tool: &'static str, package: &'static str, needed_for: &'static str },
    #[error("`{tool}` failed ({status}): {stderr}")]
    Tool { tool: &'static str, status: String, stderr: String },
    #[error("`{path}` cannot be in an erofs image: {problem}")]
    Erofs { path: String, problem: &'static str },
    #[error("`{path}` of {owner} has the extended attribute `{name}`, which {holder} cannot hold")]
    Xattr { path: String, owner: Box<Owner>, name: String, holder: &'static str },
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl PackError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |cause| Self::Io { action, path: path.into(), cause }
    }

    /// Exit code 2 where the recipe must change, else 1.
    pub fn exit(&self) -> Exit {
        match self {
            Self::TooLarge { .. }
            | Self::BadEntry { .. }
            | Self::BadLevel { .. }
            | Self::BadBlock { .. }
            | Self::BadCompressor { .. }
            | Self::ToolLacks { .. }
            | Self::Xattr { .. }
            | Self::Erofs { .. } => Exit::Usage,
            _ => Exit::Other,
        }
    }

    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::TooLarge { .. } => "leave the file out, or let the node fetch it after the boot".into(),
            Self::BadEntry { .. } => "rename or exclude it in the recipe".into(),
            Self::Changed { .. } => {
                "let nothing write to it and build again; if it lies in the cache folder, delete it: it is fetched anew"
                    .into()
            }
            Self::Read { .. } => "check the path and its permissions".into(),
            // All that is packed is written below the cache folder.
            Self::Io { cause, .. } => help_for(cause).into(),
            Self::Compress { .. } => "check the free memory".into(),
            Self::BadLevel { .. } | Self::BadBlock { .. } | Self::BadCompressor { .. } => {
                "change `[root]` or `[pack]` of the recipe".into()
            }
            Self::ToolLacks { .. } => {
                "choose one that it has in `[root] compressor`, take `image = \"squashfs\"`, or install a newer version"
                    .into()
            }
            Self::MissingTool { package, .. } => {
                format!(
                    "install it (`apt-get install {package}`), or take `[root] image = \"cpio\"`, which needs no tool"
                )
            }
            Self::Tool { .. } => "check the free space of the cache folder, and run it by hand to see more".into(),
            Self::Erofs { .. } => "take `[root] image = \"squashfs\"`, which keeps it".into(),
            Self::Xattr { name, .. } if name.starts_with("system.posix_acl") => {
                "`exclude` the file, or take one without ACLs: no image holds them".into()
            }
            Self::Xattr { .. } => {
                "a squashfs keeps it: `segment = \"root\"` and `[root] image = \"squashfs\"`, not over NFS; or `exclude` the file"
                    .into()
            }
            Self::Cache(cause) => cause.help(),
        }
    }
}

impl From<PackError> for Failure {
    fn from(e: PackError) -> Self {
        Self { exit: e.exit(), message: e.to_string(), help: Some(e.help()) }
    }
}
