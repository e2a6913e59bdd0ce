//! The manifest of a root, signed, on a web server: with it an initrd takes roots that were built after it.

use crate::{RootImage, Verity};
use serde::{Deserialize, Serialize};

/// [`RootManifest::kind`].
pub const KIND: &str = "bootwright-root";
/// Layout of [`RootManifest`].
pub const VERSION: u32 = 1;
/// Bytes of the detached signature (Ed25519, RFC 8032 section 5.1.6), which is all that its file holds.
pub const SIGNATURE_BYTES: usize = 64;

/// JSON; the signature is over the file's bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootManifest {
    /// [`KIND`]: the same key may sign other things.
    pub kind: String,
    /// [`VERSION`].
    pub version: u32,
    /// Recipe of the image.
    pub recipe: String,
    /// Id of the build that made it.
    pub image_id: String,
    /// Kernel that the image's modules are for.
    pub release: String,
    /// Never falls from build to build.
    pub serial: u64,
    pub image: RootImage,
    /// Bytes.
    pub size: u64,
    /// Hex.
    pub sha256: String,
    /// Hex; of the sums file in the same root as files, for NFS.
    pub tree_sums_sha256: String,
}

/// [`VerityManifest::kind`].
pub const VERITY_KIND: &str = "bootwright-root-verity";

/// How the root of a [`RootManifest`] is proven while it is read. It is a file of its own beside that one, signed by the same key:
/// initrds from before there was one read on what they know, and compare the whole image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerityManifest {
    /// [`VERITY_KIND`].
    pub kind: String,
    /// [`VERSION`].
    pub version: u32,
    /// [`RootManifest::sha256`] of the root that it belongs to.
    pub sha256: String,
    pub verity: Verity,
}

/// Path of the manifest beside `image` (a path or URL, without query): `root.img` -> `root.json`. A manifest's own path
/// stays as it is.
pub fn manifest_path(image: &str) -> String {
    let stem = image.strip_suffix(".img").or_else(|| image.strip_suffix(".json"));
    [stem.unwrap_or(image), ".json"].concat()
}

/// Path of the [`VerityManifest`] beside it: `root.verity.json`.
pub fn verity_path(image: &str) -> String {
    let manifest = manifest_path(image);
    [manifest.trim_end_matches(".json"), ".verity.json"].concat()
}

/// Path of its signature.
pub fn signature_path(image: &str) -> String {
    [&manifest_path(image), ".sig"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_the_image() {
        assert_eq!(manifest_path("/a/root.img"), "/a/root.json");
        assert_eq!(verity_path("/a/root.img"), "/a/root.verity.json");
        assert_eq!(signature_path(&verity_path("/a/root.json")), "/a/root.verity.json.sig");
        assert_eq!(signature_path("/a/root"), "/a/root.json.sig");
        assert_eq!(signature_path("/a/root.json"), "/a/root.json.sig");
    }
}
