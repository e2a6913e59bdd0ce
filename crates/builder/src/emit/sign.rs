//! The signed manifest beside a root: it lets an initrd take roots that were built after it.

use super::Image;
use super::root::IMAGE;
use bootwright_contract::manifest::{KIND, RootManifest, VERSION, manifest_path, signature_path};

/// `root.json` and its detached signature, if the root is signed.
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
        size: root.disk_size,
        sha256: root.disk_sha256.to_string(),
        tree_sums_sha256: root.export.sums_sha256.to_string(),
    };
    let mut text = serde_json::to_vec_pretty(&manifest).expect("the manifest is plain data");
    text.push(b'\n');
    let signature = key.sign(&text);
    vec![(manifest_path(IMAGE), text), (signature_path(IMAGE), signature)]
}
