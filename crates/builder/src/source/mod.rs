//! Sources: where a component's files come from. One file a kind, all behind [`Source`].
//!
//! `lock` pins what a spec means today, `fetch` brings the pinned bodies into the cache, `open` reads them.
//! Nothing is fetched that the cache already holds by hash.

pub mod archive;
pub mod deb;
pub mod go;
pub mod oci;
pub mod path;
pub mod url;

use crate::cache::Cache;
use crate::entry::{Entry, Sha256};
use crate::recipe::SourceSpec;
use crate::ui::Ui;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What every source may use.
pub struct Context<'a> {
    pub cache: &'a Cache,
    pub ui: &'a Ui,
    pub settings: &'a Settings,
    /// Folder of the recipe file: relative paths in a spec start here.
    pub recipe_dir: &'a Path,
}

/// Choices of the user that are no part of a recipe.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Use only what the cache holds.
    pub offline: bool,
    /// Debian mirrors (`http://host/debian`), tried in turn; empty: those of the host's apt configuration.
    pub mirrors: Vec<String>,
    /// Parallel jobs, at least 1.
    pub jobs: usize,
    /// What this run has refreshed already; shared by clones.
    pub refreshed: Refreshed,
}

/// Metadata (package lists) in the cache that was brought up to date by this run: once is enough.
#[derive(Debug, Clone, Default)]
pub struct Refreshed(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Refreshed {
    pub fn holds(&self, place: &Path) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(place)
    }

    pub fn add(&self, place: &Path) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(place.into());
    }
}

/// One pinned thing: an entry of the lock file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Package, file, module or image name; unique within its component.
    pub name: String,
    /// Empty where there is none.
    pub version: String,
    /// Bytes of the body that is fetched; for `go` of the module zip, for a directory of all its files.
    pub size: u64,
    pub sha256: Sha256,
    /// What the source needs to find it again: `filename` and `archive` (deb), `sum` and `toolchain` (go), ...
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<String, String>,
}

/// All files that a component could give to an image.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    /// Sorted by path, no path twice; parent folders may be missing.
    pub entries: Vec<Entry>,
    /// What the component's archives hold beside, which no image can: it is an error only if it is wanted.
    pub flaws: Vec<Flaw>,
    /// Licence and supplier facts for the SBOM, by pin name.
    pub packages: Vec<PackageFacts>,
    /// Packages that those of the pool depend on and that are not in it, by name: advice about what is missing.
    pub depends: Vec<String>,
}

/// A member of an archive that cannot be in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// For messages.
    pub archive: String,
    /// Where it would be, or its name in the archive if that is no path; bytes that are not UTF-8 are shown as `\xNN`.
    pub path: String,
    pub problem: String,
    pub kind: FlawKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlawKind {
    /// A device node or fifo: the machine makes its own, so it is left out unless it is asked for by its name.
    LeftOut,
    /// It is an error to want it.
    Unusable,
}

/// What an SBOM says of a package.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PackageFacts {
    pub name: String,
    pub version: String,
    /// SPDX expression, where known.
    pub license: Option<String>,
    pub supplier: Option<String>,
    /// Package URL (purl).
    pub purl: Option<String>,
}

/// The contract of a source kind.
pub trait Source {
    /// Resolves the spec to pins, sorted by name. May use the network for metadata, never for bodies where
    /// the metadata carries size and hash.
    fn lock(&self, cx: &Context<'_>) -> Result<Vec<Pin>, SourceError>;

    /// Brings every pinned body into the cache, verified. [`SourceError::Gone`] when a pinned thing is no longer there,
    /// [`SourceError::OtherToolchain`] when what builds it is not.
    fn fetch(&self, pins: &[Pin], cx: &Context<'_>) -> Result<(), SourceError>;

    /// Whether the local files that the pins were made from are still the same; true for what lies elsewhere. Looks at
    /// nothing but those files: it is asked in every build.
    fn is_current(&self, _pins: &[Pin], _cx: &Context<'_>) -> Result<bool, SourceError> {
        Ok(true)
    }

    /// Lists the files of fetched bodies.
    fn open(&self, pins: &[Pin], cx: &Context<'_>) -> Result<Pool, SourceError>;
}

/// The source behind a spec.
pub fn source_of(spec: &SourceSpec) -> Box<dyn Source + Send + Sync + '_> {
    match spec {
        SourceSpec::Deb(spec) => Box::new(deb::Deb { spec }),
        SourceSpec::Url(spec) => Box::new(url::Url { spec }),
        SourceSpec::Go(spec) => Box::new(go::Go { spec }),
        SourceSpec::Oci(spec) => Box::new(oci::Oci { spec }),
        SourceSpec::Path(spec) => Box::new(path::LocalPath { spec }),
    }
}

/// What can go wrong in a source. Exit code 3.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{} is gone from {place}", format!("`{name}` {version}").trim_end())]
    Gone { name: String, version: String, place: String },
    #[error("`{name}` has the wrong hash: expected {expected}, got {got}")]
    WrongHash { name: String, expected: Sha256, got: Sha256 },
    #[error("`{name}` has the wrong size: expected {expected} bytes, got {got}")]
    WrongSize { name: String, expected: u64, got: u64 },
    #[error("cannot fetch `{name}`: {cause}")]
    Fetch { name: String, cause: String },
    #[error("`{name}` is not in the cache and --offline is set")]
    Offline { name: String },
    #[error("`{tool}` is missing, which {needed_for} needs")]
    MissingTool { tool: String, needed_for: String, install: String },
    #[error("the programs are pinned to be built by {pinned}, and this machine has {found}")]
    OtherToolchain { pinned: String, found: String, install: &'static str },
    #[error("`{command}` failed ({status}): {stderr}")]
    Command { command: String, status: String, stderr: String },
    #[error("`{archive}`: {problem} at `{entry}`")]
    BadArchive { archive: String, entry: String, problem: String },
    #[error("`{subject}`: {problem}")]
    BadInput { subject: String, problem: String, help: String },
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    /// Exit code of the cache's own errors.
    #[error(transparent)]
    Cache(#[from] crate::cache::CacheError),
}

impl SourceError {
    /// What was pinned is no longer to be had: pinning it anew may help.
    pub fn is_outdated_pin(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::OtherToolchain { .. })
    }

    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::Gone { .. } => "renew the pins with `bootwright lock`, or name a mirror that still has it with --mirror".into(),
            Self::WrongHash { .. } | Self::WrongSize { .. } => {
                "the place served something else: try again, name another mirror, or renew the pin if upstream really changed it".into()
            }
            Self::Fetch { .. } => "check the network, the proxy variables and the mirror, then run the command again: it resumes".into(),
            Self::Offline { .. } => "run once without --offline to fill the cache".into(),
            Self::MissingTool { install, .. } => install.clone(),
            Self::OtherToolchain { pinned, install, .. } => {
                format!("install {pinned} by {install}; or renew the pins with `bootwright lock`, look at the difference and commit it")
            }
            Self::Command { .. } => "run it by hand to see more, or with -v".into(),
            Self::BadArchive { .. } => "the archive is damaged or not meant for an image; nothing of it was used".into(),
            Self::BadInput { help, .. } => help.clone(),
            Self::Io { .. } => "check the path, its permissions and the free space".into(),
            Self::Cache(cause) => cause.help(),
        }
    }
}
