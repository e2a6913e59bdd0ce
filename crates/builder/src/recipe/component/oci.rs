//! `oci`: an OCI image.

use crate::recipe::check::Check;
use crate::recipe::node::TomlNode;
use crate::recipe::problem::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// An OCI image: `image`, or `layout`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OciFile {
    /// `registry/repository:tag` or `registry/repository@sha256:...`.
    pub image: Option<String>,
    /// OCI layout folder relative to this file, with an optional `:ref`.
    pub layout: Option<String>,
    /// `os/architecture`.
    #[serde(default = "amd64")]
    pub platform: String,
    /// Speak plain HTTP to the registry (loopback, lab).
    #[serde(default)]
    pub plain_http: bool,
}

fn amd64() -> String {
    "linux/amd64".into()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OciSpec {
    /// `registry/repository:tag` or `@sha256:...`; or
    pub image: Option<String>,
    /// an OCI layout directory, relative to the recipe, with an optional `:ref`.
    pub layout: Option<PathBuf>,
    /// `linux/amd64`
    pub platform: String,
    /// Speak plain HTTP to the registry (loopback, lab).
    pub plain_http: bool,
}

impl Check<'_> {
    pub(super) fn oci(&mut self, node: &TomlNode, place: &str) -> Option<OciSpec> {
        let file: OciFile = self.read(Some(node))?;
        self.exactly_one(node, &["image", "layout"], place)?;
        if file.platform.split('/').filter(|p| !p.is_empty()).count() < 2 {
            let problem = Problem::BadValue {
                found: file.platform.clone(),
                expected: "an operating system and architecture",
                example: "linux/amd64",
            };
            self.report(node.at_of("platform"), problem);
        }
        let layout = file.layout.map(|layout| self.layout(node, &layout));
        Some(OciSpec { image: file.image, layout, platform: file.platform, plain_http: file.plain_http })
    }

    pub(super) fn layout(&mut self, node: &TomlNode, text: &str) -> PathBuf {
        let at = node.at_of("layout");
        let (dir, _) = parse_layout(Path::new(text));
        let host = self.host_path(at, &dir.to_string_lossy());
        // The file that marks a layout (OCI image-layout.md).
        self.check_there(at, "OCI layout", &host.join("oci-layout"), Path::is_file);
        self.recipe_path(at, text)
    }
}

/// Splits `dir[:ref]` of a layout; a `:` in a folder above the last one belongs to the path.
pub fn parse_layout(layout: &Path) -> (PathBuf, Option<String>) {
    let name = layout.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match name.split_once(':') {
        Some((dir, wanted)) => (layout.with_file_name(dir), Some(wanted.into())),
        None => (layout.into(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_may_name_an_image() {
        let split = |text: &str| parse_layout(Path::new(text));
        assert_eq!(split("a:b/images"), ("a:b/images".into(), None));
        assert_eq!(split("../images:v1:x"), ("../images".into(), Some("v1:x".into())));
    }
}
