//! SPDX 2.3 (<https://spdx.github.io/spdx-spec/v2.3/>) in JSON.
//!
//! Packages only: section 8 of the specification wants a SHA-1 of every file, and the manifest lists those with SHA-256.

use super::{Bill, Package, id_part};
use crate::source::{PackageFacts, PatchFacts};
use crate::utc::utc_time;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NONE: &str = "NOASSERTION";
const IMAGE: &str = "SPDXRef-Image";

/// The document, deterministic: its time is the lock's, its namespace comes from the bill's id.
pub fn document(bill: &Bill<'_>) -> Value {
    let mut packages = vec![package(IMAGE, bill.recipe, bill.id, "OPERATING-SYSTEM")];
    for file in bill.files {
        let mut found = package(&format!("SPDXRef-File-{}", id_part(&file.path)), &file.path, "", "FILE");
        found["checksums"] = sha256(&file.sha256.to_string());
        packages.push(found);
    }
    let (mut applied, mut texts) = (Vec::new(), BTreeMap::new());
    for listed in bill.packages() {
        let found = of_source(&listed);
        let of = found["SPDXID"].as_str().unwrap_or_default().to_string();
        packages.push(found);
        for (i, patch) in listed.patches.iter().enumerate() {
            let patch = patch_package(patch, &listed, i);
            applied.push(relationship(patch["SPDXID"].as_str().unwrap_or_default(), "PATCH_APPLIED", &of));
            packages.push(patch);
        }
        texts.extend(listed.facts.into_iter().flat_map(|facts| &facts.license_texts));
    }
    let describes = relationship("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE);
    let contains = packages.iter().skip(1).filter_map(|p| Some(relationship(IMAGE, "CONTAINS", p["SPDXID"].as_str()?)));
    let relationships: Vec<Value> = std::iter::once(describes).chain(contains).chain(applied).collect();
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": bill.recipe,
        "documentNamespace": format!("https://spdx.org/spdxdocs/{}-{}", bill.recipe, bill.id),
        "creationInfo": {
            "created": utc_time(bill.time),
            "creators": [concat!("Tool: bootwright-", env!("CARGO_PKG_VERSION"))],
        },
        "relationships": relationships,
        "packages": packages,
    });
    // Section 10: every `LicenseRef-` has its text.
    let texts: Vec<Value> =
        texts.into_iter().map(|(name, text)| json!({ "licenseId": name, "extractedText": text })).collect();
    if !texts.is_empty() {
        document["hasExtractedLicensingInfos"] = Value::Array(texts);
    }
    document
}

fn of_source(listed: &Package<'_>) -> Value {
    let mut found = package(&format!("SPDXRef-Package-{}", listed.id), listed.name, listed.version, "OTHER");
    found["comment"] = json!(format!("component {}, source {}", listed.component, listed.kind));
    if let Some(hex) = listed.sha256() {
        found["checksums"] = sha256(&hex);
    }
    if let Some(facts) = listed.facts {
        add_facts(&mut found, facts);
    }
    found
}

/// A patch, which stands beside what it was applied to (section 11.1, `PATCH_APPLIED`).
fn patch_package(patch: &PatchFacts, of: &Package<'_>, number: usize) -> Value {
    let id = format!("SPDXRef-Patch-{}-{number}-{}", of.id, id_part(&patch.name));
    let mut found = package(&id, &patch.name, "", "SOURCE");
    found["checksums"] = sha256(&patch.sha256.to_string());
    found["summary"] = json!(patch.description);
    found["comment"] =
        json!(format!("component {}, forwarded: {}, guard: {}", of.component, patch.forwarded, patch.guard));
    found
}

fn add_facts(found: &mut Value, facts: &PackageFacts) {
    if let Some(license) = facts.license.as_deref() {
        match crate::licence::canonical(license) {
            Some(expression) => found["licenseDeclared"] = json!(expression),
            None => found["licenseComments"] = json!(license),
        }
    }
    if !facts.notices.is_empty() {
        found["attributionTexts"] = json!(facts.notices);
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

fn sha256(hex: &str) -> Value {
    json!([{ "algorithm": "SHA256", "checksumValue": hex }])
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
