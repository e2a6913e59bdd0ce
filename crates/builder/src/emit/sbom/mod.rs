//! Software bills of materials: what an image is made from, by package, with licences and patches.
//!
//! Packages only: the manifest lists the files.

mod cyclonedx;
mod spdx;

use super::{BootFile, SourceRecord};
use crate::entry::Sha256;
use crate::source::{PackageFacts, PatchFacts, Pin};
use serde_json::Value;
use std::collections::BTreeMap;

/// In which formats the bill is written beside an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SbomFormats {
    /// `sbom.spdx.json`
    #[default]
    Spdx,
    /// `sbom.cdx.json` as well
    Cyclonedx,
}

impl SbomFormats {
    /// Names and bytes of the documents.
    pub fn documents(self, bill: &Bill<'_>) -> Vec<(String, Vec<u8>)> {
        let spdx = (SPDX.to_string(), pretty(&spdx::document(bill)));
        match self {
            Self::Spdx => vec![spdx],
            Self::Cyclonedx => vec![spdx, (CYCLONEDX.to_string(), pretty(&cyclonedx::document(bill)))],
        }
    }
}

/// The SPDX document that an image carries in its root: without kernel, initrd and root, which hold it, and named by a hash of
/// itself.
pub fn carried(recipe: &str, time: u64, sources: &[SourceRecord]) -> Vec<u8> {
    let document = |id: &str| {
        let bill = Bill { recipe, id, time, files: &[], sources };
        let mut text = serde_json::to_vec(&spdx::document(&bill)).expect("a document is plain data");
        text.push(b'\n');
        text
    };
    document(&Sha256::of(&document("")).to_string()[..32])
}

const SPDX: &str = "sbom.spdx.json";
const CYCLONEDX: &str = "sbom.cdx.json";

/// What a bill is made from, whatever its format.
pub struct Bill<'a> {
    pub recipe: &'a str,
    /// 32 hex digits that name what the bill is of.
    pub id: &'a str,
    /// Seconds since 1970 of the lock.
    pub time: u64,
    /// Kernel, initrd and root.
    pub files: &'a [BootFile],
    pub sources: &'a [SourceRecord],
}

/// A package of a bill.
pub(super) struct Package<'a> {
    /// Unlike that of any other one: letters, digits, `.` and `-`.
    id: String,
    component: &'a str,
    /// Kind of its source.
    kind: &'a str,
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pin: Option<&'a Pin>,
    facts: Option<&'a PackageFacts>,
    patches: Vec<&'a PatchFacts>,
}

impl Package<'_> {
    /// SHA-256 of its archive in hex, where it is known.
    fn sha256(&self) -> Option<String> {
        let known = self.pin.map(|pin| pin.sha256).or(self.facts.and_then(|facts| facts.sha256));
        known.map(|sha256| sha256.to_string())
    }
}

impl Bill<'_> {
    /// All packages, in the order of components.
    fn packages(&self) -> Vec<Package<'_>> {
        self.sources.iter().flat_map(packages_of).collect()
    }
}

/// One package a pin, then those that the source knows beside its pins.
pub(super) fn packages_of(source: &SourceRecord) -> Vec<Package<'_>> {
    let mut facts: BTreeMap<(&str, &str), &PackageFacts> = BTreeMap::new();
    for package in &source.packages {
        facts.insert((&package.name, &package.version), package);
    }
    let mut all: Vec<(&str, &str, Option<&Pin>, Option<&PackageFacts>)> = Vec::new();
    for pin in &source.pins {
        let known = facts.keys().copied().find(|(name, _)| *name == pin.name);
        let known = known.and_then(|key| facts.remove(&key));
        // Modules that a program might take are pinned; what it takes is known when it is built.
        if known.is_some() || source.kind != "go" || pin.version.is_empty() {
            all.push((&pin.name, &pin.version, Some(pin), known));
        }
    }
    all.extend(facts.into_iter().map(|((name, version), facts)| (name, version, None, Some(facts))));
    let numbered = all.into_iter().enumerate();
    numbered
        .map(|(i, (name, version, pin, facts))| Package {
            id: format!("{}-{i}-{}", id_part(&source.component), id_part(name)),
            component: &source.component,
            kind: &source.kind,
            name,
            version,
            pin,
            facts,
            patches: source.patches.iter().filter(|patch| patch.module == name).collect(),
        })
        .collect()
}

/// Letters, digits, `.` and `-`: all that an SPDXID may hold.
fn id_part(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

fn pretty(document: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(document).expect("a document is plain data");
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_hold_what_spdx_allows() {
        assert_eq!(id_part("k8s.io/kubernetes+x_y"), "k8s.io-kubernetes-x-y");
    }
}
