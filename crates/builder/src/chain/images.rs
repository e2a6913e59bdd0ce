//! The images that lie in `out/`, by their manifests.

use super::{ChainError, FOLDER};
use crate::cluster::{Version, kubelet_version};
use crate::emit::MANIFEST_WORD;
use crate::emit::manifest::{MANIFEST, Manifest, RootRecord, load_manifest};
use crate::recipe::RootMode;
use std::path::Path;

/// An image that can be booted.
#[derive(Debug, Clone, PartialEq)]
pub struct BootImage {
    /// Its folder below `out/`.
    pub name: String,
    pub recipe: String,
    pub summary: String,
    pub image_id: String,
    /// Kernel and initrd, bytes.
    pub boot_bytes: u64,
    /// The recipe's words for the kernel.
    pub cmdline: Vec<String>,
    /// Its root is fetched over HTTP, and the recipe leaves the server open.
    pub root_from_us: bool,
    /// Its initrd takes roots that were signed later, and asks a web server that it is told for what is signed.
    pub asks_for_manifest: bool,
    /// Of the kubelet in it, where that is known.
    pub kubelet: Option<Version>,
}

impl BootImage {
    fn new(name: String, manifest: Manifest) -> Self {
        let words = manifest.cmdline.iter().flat_map(|part| part.split_ascii_whitespace());
        let cmdline: Vec<String> = words.map(String::from).collect();
        let named = cmdline.iter().any(|word| word.starts_with(MANIFEST_WORD));
        let asks = |root: &RootRecord| root.renewable && root.mode != RootMode::Http && !named;
        let asks_for_manifest = manifest.root.as_ref().is_some_and(asks);
        let kubelet = kubelet_version(&manifest.sources);
        Self {
            name,
            recipe: manifest.recipe,
            summary: manifest.summary,
            image_id: manifest.image_id,
            boot_bytes: manifest.boot_files.iter().map(|file| file.size).sum(),
            cmdline,
            root_from_us: manifest.root.as_ref().is_some_and(is_open),
            asks_for_manifest,
            kubelet,
        }
    }
}

/// An empty host stands for the boot server, whose port only we know.
fn is_open(root: &RootRecord) -> bool {
    root.mode == RootMode::Http && root.sources.iter().all(|source| source.starts_with("http:///"))
}

/// All images in `out`, by name.
///
/// # Errors
/// [`ChainError::NoImages`] if there are none; a manifest that cannot be read.
pub fn load_images(out: &Path) -> Result<Vec<BootImage>, ChainError> {
    let mut images = Vec::new();
    let none = || ChainError::NoImages { out: out.into() };
    for entry in std::fs::read_dir(out).map_err(|_| none())? {
        let entry = entry.map_err(ChainError::io("read", out))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let manifest = entry.path().join(MANIFEST);
        if name.starts_with('.') || name == FOLDER || !manifest.is_file() {
            continue;
        }
        images.push(BootImage::new(name, load_manifest(&manifest)?));
    }
    if images.is_empty() {
        return Err(none());
    }
    images.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(images)
}
