//! `sbom.spdx.json`: SPDX 2.3 (<https://spdx.github.io/spdx-spec/v2.3/>) in JSON.
//!
//! Packages only: section 8 of the specification wants a SHA-1 of every file, and the manifest lists those with SHA-256.

use super::{BootFile, Image, SourceRecord};
use crate::source::{PackageFacts, Pin};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NONE: &str = "NOASSERTION";
const IMAGE: &str = "SPDXRef-Image";

/// The document, deterministic: its time is the lock's, its namespace comes from the image id.
pub fn document(image: &Image<'_>, boot_files: &[BootFile]) -> Vec<u8> {
    let recipe = &image.recipe.name;
    let mut packages = vec![package(IMAGE, recipe, image.image_id, "OPERATING-SYSTEM")];
    for file in boot_files {
        let mut found = package(&format!("SPDXRef-File-{}", id_part(&file.path)), &file.path, "", "FILE");
        found["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": file.sha256.to_string() }]);
        packages.push(found);
    }
    let mut patched = Vec::new();
    for source in image.sources {
        let found = source_packages(source);
        let (patches, relationships) = patch_packages(source, &found);
        packages.extend(found);
        packages.extend(patches);
        patched.extend(relationships);
    }
    let describes = relationship("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE);
    let contains = packages.iter().skip(1).filter_map(|p| Some(relationship(IMAGE, "CONTAINS", p["SPDXID"].as_str()?)));
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": recipe,
        "documentNamespace": format!("https://spdx.org/spdxdocs/{recipe}-{}", image.image_id),
        "creationInfo": {
            "created": utc_time(image.time),
            "creators": [concat!("Tool: bootwright-", env!("CARGO_PKG_VERSION"))],
        },
        "relationships": std::iter::once(describes).chain(contains).chain(patched).collect::<Vec<_>>(),
        "packages": packages,
    });
    let mut text = serde_json::to_vec_pretty(&document).expect("a document is plain data");
    text.push(b'\n');
    text
}

/// One package a pin, then those that the source knows beside its pins.
fn source_packages(source: &SourceRecord) -> Vec<Value> {
    let mut facts: BTreeMap<&str, &PackageFacts> = source.packages.iter().map(|p| (p.name.as_str(), p)).collect();
    let mut all: Vec<(&str, &str, Option<&Pin>, Option<&PackageFacts>)> = Vec::new();
    for pin in &source.pins {
        all.push((&pin.name, &pin.version, Some(pin), facts.remove(pin.name.as_str())));
    }
    all.extend(facts.into_iter().map(|(name, facts)| (name, facts.version.as_str(), None, Some(facts))));
    let numbered = all.into_iter().enumerate();
    numbered
        .map(|(i, (name, version, pin, facts))| {
            let id = format!("SPDXRef-Package-{}-{i}-{}", id_part(&source.component), id_part(name));
            let mut found = package(&id, name, version, "OTHER");
            found["comment"] = json!(format!("component {}, source {}", source.component, source.kind));
            if let Some(pin) = pin {
                found["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": pin.sha256.to_string() }]);
            }
            if let Some(facts) = facts {
                add_facts(&mut found, facts);
            }
            found
        })
        .collect()
}

/// The patches of a component, and what each of them was applied to (section 11.1, `PATCH_APPLIED`).
fn patch_packages(source: &SourceRecord, packages: &[Value]) -> (Vec<Value>, Vec<Value>) {
    let patches = source.patches.iter().enumerate().map(|(i, patch)| {
        let id = format!("SPDXRef-Patch-{}-{i}-{}", id_part(&source.component), id_part(&patch.name));
        let mut found = package(&id, &patch.name, "", "SOURCE");
        found["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": patch.sha256.to_string() }]);
        found["summary"] = json!(patch.description);
        found["comment"] =
            json!(format!("component {}, forwarded: {}, guard: {}", source.component, patch.forwarded, patch.guard));
        let of =
            packages.iter().find(|package| package["name"] == json!(patch.module)).and_then(|p| p["SPDXID"].as_str());
        (found, of.map(|of| relationship(&id, "PATCH_APPLIED", of)))
    });
    let (found, relationships): (Vec<Value>, Vec<Option<Value>>) = patches.unzip();
    (found, relationships.into_iter().flatten().collect())
}

fn add_facts(found: &mut Value, facts: &PackageFacts) {
    if let Some(license) = facts.license.as_deref() {
        match is_expression(license) {
            true => found["licenseDeclared"] = json!(license),
            false => found["licenseComments"] = json!(license),
        }
    }
    if let Some(supplier) = &facts.supplier {
        found["supplier"] = json!(format!("Organization: {supplier}"));
    }
    if let Some(purl) = &facts.purl {
        let reference =
            json!({ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl });
        found["externalRefs"] = json!([reference]);
    }
}

fn package(id: &str, name: &str, version: &str, purpose: &str) -> Value {
    let mut found = json!({
        "SPDXID": id,
        "name": name,
        "downloadLocation": NONE,
        "filesAnalyzed": false,
        "licenseConcluded": NONE,
        "licenseDeclared": NONE,
        "copyrightText": NONE,
        "supplier": NONE,
        "primaryPackagePurpose": purpose,
    });
    if !version.is_empty() {
        found["versionInfo"] = json!(version);
    }
    found
}

fn relationship(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

/// Letters, digits, `.` and `-`: all that an SPDXID may hold.
fn id_part(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

/// The form of an SPDX licence expression (annex D): identifiers joined by AND, OR, WITH, in parentheses or not.
fn is_expression(license: &str) -> bool {
    let words: Vec<&str> = license.split([' ', '(', ')']).filter(|word| !word.is_empty()).collect();
    let is_operator = |word: &str| matches!(word, "AND" | "OR" | "WITH");
    let is_identifier =
        |word: &str| !is_operator(word) && word.chars().all(|c| c.is_ascii_alphanumeric() || ".-+:".contains(c));
    words.len() % 2 == 1
        && words.iter().enumerate().all(|(i, word)| if i % 2 == 0 { is_identifier(word) } else { is_operator(word) })
}

/// `2026-11-21T09:20:31Z` of seconds since 1970, by the proleptic Gregorian calendar.
fn utc_time(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (1_795_253_431, "2026-11-21T09:30:31Z"),
        ] {
            assert_eq!(utc_time(seconds), expected);
        }
    }

    #[test]
    fn only_expressions_are_declared() {
        for good in ["MIT", "Apache-2.0 OR MIT", "(GPL-2.0-only WITH Linux-syscall-note) AND BSD-3-Clause"] {
            assert!(is_expression(good), "{good}");
        }
        for bad in ["", "GPL, see copyright", "MIT Apache-2.0", "AND", "MIT AND"] {
            assert!(!is_expression(bad), "{bad}");
        }
    }

    #[test]
    fn identifiers_hold_what_spdx_allows() {
        assert_eq!(id_part("k8s.io/kubernetes+x_y"), "k8s.io-kubernetes-x-y");
    }
}
