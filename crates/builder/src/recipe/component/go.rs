//! `go`: programs built from Go modules.

use crate::recipe::check::Check;
use crate::recipe::node::TomlNode;
use crate::recipe::problem::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Programs built from Go modules: `module` and `version`, or `dir`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GoFile {
    /// Module path.
    pub module: Option<String>,
    /// Module version: `v1.2.3`.
    pub version: Option<String>,
    /// Folder with a main module of one's own, relative to this file.
    pub dir: Option<String>,
    /// Go package -> path in the image.
    #[serde(default)]
    pub packages: BTreeMap<String, String>,
    /// Build tags.
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default = "small_ldflags")]
    pub ldflags: String,
    /// Compiler flags, `[pattern=]flags` each; of those whose pattern matches a package the last one counts.
    #[serde(default)]
    pub gcflags: Vec<String>,
    /// Patches of other people's modules for this build: files, or folders whose `*.patch` come by name; relative to this file.
    #[serde(default)]
    pub patches: Vec<String>,
}

fn small_ldflags() -> String {
    "-s -w -buildid=".into()
}

/// Programs built from Go modules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoSpec {
    /// Module path and version (`k8s.io/kubernetes`, `v1.36.3`), or
    pub module: String,
    pub version: String,
    /// a folder with a main module of our own (go.mod and go.sum pin the rest); relative to the recipe. One of both.
    pub dir: Option<PathBuf>,
    /// Go package -> path in the image (no leading `/`).
    pub packages: BTreeMap<String, String>,
    pub tags: Vec<String>,
    pub ldflags: String,
    /// `[pattern=]flags` each (`go help build`): the last one whose pattern matches a package counts.
    pub gcflags: Vec<String>,
    /// Files, or folders whose `*.patch` come by name; relative to the recipe.
    #[serde(default)]
    pub patches: Vec<PathBuf>,
}

impl Check<'_> {
    pub(super) fn go(&mut self, node: &TomlNode, place: &str) -> Option<GoSpec> {
        let file: GoFile = self.read(Some(node))?;
        let from = self.exactly_one(node, &["module", "dir"], place)?;
        let mut packages = BTreeMap::new();
        for entry in node.get("packages").map_or(&[][..], TomlNode::entries) {
            let to = self.image_file(entry.node.at, entry.node.text().unwrap_or_default());
            packages.insert(entry.key.clone(), to);
        }
        if packages.is_empty() {
            self.need(None::<()>, "packages", node, place);
        }
        let dir = file.dir.map(|dir| self.recipe_path(node.at_of("dir"), &dir));
        let version = match from {
            "module" => self.need(file.version, "version", node, place)?,
            _ => {
                let host = self.host_path(node.at_of("dir"), node.text_of("dir").unwrap_or_default());
                self.check_there(node.at_of("dir"), "Go module", &host.join("go.mod"), Path::is_file);
                if file.version.is_some() {
                    let reason = "a module of one's own has none";
                    self.report(node.at_of("version"), Problem::NotUsed { key: "version", reason });
                }
                String::new()
            }
        };
        if from == "module" && !version.starts_with('v') {
            let expected = "a version of a Go module";
            self.report(
                node.at_of("version"),
                Problem::BadValue { found: version.clone(), expected, example: "v1.2.3" },
            );
        }
        let mut patches = Vec::new();
        for (i, place) in file.patches.iter().enumerate() {
            let at = node.at_item("patches", i);
            self.check_there(at, "patch", &self.host_path(at, place), Path::exists);
            patches.push(self.recipe_path(at, place));
        }
        Some(GoSpec {
            module: file.module.unwrap_or_default(),
            version,
            dir,
            packages,
            tags: file.tags,
            ldflags: file.ldflags,
            gcflags: file.gcflags,
            patches,
        })
    }
}
