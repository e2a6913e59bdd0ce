//! The one source of a component.

use super::Check;
use crate::recipe::file::{Count, DebFile, GoFile, OciFile, PathFile, UrlFile};
use crate::recipe::node::{At, Node};
use crate::recipe::problem::Problem;
use crate::recipe::{DebSpec, Edit, GoSpec, OciSpec, PathSpec, SourceSpec, UrlSpec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const TAR_ENDS: [&str; 8] = [".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.zstd"];

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

    fn deb(&mut self, node: &Node, place: &str) -> Option<DebSpec> {
        let file: DebFile = self.read(Some(node))?;
        let packages: Vec<String> = file.package.into_iter().chain(file.packages).collect();
        if packages.is_empty() {
            self.need(None::<()>, "packages", node, place);
        }
        self.globs(node, "without");
        for (i, package) in packages.iter().enumerate() {
            // Debian policy 5.6.1: lower-case letters, digits, plus, minus, period.
            let good = package.starts_with(|c: char| c.is_ascii_alphanumeric())
                && package.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
            if !good {
                let i = if node.get("package").is_some() { i.wrapping_sub(1) } else { i };
                let at = if i == usize::MAX { node.at_of("package") } else { node.at_item("packages", i) };
                let expected = "a Debian package name";
                self.report(at, Problem::BadValue { found: package.clone(), expected, example: "busybox-static" });
            }
        }
        let suite = self.need(file.suite, "suite", node, place)?;
        if suite.is_empty() || suite.contains(|c: char| c.is_whitespace() || c == '/') {
            let problem = Problem::BadValue { found: suite.clone(), expected: "a Debian suite", example: "trixie" };
            self.report(node.at_of("suite"), problem);
        }
        Some(DebSpec {
            suite,
            packages,
            without: file.without,
            areas: file.areas,
            security: file.security,
            depends: file.depends,
        })
    }

    fn url(&mut self, node: &Node, place: &str) -> Option<UrlSpec> {
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

    fn go(&mut self, node: &Node, place: &str) -> Option<GoSpec> {
        let file: GoFile = self.read(Some(node))?;
        let from = self.exactly_one(node, &["module", "dir"], place)?;
        let mut packages = BTreeMap::new();
        for entry in node.get("packages").map_or(&[][..], Node::entries) {
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
        let edits = file.edits.into_iter().map(|e| Edit { file: e.file, find: e.find, replace: e.replace }).collect();
        Some(GoSpec {
            module: file.module.unwrap_or_default(),
            version,
            dir,
            packages,
            tags: file.tags,
            ldflags: file.ldflags,
            gcflags: file.gcflags,
            edits,
        })
    }

    fn oci(&mut self, node: &Node, place: &str) -> Option<OciSpec> {
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

    fn local(&mut self, node: &Node, place: &str) -> Option<PathSpec> {
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
