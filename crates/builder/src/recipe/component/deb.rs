//! `deb`: Debian packages.

use crate::recipe::check::Check;
use crate::recipe::file::yes;
use crate::recipe::node::TomlNode;
use crate::recipe::problem::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DebSpec {
    /// `trixie`; its `-updates` and `-security` suites are used too unless `security = false`.
    pub suite: String,
    /// Packages; dependencies are resolved by apt, all of them usable for ELF closure.
    pub packages: Vec<String>,
    /// Package names (globs) that the resolution leaves out.
    pub without: Vec<String>,
    /// Archive areas: `main`, `contrib`, `non-free-firmware`, ...
    pub areas: Vec<String>,
    pub security: bool,
    /// Follow Depends; false: just the packages named.
    pub depends: bool,
}

impl Check<'_> {
    pub(super) fn deb(&mut self, node: &TomlNode, place: &str) -> Option<DebSpec> {
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
}
