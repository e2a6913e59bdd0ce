//! CycloneDX 1.6 (<https://cyclonedx.org/docs/1.6/json/>) in JSON.

use super::{Bill, Package};
use crate::licence::canonical;
use crate::source::{PackageFacts, PatchFacts};
use crate::utc::utc_time;
use serde_json::{Value, json};

const IMAGE: &str = "image";

/// The document, deterministic: its time is the lock's, its serial number comes from the bill's id.
pub fn document(bill: &Bill<'_>) -> Value {
    let files = bill.files.iter().map(|file| {
        json!({
            "type": "file",
            "bom-ref": format!("file-{}", file.path),
            "name": file.path,
            "hashes": [{ "alg": "SHA-256", "content": file.sha256.to_string() }],
        })
    });
    let components: Vec<Value> = files.chain(bill.packages().iter().map(component)).collect();
    let references: Vec<&Value> = components.iter().map(|component| &component["bom-ref"]).collect();
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{}", uuid(bill.id)),
        "version": 1,
        "metadata": {
            "timestamp": utc_time(bill.time),
            "tools": { "components": [{ "type": "application", "name": "bootwright", "version": env!("CARGO_PKG_VERSION") }] },
            "component": { "type": "operating-system", "bom-ref": IMAGE, "name": bill.recipe, "version": bill.id },
        },
        "dependencies": [{ "ref": IMAGE, "dependsOn": references }],
        "components": components,
    })
}

/// UUID of version 8, whose bits are its maker's own (RFC 9562 section 5.8), from hex digits.
fn uuid(id: &str) -> String {
    let mut digits: Vec<char> =
        id.chars().filter(char::is_ascii_hexdigit).chain(std::iter::repeat('0')).take(32).collect();
    (digits[12], digits[16]) = ('8', '8');
    let part = |from: usize, to: usize| digits[from..to].iter().collect::<String>();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

fn component(listed: &Package<'_>) -> Value {
    let mut found = json!({
        "type": "library",
        "bom-ref": format!("package-{}", listed.id),
        "name": listed.name,
        "properties": [
            { "name": "bootwright:component", "value": listed.component },
            { "name": "bootwright:source", "value": listed.kind },
        ],
    });
    if !listed.version.is_empty() {
        found["version"] = json!(listed.version);
    }
    if let Some(sha256) = listed.sha256() {
        found["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
    }
    if let Some(facts) = listed.facts {
        add_facts(&mut found, facts);
    }
    if !listed.patches.is_empty() {
        let patches: Vec<Value> = listed.patches.iter().map(|patch| pedigree_patch(patch)).collect();
        found["pedigree"] = json!({ "ancestors": [ancestor(listed)], "patches": patches });
    }
    found
}

fn add_facts(found: &mut Value, facts: &PackageFacts) {
    if let Some(purl) = &facts.purl {
        found["purl"] = json!(purl);
    }
    if let Some(supplier) = &facts.supplier {
        found["supplier"] = json!({ "name": supplier });
    }
    match facts.license.as_deref().map(|license| (license, canonical(license))) {
        Some((_, Some(expression))) => {
            found["licenses"] = json!([{ "expression": expression, "acknowledgement": "declared" }]);
        }
        Some((words, None)) => found["licenses"] = json!([{ "license": { "name": words } }]),
        None => {}
    }
    // An expression has no room for the texts of its `LicenseRef-`s, nor for what is to be passed on.
    let mut evidence = json!({});
    if !facts.license_texts.is_empty() {
        let text =
            |(name, text): (&String, &String)| json!({ "license": { "name": name, "text": { "content": text } } });
        evidence["licenses"] = facts.license_texts.iter().map(text).collect();
    }
    if !facts.notices.is_empty() {
        evidence["copyright"] = facts.notices.iter().map(|notice| json!({ "text": notice })).collect();
    }
    if evidence != json!({}) {
        found["evidence"] = evidence;
    }
}

/// What was patched, as its makers publish it.
fn ancestor(listed: &Package<'_>) -> Value {
    let mut found = json!({ "type": "library", "name": listed.name, "version": listed.version });
    if let Some(purl) = listed.facts.and_then(|facts| facts.purl.as_ref()) {
        found["purl"] = json!(purl);
    }
    found
}

fn pedigree_patch(patch: &PatchFacts) -> Value {
    json!({
        "type": "unofficial",
        "diff": { "text": { "contentType": "text/x-diff", "content": patch.diff } },
        "resolves": [{
            "type": "enhancement",
            "id": patch.name,
            "name": patch.name,
            "description": format!("{} (forwarded: {}; guard: {})", patch.description, patch.forwarded, patch.guard),
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_uuids() {
        assert_eq!(uuid("0123456789abcdef0123456789abcdef"), "01234567-89ab-8def-8123-456789abcdef");
        assert_eq!(uuid("0123abcd"), "0123abcd-0000-8000-8000-000000000000");
    }
}
