//! Manifests and indexes (image-spec, manifest.md and image-index.md; docker's "Image Manifest Version 2, Schema 2").

use super::super::SourceError;
use super::platform::Platform;
use crate::entry::Sha256;
use oci_spec::image::{Descriptor, DigestAlgorithm, ImageIndex, ImageManifest};
use serde::Deserialize;

pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Media types of file system layers: tar, maybe compressed.
const LAYERS: [&str; 9] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];
/// Media types of an image's configuration, which names the platform.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// What a registry or layout gives for a name.
#[derive(Debug)]
pub enum Document {
    Index(Box<ImageIndex>),
    Manifest(Box<ImageManifest>),
}

/// Parses a manifest or an index. `subject` is for messages.
pub fn parse_document(subject: &str, bytes: &[u8]) -> Result<Document, SourceError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        schema_version: u32,
        media_type: Option<String>,
        manifests: Option<serde_json::Value>,
        layers: Option<serde_json::Value>,
    }
    let bad = |problem: String| bad(subject, problem);
    let shape: Shape = serde_json::from_slice(bytes).map_err(|e| bad(format!("is no manifest: {e}")))?;
    if shape.schema_version != 2 {
        return Err(bad(format!("has a manifest of schema version {}, 2 is needed", shape.schema_version)));
    }
    // One that could be read as both would mean different things to different tools.
    let is_index = match (shape.manifests.is_some(), shape.layers.is_some()) {
        (true, false) => true,
        (false, true) => false,
        _ => return Err(bad("has a manifest that is neither an image nor an index of images".into())),
    };
    let expected = if is_index { [OCI_INDEX, DOCKER_LIST] } else { [OCI_MANIFEST, DOCKER_MANIFEST] };
    if let Some(found) = shape.media_type.filter(|found| !expected.contains(&found.as_str())) {
        return Err(bad(format!("has a manifest of the media type `{found}`, which is not what it holds")));
    }
    let malformed = |e: oci_spec::OciSpecError| bad(format!("has a malformed manifest: {e}"));
    Ok(match is_index {
        true => Document::Index(Box::new(ImageIndex::from_reader(bytes).map_err(malformed)?)),
        false => Document::Manifest(Box::new(ImageManifest::from_reader(bytes).map_err(malformed)?)),
    })
}

fn bad(subject: &str, problem: String) -> SourceError {
    SourceError::BadInput { subject: subject.into(), problem, help: "name another image or tag".into() }
}

/// The entries of an index that may be for a platform (`os/architecture[/variant]`), the best first, as containerd ranks
/// them. Those that name no platform come last: their configuration tells.
pub fn candidates<'a>(index: &'a ImageIndex, wanted: &Platform) -> Vec<&'a Descriptor> {
    let rank = |descriptor: &Descriptor| match descriptor.platform() {
        Some(platform) => Platform::of(platform).rank_for(wanted),
        None => Some(u32::MAX),
    };
    let mut found: Vec<(u32, &Descriptor)> =
        index.manifests().iter().filter_map(|descriptor| Some((rank(descriptor)?, descriptor))).collect();
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, descriptor)| descriptor).collect()
}

/// The platforms that an index names, for messages.
pub fn platforms_of(index: &ImageIndex) -> String {
    let named = index.manifests().iter().filter_map(|descriptor| descriptor.platform().as_ref());
    named.map(|platform| Platform::of(platform).to_string()).collect::<Vec<_>>().join(", ")
}

/// The error for an image that is not for the platform that is wanted.
pub fn wrong_platform(subject: &str, held: &str, wanted: &str) -> SourceError {
    bad(subject, format!("is not for `{wanted}` but for {}", if held.is_empty() { "nothing" } else { held }))
}

/// SHA-256 of what a descriptor points to.
pub fn sha256_of(subject: &str, descriptor: &Descriptor) -> Result<Sha256, SourceError> {
    let digest = descriptor.digest();
    let hex = (*digest.algorithm() == DigestAlgorithm::Sha256).then(|| digest.digest());
    hex.and_then(Sha256::parse).ok_or_else(|| bad(subject, format!("uses the digest `{digest}`, sha256 is needed")))
}

/// Whether a blob is a layer of a file system.
pub fn is_layer(media_type: &str) -> bool {
    LAYERS.contains(&media_type)
}

/// Whether a manifest is that of an image (not an artifact): its configuration names a platform.
pub fn is_image(manifest: &ImageManifest) -> bool {
    CONFIGS.contains(&manifest.config().media_type().to_string().as_str())
}

