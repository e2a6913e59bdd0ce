//! What the manifests of layouts are. Each is read and hashed once, and not for every client that asks for it.

use super::refusal::Refusal;
use crate::entry::Sha256;
use crate::serve::http::Folder;
use crate::source::oci::manifest::{Document, OCI_INDEX, OCI_MANIFEST, parse_document};
use axum::http::HeaderValue;
use std::collections::HashMap;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Largest manifest, bytes: what every registry has to take (distribution-spec, "Pushing manifests").
const MOST_BYTES: u64 = 4 << 20;
/// Of how many is remembered what they are.
const MOST_KNOWN: usize = 10_000;

/// A file as it was: device, inode, bytes, and when it was changed last, which nobody can set (inode(7), `ctime`).
type Stamp = (u64, u64, u64, (i64, i64));

/// What was found when a blob was read.
#[derive(Debug)]
struct ReadBlob {
    stamp: Stamp,
    media_type: Result<HeaderValue, Refusal>,
}

/// What is known of manifests, by digest.
#[derive(Debug, Default)]
pub struct Manifests(Mutex<HashMap<Sha256, ReadBlob>>);

impl Manifests {
    /// The media type of a manifest. What does not hash to its digest is none.
    pub fn media_type(&self, folder: &Folder, path: &Path, digest: Sha256) -> Result<HeaderValue, Refusal> {
        let file = folder.open(path).map_err(|_| Refusal::ManifestUnknown)?;
        let stamp = stamp(&file.metadata().map_err(|_| Refusal::ManifestUnknown)?);
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = known().get(&digest).filter(|read| read.stamp == stamp) {
            return read.media_type.clone();
        }
        let media_type = read_media_type(file, digest);
        let mut known = known();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(digest, ReadBlob { stamp, media_type: media_type.clone() });
        media_type
    }
}

fn stamp(file: &Metadata) -> Stamp {
    (file.dev(), file.ino(), file.size(), (file.ctime(), file.ctime_nsec()))
}

fn read_media_type(file: std::fs::File, digest: Sha256) -> Result<HeaderValue, Refusal> {
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|_| Refusal::ManifestUnknown)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Refusal::NoManifest);
    }
    if Sha256::of(&bytes) != digest {
        return Err(Refusal::Damaged);
    }
    let document = parse_document("manifest", &bytes).map_err(|_| Refusal::NoManifest)?;
    let (media_type, default) = match &document {
        Document::Index(index) => (index.media_type(), OCI_INDEX),
        Document::Manifest(manifest) => (manifest.media_type(), OCI_MANIFEST),
    };
    let media_type = media_type.as_ref().map_or(default.into(), ToString::to_string);
    media_type.parse().map_err(|_| Refusal::NoManifest)
}
