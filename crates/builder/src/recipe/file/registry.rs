//! `[registry]`, as written.

use schemars::JsonSchema;
use serde::Deserialize;

/// How containerd reaches a registry.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryFile {
    /// URLs of servers that are asked before the registry itself, in turn. An empty host is the boot server; `${gateway}` and the like
    /// are filled in on the node.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// File of the image with the certificate authority of the registry and of its mirrors, beside those that everybody trusts.
    pub ca: Option<String>,
}
