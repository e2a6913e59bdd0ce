//! `oci`: an OCI image.

use crate::recipe::check::Check;
use crate::recipe::node::Node;
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
    pub(super) fn oci(&mut self, node: &Node, place: &str) -> Option<OciSpec> {
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

    fn layout(&mut self, node: &Node, text: &str) -> PathBuf {
        let at = node.at_of("layout");
        // The reference follows a colon in the last part; `oci-layout` marks a layout (OCI image-layout.md).
        let dir = match text.rsplit_once(':') {
            Some((dir, reference)) if !reference.contains('/') => dir,
            _ => text,
        };
        let host = self.host_path(at, dir);
        self.check_there(at, "OCI layout", &host.join("oci-layout"), Path::is_file);
        self.recipe_path(at, text)
    }
}