/// What an image's configuration says of it (image-spec, config.md).
#[derive(Debug, PartialEq, Eq)]
pub struct Config {
    pub platform: Platform,
    /// SHA-256 of each layer without its compression.
    pub diff_ids: Vec<Sha256>,
}

/// Parses an image's configuration. `subject` is for messages.
pub fn parse_config(subject: &str, config: &[u8]) -> Result<Config, SourceError> {
    #[derive(Deserialize)]
    struct Shape {
        os: String,
        architecture: String,
        #[serde(default)]
        variant: String,
        rootfs: Rootfs,
    }
    #[derive(Deserialize)]
    struct Rootfs {
        diff_ids: Vec<String>,
    }
    let shape: Shape =
        serde_json::from_slice(config).map_err(|e| bad(subject, format!("has a malformed configuration: {e}")))?;
    let sha256 = |digest: &String| {
        let parsed = digest.strip_prefix("sha256:").and_then(Sha256::parse);
        parsed.ok_or_else(|| bad(subject, format!("uses the digest `{digest}`, sha256 is needed")))
    };
    let diff_ids = shape.rootfs.diff_ids.iter().map(sha256).collect::<Result<_, _>>()?;
    Ok(Config { platform: Platform::new(&shape.os, &shape.architecture, &shape.variant), diff_ids })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(platform: &str) -> String {
        let platform = match platform.split('/').collect::<Vec<_>>().as_slice() {
            [os, arch] => format!(r#","platform":{{"os":"{os}","architecture":"{arch}"}}"#),
            [os, arch, variant] => {
                format!(r#","platform":{{"os":"{os}","architecture":"{arch}","variant":"{variant}"}}"#)
            }
            _ => String::new(),
        };
        let digest = Sha256::of(platform.as_bytes());
        format!(r#"{{"mediaType":"{OCI_MANIFEST}","size":7,"digest":"sha256:{digest}"{platform}}}"#)
    }

    fn index(platforms: &[&str]) -> ImageIndex {
        let entries: Vec<String> = platforms.iter().map(|p| entry(p)).collect();
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        let Document::Index(index) = parse_document("i", text.as_bytes()).unwrap() else { panic!() };
        *index
    }

    #[test]
    fn the_platform_decides() {
        let chosen = |held: &[&str], wanted: &str| {
            let held = index(held);
            let found = candidates(&held, &Platform::parse(wanted).unwrap());
            found.iter().map(|d| d.platform().as_ref().map_or("none".into(), |p| Platform::of(p).to_string())).collect()
        };
        let of = |held: &[&str], wanted: &str| -> Vec<String> { chosen(held, wanted) };
        let both = ["unknown/unknown", "linux/arm64/v8", "linux/amd64"];
        assert_eq!(of(&both, "linux/amd64"), ["linux/amd64"]);
        assert_eq!(of(&both, "linux/arm64"), ["linux/arm64"]);
        assert!(of(&both, "linux/riscv64").is_empty() && of(&both, "linux/arm").is_empty());
        assert_eq!(of(&["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"], "linux/amd64"), ["linux/amd64"]);
        assert_eq!(of(&["", "linux/amd64", ""], "linux/amd64"), ["linux/amd64", "none", "none"]);
        assert_eq!(platforms_of(&index(&both)), "unknown/unknown, linux/arm64, linux/amd64");
    }

    #[test]
    fn what_is_no_manifest() {
        for (text, problem) in [
            ("[]", "is no manifest: "),
            (r#"{"schemaVersion":1,"layers":[]}"#, "has a manifest of schema version 1, 2 is needed"),
            (r#"{"schemaVersion":2}"#, "has a manifest that is neither"),
            (r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#, "has a manifest that is neither"),
            (
                r#"{"schemaVersion":2,"layers":[],"mediaType":"application/vnd.oci.image.index.v1+json"}"#,
                "has a manifest of the media type",
            ),
            (r#"{"schemaVersion":2,"layers":[]}"#, "has a malformed manifest: "),
        ] {
            let error = parse_document("i", text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`i`: {problem}")), "{text}: {error}");
        }
    }

    #[test]
    fn only_sha256_is_taken() {
        let text = entry("").replace("sha256:", "sha512:");
        let text = text.replace(&Sha256::of(b"").to_string(), &"a".repeat(128));
        let descriptor: Descriptor = serde_json::from_str(&text).unwrap();
        assert!(sha256_of("i", &descriptor).unwrap_err().to_string().contains("sha256 is needed"));
    }
}
