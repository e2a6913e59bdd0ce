//! `[[component]]` and the kinds of sources that it can have. All that a recipe says of a kind is in that kind's file: its
//! table as written, what it is once checked, the check.

mod deb;
mod go;
mod image;
mod oci;
mod path;
mod reference;
mod url;

pub use deb::{DebFile, DebSpec};
pub use go::{GoFile, GoSpec};
pub use image::{BuiltinImage, ImageFile, ImageSpec, parse_image_name};
pub use oci::{OciFile, OciSpec, parse_layout};
pub use path::{PathFile, PathSpec};
pub use reference::{Reference, parse_reference};
pub use url::{UrlFile, UrlSpec};

use super::check::Check;
use super::file::SecretsWord;
use super::node::TomlNode;
use super::sources::{plain, relative};
use super::{Origin, SegmentName};
use crate::secrets::Author;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    /// Take the place of the one of this name that an extended recipe has: none of its keys stay.
    #[serde(default)]
    pub replace: bool,
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

/// The kinds of sources: the key in a recipe, what its table is once checked, the check.
macro_rules! kinds {
    ($($key:literal => $kind:ident($spec:ty, $check:ident)),* $(,)?) => {
        /// Exactly one source. Each variant's fields are all that decides what is fetched: they are kept in the lock.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum SourceSpec {
            $(#[serde(rename = $key)] $kind($spec),)*
            /// Of no component: that of an `[[image]]`.
            #[serde(rename = "image")]
            Image(ImageSpec),
        }

        impl SourceSpec {
            /// The keys of a component that stand for a source, of which it has exactly one.
            pub const KEYS: &[&'static str] = &[$($key),*];

            /// The key that stands for it in a recipe.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $key,)*
                    Self::Image(_) => "image",
                }
            }
        }

        impl Check<'_> {
            /// `place`: the table's, for messages.
            fn source_of_kind(&mut self, kind: &str, table: &TomlNode, place: &str) -> Option<SourceSpec> {
                match kind {
                    $($key => self.$check(table, place).map(SourceSpec::$kind),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    "deb" => Deb(DebSpec, deb),
    "url" => Url(UrlSpec, url),
    "go" => Go(GoSpec, go),
    "oci" => Oci(OciSpec, oci),
    "path" => Path(PathSpec, local),
}

impl SourceSpec {
    /// The files and folders of this machine that it is made from, relative to the recipe's folder: when one of them changes, the
    /// image does.
    pub fn local(&self) -> Vec<PathBuf> {
        match self {
            Self::Path(spec) => vec![spec.path.clone()],
            Self::Go(spec) => spec.dir.iter().chain(&spec.patches).cloned().collect(),
            Self::Oci(OciSpec { layout, .. }) | Self::Image(ImageSpec { layout, .. }) => {
                layout.iter().map(|layout| parse_layout(layout).0).collect()
            }
            Self::Deb(_) | Self::Url(_) => Vec::new(),
        }
    }

    /// The same source as a recipe in the folder `to` names it, of one in `from`; both absolute.
    pub fn moved(&self, from: &Path, to: &Path) -> Self {
        let mut moved = self.clone();
        let paths: Vec<&mut PathBuf> = match &mut moved {
            Self::Path(spec) => vec![&mut spec.path],
            Self::Go(spec) => spec.dir.iter_mut().chain(&mut spec.patches).collect(),
            Self::Oci(OciSpec { layout, .. }) | Self::Image(ImageSpec { layout, .. }) => layout.iter_mut().collect(),
            Self::Deb(_) | Self::Url(_) => Vec::new(),
        };
        for path in paths.into_iter().filter(|path| path.is_relative() && from != to) {
            *path = relative(&plain(to), &plain(&from.join(&*path)));
        }
        moved
    }

    /// Who wrote its files: what may be a secret in them is judged by that.
    pub fn author(&self) -> Author {
        match self {
            Self::Path(_) => Author::Own,
            Self::Deb(_) | Self::Url(_) | Self::Go(_) | Self::Oci(_) | Self::Image(_) => Author::Others,
        }
    }
}

impl Check<'_> {
    /// The one source of a component.
    pub(super) fn source(&mut self, node: &TomlNode) -> Option<SourceSpec> {
        let place = format!("component `{}`", node.text_of("name").unwrap_or_default());
        let kind = self.exactly_one(node, SourceSpec::KEYS, &place)?;
        let source = node.get(kind)?;
        if self.flawed.contains(&source.at) {
            return None;
        }
        self.source_of_kind(kind, source, &format!("the `{kind}` of {place}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_local_path_of_a_source_moves() {
        let source = |text: &str| -> SourceSpec {
            let text = format!("[kernel]\ncomponent = \"k\"\n[[component]]\nname = \"k\"\n{text}\n");
            crate::recipe::parse_recipe_text("r", &text).unwrap().components.remove(0).source
        };
        let moved = |text: &str| source(text).moved(Path::new("/p/recipes"), Path::new("/p/sites/north"));
        for (here, there) in [
            ("path = { path = \"../tool\" }", "path = { path = \"../../tool\" }"),
            ("path = { path = \"/tool\" }", "path = { path = \"/tool\" }"),
            ("oci = { layout = \"images/x:1\" }", "oci = { layout = \"../../recipes/images/x:1\" }"),
            (
                "go = { dir = \"../p\", packages = { \".\" = \"x\" }, patches = [\"../a\", \"b\"] }",
                "go = { dir = \"../../p\", packages = { \".\" = \"x\" }, patches = [\"../../a\", \"../../recipes/b\"] }",
            ),
        ] {
            assert_eq!(moved(here), source(there), "{here}");
        }
        for (text, local) in [
            ("path = { path = \"../tool\" }", &["../tool"][..]),
            ("oci = { layout = \"images/x:1\" }", &["images/x"]),
            (
                "go = { dir = \"../p\", packages = { \".\" = \"x\" }, patches = [\"../a\", \"b\"] }",
                &["../p", "../a", "b"],
            ),
            ("oci = { image = \"r.example/a:x\" }", &[]),
        ] {
            let found = source(text).local();
            assert_eq!(found.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>(), local, "{text}");
        }
    }

    #[test]
    fn the_kinds_of_sources_are_those_that_a_component_can_have() {
        let schema = schemars::schema_for!(ComponentFile).to_value();
        let is_table = |schema: &serde_json::Value| {
            let one_of = schema["anyOf"].as_array().into_iter().flatten();
            one_of.filter_map(|one| one["$ref"].as_str()).any(|name| name.ends_with("File"))
        };
        let properties = schema["properties"].as_object().unwrap();
        let tables: Vec<&str> = properties.iter().filter(|(_, s)| is_table(s)).map(|(key, _)| key.as_str()).collect();
        let mut kinds = SourceSpec::KEYS.to_vec();
        kinds.sort_unstable();
        assert_eq!(tables, kinds, "keys of `ComponentFile`, and those of `kinds!`");
        let description = schema["description"].as_str().unwrap();
        assert!(kinds.iter().all(|kind| description.contains(&format!("`{kind}`"))), "{description}");
    }
}
