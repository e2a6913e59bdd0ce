//! `path`: a file or folder of this machine.

use crate::local::Modes;
use crate::recipe::check::Check;
use crate::recipe::node::TomlNode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file or folder of this machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathFile {
    /// Relative to this file.
    pub path: Option<String>,
    /// Path in the image of the file, or the folder that the directory becomes (default: the root).
    #[serde(default)]
    pub to: String,
    /// Path below the folder (of a file its name) -> octal permissions, perhaps with an owner: `0640`, `0640 0:42`.
    #[serde(default)]
    pub modes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathSpec {
    /// File or directory, relative to the recipe.
    pub path: PathBuf,
    /// Path in the image (no leading `/`) of the file, or the folder that the directory becomes.
    pub to: String,
    /// Permissions and owners that are not the usual ones.
    #[serde(default, skip_serializing_if = "Modes::is_empty")]
    pub modes: Modes,
}

impl Check<'_> {
    pub(super) fn local(&mut self, node: &TomlNode, place: &str) -> Option<PathSpec> {
        let file: PathFile = self.read(Some(node))?;
        let path = self.need(file.path, "path", node, place)?;
        let at = node.at_of("path");
        let host = self.host_path(at, &path);
        self.check_there(at, "file or folder", &host, Path::exists);
        let to = self.image_path(node.at_of("to"), &file.to);
        if to.is_empty() && self.on_disk && host.is_file() {
            self.need(None::<()>, "to", node, place);
        }
        let modes = self.modes(node);
        Some(PathSpec { path: self.recipe_path(at, &path), to, modes })
    }
}
