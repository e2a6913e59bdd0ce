//! `url`: a file by its address.

use crate::recipe::check::Check;
use crate::recipe::file::program_mode;
use crate::recipe::node::TomlNode;
use crate::recipe::place::At;
use crate::recipe::problem::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const TAR_ENDS: [&str; 8] = [".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.zstd"];

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

/// A number, or a string that is one once its variable is filled in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Count {
    Number(u64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UrlSpec {
    /// The same file from several places, tried in turn.
    pub urls: Vec<String>,
    /// Lower-case hex.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Unpack a tar (plain, gzip, xz, zstd) or keep the file as it is, under `name`.
    pub unpack: bool,
    /// Leading path components dropped when unpacking.
    pub strip: u32,
    /// Path (no leading `/`) of a file that is not unpacked.
    pub name: String,
    /// Octal permissions of a file that is not unpacked, `0755`.
    pub mode: String,
}

impl Check<'_> {
    pub(super) fn url(&mut self, node: &TomlNode, place: &str) -> Option<UrlSpec> {
        let file: UrlFile = self.read(Some(node))?;
        let urls: Vec<String> = file.url.into_iter().chain(file.urls).collect();
        for url in &urls {
            if !(url.starts_with("http://") || url.starts_with("https://")) {
                let at = node.get("url").filter(|n| n.text() == Some(url)).map_or(node.at_of("urls"), |n| n.at);
                let problem = Problem::BadValue {
                    found: url.clone(),
                    expected: "an http or https URL",
                    example: "https://example.org/tool-1.0.tar.gz",
                };
                self.report(at, problem);
            }
        }
        let first = urls.first().cloned();
        let first = self.need(first, "url", node, place);
        let sha256 = self.need(file.sha256, "sha256", node, place);
        let size = self.need(file.size, "size", node, place);
        let size = size.and_then(|size| self.count(node.at_of("size"), size));
        let is_sum = |s: &String| s.len() == 64 && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if let Some(found) = sha256.clone().filter(|sha256| !is_sum(sha256)) {
            let problem = Problem::BadValue {
                found,
                expected: "a SHA-256: 64 lower-case hex digits",
                example: "the first word of what `sha256sum FILE` prints",
            };
            self.report(node.at_of("sha256"), problem);
        }
        let (first, sha256, size) = (first?, sha256?, size?);
        let last = first.split(['?', '#']).next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let unpack = file.unpack.unwrap_or_else(|| file.name.is_none() && TAR_ENDS.iter().any(|e| last.ends_with(e)));
        if unpack && file.name.is_some() {
            let reason = "an archive is unpacked";
            self.report(node.at_of("name"), Problem::NotUsed { key: "name", reason });
        }
        if !unpack && file.strip > 0 {
            let reason = "the file is not unpacked";
            self.report(node.at_of("strip"), Problem::NotUsed { key: "strip", reason });
        }
        let name = match unpack {
            true => String::new(),
            false => self.image_file(node.at_of("name"), file.name.as_deref().unwrap_or(last)),
        };
        self.mode(node.at_of("mode"), &file.mode);
        Some(UrlSpec { urls, sha256, size, unpack, strip: file.strip, name, mode: file.mode })
    }

    fn count(&mut self, at: At, count: Count) -> Option<u64> {
        match count {
            Count::Number(n) => Some(n),
            Count::Text(text) => text.parse().ok().or_else(|| {
                let problem =
                    Problem::BadValue { found: text, expected: "a number of bytes", example: "size = 1048576" };
                self.report(at, problem);
                None
            }),
        }
    }
}
