//! `[[component]]` and the kinds of sources that it can have. All that a recipe says of a kind is in that kind's file: its
//! table as written, what it is once checked, the check.

mod deb;
mod go;
mod oci;
mod path;
mod url;

pub use deb::{DebFile, DebSpec};
pub use go::{Edit, GoFile, GoSpec};
pub use oci::{OciFile, OciSpec};
pub use path::{PathFile, PathSpec};
pub use url::{UrlFile, UrlSpec};

use super::check::Check;
use super::file::SecretsWord;
use super::node::Node;
use super::{Origin, SegmentName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Exactly one of `deb`, `url`, `go`, `oci` and `path`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComponentFile {
    pub name: String,
    /// Condition: `debug`, `!debug`, `name == value`, `name != value`.
    pub when: Option<String>,
    /// Take out the component of this name that an extended recipe has.
    #[serde(default)]
    pub remove: bool,
    pub deb: Option<DebFile>,
    pub url: Option<UrlFile>,
    pub go: Option<GoFile>,
    pub oci: Option<OciFile>,
    pub path: Option<PathFile>,
    /// Globs of the files wanted; absent: everything; `[]`: only what others need of it.
    pub paths: Option<Vec<String>>,
    /// Globs never taken, not even for a dependency.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Further libraries to take with what they need (dlopen, NSS), by file name.
    #[serde(default)]
    pub libraries: Vec<String>,
    /// Path in the source -> path in the image.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
    /// Path in the image of one file that the contents of the wanted files become, in the order of their paths.
    pub join: Option<String>,
    /// `allowed`: secrets may be in it, which whoever can fetch the image can read. With `secrets_reason`.
    pub secrets: Option<SecretsWord>,
    /// Why they are there.
    pub secrets_reason: Option<String>,
    #[serde(default = "root_segment")]
    pub segment: SegmentName,
}

fn root_segment() -> SegmentName {
    SegmentName::Root
}

/// A component: files that come from one source.
#[derive(Debug, Clone)]
pub struct Component {
    pub name: String,
    pub origin: Origin,
    /// Its `when` holds. Components that are switched off are pinned in the lock too, but no part of the image.
    pub enabled: bool,
    pub source: SourceSpec,
    /// Globs over the source's files (no leading `/`): what is wanted from it. The rest can still be drawn in by a
    /// dependency (library, module, firmware). Empty: everything, unless `only_needed`. A pattern without wildcards that
    /// names a folder takes all below it; `*` and `?` do not cross `/`, `**` does.
    pub paths: Vec<String>,
    /// `paths = []` is written out: nothing by itself, only what others draw in (libraries, firmware).
    pub only_needed: bool,
    /// Globs never taken, not even by a dependency.
    pub exclude: Vec<String>,
    /// More libraries to take with their dependencies (dlopen, NSS): file names such as `libnss_files.so.2`.
    pub libraries: Vec<String>,
    /// Renames, source path -> path in the image (no leading `/`).
    pub rename: BTreeMap<String, String>,
    /// Path in the image (no leading `/`) of one file that the contents of the wanted files become, in the order of their
    /// paths, each ended by a line's end.
    pub join: Option<String>,
    pub segment: SegmentName,
    /// Why secrets are allowed in it.
    pub secrets: Option<String>,
}

/// Exactly one source. Each variant's fields are all that decides what is fetched: they are kept in the lock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceSpec {
    Deb(DebSpec),
    Url(UrlSpec),
    Go(GoSpec),
    Oci(OciSpec),
    Path(PathSpec),
}

impl SourceSpec {
    /// The key that stands for it in a recipe.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Deb(_) => "deb",
            Self::Url(_) => "url",
            Self::Go(_) => "go",
            Self::Oci(_) => "oci",
            Self::Path(_) => "path",
        }
    }
}

impl Check<'_> {
    pub(super) fn source(&mut self, node: &Node) -> Option<SourceSpec> {
        let place = format!("component `{}`", node.text_of("name").unwrap_or_default());
        let kind = self.exactly_one(node, &["deb", "url", "go", "oci", "path"], &place)?;
        let source = node.get(kind)?;
        if self.flawed.contains(&source.at) {
            return None;
        }
        let place = format!("the `{kind}` of {place}");
        match kind {
            "deb" => self.deb(source, &place).map(SourceSpec::Deb),
            "url" => self.url(source, &place).map(SourceSpec::Url),
            "go" => self.go(source, &place).map(SourceSpec::Go),
            "oci" => self.oci(source, &place).map(SourceSpec::Oci),
            _ => self.local(source, &place).map(SourceSpec::Path),
        }
    }
}
