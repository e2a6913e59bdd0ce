//! The signed manifests beside a root: they let an initrd take roots that were built after it.

use super::Image;
use super::root::IMAGE;
use bootwright_contract::manifest::{
    KIND, RootManifest, VERITY_KIND, VERSION, VerityManifest, manifest_path, signature_path, verity_path,
};
use serde::Serialize;

/// `root.json`, `root.verity.json` and their detached signatures, if the root is signed.
pub fn signed_manifest(image: &Image<'_>) -> Vec<(String, Vec<u8>)> {
    let (Some((key, serial)), Some(root)) = (image.signing, image.root) else { return Vec::new() };
    let manifest = RootManifest {
        kind: KIND.into(),
        version: VERSION,
        recipe: image.recipe.name.clone(),
        image_id: image.image_id.into(),
        release: image.build.kernel.release.clone(),
        serial,
        image: image.recipe.root.image,
        size: root.proven.size,
        sha256: root.proven.sha256.to_string(),
        tree_sums_sha256: root.export.sums_sha256.to_string(),
    };
    let proof = VerityManifest {
        kind: VERITY_KIND.into(),
        version: VERSION,
        sha256: root.proven.sha256.to_string(),
        verity: root.proven.verity.clone(),
    };
    let [manifest, proof] = [to_text(&manifest), to_text(&proof)];
    let (path, signed_manifest, signed_proof) = (verity_path(IMAGE), key.sign(&manifest), key.sign(&proof));
    vec![
        (manifest_path(IMAGE), manifest),
        (signature_path(IMAGE), signed_manifest),
        (signature_path(&path), signed_proof),
        (path, proof),
    ]
}

fn to_text(manifest: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(manifest).expect("a manifest is plain data");
    text.push(b'\n');
    text
}
