//! `[[component]]` and its sources, as written.

use super::{SecretsWord, program_mode, yes};
use crate::recipe::SegmentName;
use schemars::JsonSchema;
use serde::Deserialize;
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

/// Debian packages, resolved and verified by apt.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DebFile {
    /// Suite: `trixie`.
    pub suite: Option<String>,
    /// One package; or `packages`.
    pub package: Option<String>,
    #[serde(default)]
    pub packages: Vec<String>,
    /// Package names (globs) that the resolution leaves out.
    #[serde(default)]
    pub without: Vec<String>,
    /// Archive areas.
    #[serde(default = "main_area")]
    pub areas: Vec<String>,
    /// Use the suite's security updates.
    #[serde(default = "yes")]
    pub security: bool,
    /// Follow Depends; false: just the packages named.
    #[serde(default = "yes")]
    pub depends: bool,
}

fn main_area() -> Vec<String> {
    vec!["main".into()]
}

/// A file by URL.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UrlFile {
    /// One place; or `urls`.
    pub url: Option<String>,
    /// The same file from several places, tried in turn.
    #[serde(default)]
    pub urls: Vec<String>,
    /// 64 hex digits; required.
    pub sha256: Option<String>,
    /// Bytes; required.
    pub size: Option<Count>,
    /// Unpack a tar. Default: when the URL ends as a tar does (`.tar`, `.tar.gz`, `.tgz`, `.tar.xz`, `.tar.zst`).
    pub unpack: Option<bool>,
    /// Leading path components dropped when unpacking.
    #[serde(default)]
    pub strip: u32,
    /// Path in the image of a file that is not unpacked.
    pub name: Option<String>,
    /// Octal permissions of a file that is not unpacked.
    #[serde(default = "program_mode")]
    pub mode: String,
}

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
    /// Edits of source files of other people's packages, for this build.
    #[serde(default)]
    pub edits: Vec<EditFile>,
}

/// A number, or a string that is one once its variable is filled in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Count {
    Number(u64),
    Text(String),
}

fn small_ldflags() -> String {
    "-s -w -buildid=".into()
}

/// One edit of a Go source file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EditFile {
    /// Import path and file name: `text/template/exec.go`.
    pub file: String,
    /// Text that is there exactly once.
    pub find: String,
    /// What stands there instead.
    pub replace: String,
}

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
