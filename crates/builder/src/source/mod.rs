//! Sources: where a component's files come from. One file a kind, all behind [`Source`].
//!
//! `lock` pins what a spec means today, `fetch` brings the pinned bodies into the cache, `open` reads them.
//! Nothing is fetched that the cache already holds by hash.

pub mod archive;
pub mod deb;
mod error;
pub mod go;
pub mod oci;
pub mod path;
pub mod url;

pub use error::SourceError;
pub use oci::baked::{BakedImage, BakedLayer, Document};

use crate::entry::{Entry, Sha256};
use crate::fetch::{Context, VendorFiller};
use crate::licence::Licence;
use crate::recipe::SourceSpec;
use crate::tool::Needs;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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

impl Pin {
    /// Name and version, for messages.
    pub fn label(&self) -> String {
        format!("{} {}", self.name, self.version).trim_end().into()
    }
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
    /// Of an `[[image]]`, which gives no files: the image.
    pub image: Option<BakedImage>,
    /// What was changed in those packages before they were built.
    pub patches: Vec<PatchFacts>,
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
    /// Of its archive, where no pin says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Texts of the `LicenseRef-`s in `license`, by name: for the SBOM alone.
    #[serde(skip)]
    pub license_texts: BTreeMap<String, String>,
    /// Notices that have to be passed on with it: for the SBOM alone.
    #[serde(skip)]
    pub notices: BTreeSet<String>,
    /// Source packages of a Debian package: its own, and those whose code is in it (`Built-Using`).
    #[serde(skip)]
    pub built_from: Vec<SourcePackage>,
    /// The whole text of a Debian package's copyright file.
    #[serde(skip)]
    pub copyright: Option<Arc<str>>,
}

/// A Debian source package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePackage {
    pub name: String,
    pub version: String,
}

impl PackageFacts {
    pub fn set_licence(&mut self, licence: Option<Licence>) {
        let Licence { expression, texts, notices } = licence.unwrap_or_default();
        self.license = (!expression.is_empty()).then_some(expression);
        (self.license_texts, self.notices) = (texts, notices);
    }
}

/// A change of somebody else's source code that is in the image: what manifest and SBOM say of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PatchFacts {
    /// Name of its file.
    pub name: String,
    /// Of its file.
    pub sha256: Sha256,
    /// The package that is changed, by its name among [`PackageFacts`].
    pub module: String,
    /// What it changes, and why.
    pub description: String,
    /// Where upstream has or would take it.
    pub forwarded: String,
    /// What notices when it is wrong.
    pub guard: String,
    /// The change itself, a unified diff: for the SBOM alone.
    #[serde(skip)]
    pub diff: String,
}

/// The contract of a source kind.
pub trait Source {
    /// Resolves the spec to pins, sorted by name. May use the network for metadata, never for bodies where
    /// the metadata carries size and hash.
    fn lock(&self, cx: &Context<'_>) -> Result<Vec<Pin>, SourceError>;

    /// Brings every pinned body into the cache, verified. [`FetchError::Gone`](crate::fetch::FetchError::Gone) when a pinned thing is no longer there,
    /// [`SourceError::OtherToolchain`] when what builds it is not.
    fn fetch(&self, pins: &[Pin], cx: &Context<'_>) -> Result<(), SourceError>;

    /// Brings every pinned body into the cache and adds it to a vendor folder, with all else that [`Source::fetch`] asks for.
    fn vendor(&self, pins: &[Pin], to: &VendorFiller<'_>, cx: &Context<'_>) -> Result<(), SourceError> {
        self.fetch(pins, cx)?;
        pins.iter().try_for_each(|pin| Ok(to.add_blob(&pin.label(), &pin.sha256, cx.cache)?))
    }

    /// Whether the local files that the pins were made from are still the same; true for what lies elsewhere. Looks at
    /// nothing but those files: it is asked in every build.
    fn is_current(&self, _pins: &[Pin], _cx: &Context<'_>) -> Result<bool, SourceError> {
        Ok(true)
    }

    /// What it asks of the host. `pins`: those of the lock, where it pins what the recipe asks for.
    fn needs(&self, _pins: Option<&[Pin]>) -> Needs {
        Needs::default()
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
        SourceSpec::Image(spec) => Box::new(oci::baked::Image::new(spec)),
        SourceSpec::Path(spec) => Box::new(path::LocalPath { spec }),
    }
}
