//! What a registry or an OCI layout says: manifests, indexes, and an image's configuration.
#![no_main]

use bootwright::source::oci::manifest::{Document, choose, is_image, is_layer, parse_document, parse_platform, sha256_of};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    match parse_document("input", bytes) {
        Ok(Document::Index(index)) => {
            if let Ok(chosen) = choose("input", &index, "linux/amd64") {
                assert!(index.manifests().contains(chosen));
                let _ = sha256_of("input", chosen);
            }
        }
        Ok(Document::Manifest(manifest)) => {
            is_image(&manifest);
            for layer in manifest.layers() {
                is_layer(&layer.media_type().to_string());
                let _ = sha256_of("input", layer);
            }
        }
        Err(error) => assert!(error.to_string().starts_with("`input`: ")),
    }
    if let Ok(platform) = parse_platform("input", bytes) {
        assert!(platform.contains('/'));
    }
});
