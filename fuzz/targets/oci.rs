//! What a registry or an OCI layout says: manifests, indexes, and an image's configuration.
#![no_main]

use bootwright::source::oci::manifest::{
    Document, candidates, is_image, is_layer, parse_config, parse_document, platforms_of, sha256_of,
};
use bootwright::source::oci::platform::Platform;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    match parse_document("input", bytes) {
        Ok(Document::Index(index)) => {
            let wanted = Platform::parse("linux/amd64").expect("a platform");
            for candidate in candidates(&index, &wanted) {
                assert!(index.manifests().contains(candidate));
                let _ = sha256_of("input", candidate);
            }
            platforms_of(&index);
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
    if let Ok(config) = parse_config("input", bytes) {
        assert!(config.platform.to_string().contains('/'));
    }
});
