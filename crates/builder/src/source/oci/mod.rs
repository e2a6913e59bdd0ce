//! Images and artifacts from a registry or an OCI layout directory.
//!
//! The lock pins the manifest for the platform and every blob by digest; a tag has a say only in `lock`. Layers of an
//! image are laid over each other; a blob of an artifact becomes the file that its title names.

mod challenge;
mod layers;
mod layout;
pub mod manifest;
mod reference;
mod registry;
#[cfg(test)]
mod tests;

use super::archive::{Limits, open_tar};
use super::{Context, PackageFacts, Pin, Pool, Source, SourceError};
use crate::entry::{Body, BodyAt, Entry, Kind, Sha256, parse_entry_path};
use crate::recipe::OciSpec;
use layers::Stack;
use layout::{Layout, check};
use manifest::{
    Document, choose, is_image, is_layer, parse_document, parse_platform, serves, sha256_of, wrong_platform,
};
use oci_spec::image::{ANNOTATION_LICENSES, ANNOTATION_TITLE, ANNOTATION_VENDOR, Descriptor, ImageManifest};
use reference::{Reference, parse_layout};
use registry::Registry;
use std::collections::BTreeMap;

/// Name of the manifest's pin.
const MANIFEST: &str = "manifest";
/// Indexes that may lie in each other before an image comes.
const INDEX_DEPTH: usize = 4;

pub struct Oci<'a> {
    pub spec: &'a OciSpec,
}

/// Where an image is.
#[derive(Debug)]
enum Place {
    Registry(Registry),
    Layout(Layout),
}

impl Source for Oci<'_> {
    fn lock(&self, cx: &Context<'_>) -> Result<Vec<Pin>, SourceError> {
        let place = self.place(cx)?;
        let (bytes, manifest) = self.resolve(&place, cx)?;
        if is_image(&manifest) {
            self.check_platform(&place, manifest.config(), cx)?;
        }
        let (sha256, size) = (Sha256::of(&bytes), bytes.len() as u64);
        let media_type = |text: String| BTreeMap::from([("media-type".to_string(), text)]);
        let mut pins = Vec::new();
        for (number, blob) in manifest.layers().iter().enumerate() {
            let kind = blob.media_type().to_string();
            let name = format!("{}-{number:03}", if is_layer(&kind) { "layer" } else { "file" });
            let (sha256, size) = (sha256_of(&self.subject(), blob)?, blob.size());
            pins.push(Pin { name, version: String::new(), size, sha256, detail: media_type(kind) });
        }
        let version = self.tag(&place);
        pins.push(Pin { name: MANIFEST.into(), version, size, sha256, detail: BTreeMap::new() });
        pins.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pins)
    }

    fn fetch(&self, pins: &[Pin], cx: &Context<'_>) -> Result<(), SourceError> {
        let place = self.place(cx)?;
        pins.iter().try_for_each(|pin| match &place {
            Place::Registry(registry) => {
                let kind = if pin.name == MANIFEST { "manifests" } else { "blobs" };
                registry.bring(kind, pin.sha256, pin.size, cx)
            }
            Place::Layout(layout) => layout.bring(pin.sha256, pin.size, cx),
        })
    }

    fn is_current(&self, pins: &[Pin], cx: &Context<'_>) -> Result<bool, SourceError> {
        Ok(self.spec.layout.is_none() || self.lock(cx)? == pins)
    }

    fn open(&self, pins: &[Pin], cx: &Context<'_>) -> Result<Pool, SourceError> {
        let pin = pins.iter().find(|pin| pin.name == MANIFEST).ok_or_else(|| SourceError::BadInput {
            subject: self.subject(),
            problem: "the lock does not pin its manifest".into(),
            help: "renew the pins with `bootwright lock`".into(),
        })?;
        let path = self.blob(&pin.sha256, cx)?;
        let bytes = std::fs::read(&path).map_err(|cause| SourceError::Io { action: "read", path, cause })?;
        let Document::Manifest(manifest) = parse_document(&self.subject(), &bytes)? else {
            return Err(self.bad("the lock pins an index, not an image"));
        };
        let mut stack = Stack::default();
        for blob in manifest.layers() {
            let sha256 = sha256_of(&self.subject(), blob)?;
            let path = self.blob(&sha256, cx)?;
            if is_layer(blob.media_type().as_ref()) {
                let name = format!("{} layer {sha256}", self.subject());
                let found = open_tar(cx.cache, &path, &sha256, &name, Limits::default(), cx.settings.jobs)?;
                stack.add(&name, found)?;
            } else {
                let at = BodyAt::File { path: path.into(), offset: 0 };
                let kind = Kind::File(Body { sha256, size: blob.size(), at });
                let entry = Entry::of_root(self.title(blob)?, kind, 0o644);
                stack.add(&self.subject(), vec![entry])?;
            }
        }
        Ok(Pool { entries: stack.finish(), packages: vec![self.facts(&manifest, pin)], ..Pool::default() })
    }
}

impl Oci<'_> {
    /// For messages.
    fn subject(&self) -> String {
        let layout = self.spec.layout.as_ref().map(|layout| layout.display().to_string());
        self.spec.image.clone().or(layout).unwrap_or_default()
    }

    fn bad(&self, problem: &str) -> SourceError {
        let help = "name another image or tag, or renew the pins with `bootwright lock`".into();
        SourceError::BadInput { subject: self.subject(), problem: problem.into(), help }
    }

    fn place(&self, cx: &Context<'_>) -> Result<Place, SourceError> {
        match (&self.spec.image, &self.spec.layout) {
            (Some(image), None) => {
                let (reference, plain_http) = (Reference::parse(image)?, self.spec.plain_http);
                Ok(Place::Registry(Registry { reference, image: image.clone(), plain_http }))
            }
            (None, Some(layout)) => {
                let (dir, wanted) = parse_layout(&cx.recipe_dir.join(layout));
                Ok(Place::Layout(Layout { dir, wanted }))
            }
            _ => Err(self.bad("it needs either `image` or `layout`")),
        }
    }

    fn tag(&self, place: &Place) -> String {
        match place {
            Place::Registry(registry) => registry.reference.tag.clone().unwrap_or_default(),
            Place::Layout(layout) => layout.wanted.clone().unwrap_or_default(),
        }
    }

    /// Follows the name to the manifest for the platform, checking each digest on the way.
    fn resolve(&self, place: &Place, cx: &Context<'_>) -> Result<(Vec<u8>, ImageManifest), SourceError> {
        let subject = self.subject();
        let (mut bytes, mut document) = match place {
            Place::Layout(layout) => (Vec::new(), Document::Index(Box::new(layout.index()?))),
            Place::Registry(registry) => {
                let bytes = registry.manifest(&registry.reference.wanted(), cx)?;
                if let Some(expected) = registry.reference.digest {
                    check(&subject, (expected, bytes.len() as u64), (Sha256::of(&bytes), bytes.len() as u64))?;
                }
                let document = parse_document(&subject, &bytes)?;
                (bytes, document)
            }
        };
        for _ in 0..INDEX_DEPTH {
            let index = match document {
                Document::Manifest(manifest) => return Ok((bytes, *manifest)),
                Document::Index(index) => index,
            };
            let chosen = choose(&subject, &index, &self.spec.platform)?;
            bytes = self.small(place, chosen, true, cx)?;
            document = parse_document(&subject, &bytes)?;
        }
        Err(self.bad("its indexes lie too deep in each other"))
    }

    /// A manifest or configuration that a descriptor points to, checked.
    fn small(
        &self,
        place: &Place,
        descriptor: &Descriptor,
        is_manifest: bool,
        cx: &Context<'_>,
    ) -> Result<Vec<u8>, SourceError> {
        let sha256 = sha256_of(&self.subject(), descriptor)?;
        let bytes = match place {
            Place::Layout(layout) => layout.small_blob(&sha256)?,
            Place::Registry(registry) if is_manifest => registry.manifest(&format!("sha256:{sha256}"), cx)?,
            Place::Registry(registry) => registry.small_blob(&sha256, cx)?,
        };
        check(&self.subject(), (sha256, descriptor.size()), (Sha256::of(&bytes), bytes.len() as u64))?;
        Ok(bytes)
    }

    /// An image that came without an index says only in its configuration what it is for.
    fn check_platform(&self, place: &Place, config: &Descriptor, cx: &Context<'_>) -> Result<(), SourceError> {
        let held = parse_platform(&self.subject(), &self.small(place, config, false, cx)?)?;
        let wanted = &self.spec.platform;
        if serves(wanted, &held) || held == *wanted {
            return Ok(());
        }
        Err(wrong_platform(&self.subject(), &held, wanted))
    }

    fn blob(&self, sha256: &Sha256, cx: &Context<'_>) -> Result<std::path::PathBuf, SourceError> {
        cx.cache.blob(sha256).ok_or_else(|| SourceError::Offline { name: self.subject() })
    }

    /// The path of an artifact's file.
    fn title(&self, blob: &Descriptor) -> Result<String, SourceError> {
        let title = blob.annotations().as_ref().and_then(|a| a.get(ANNOTATION_TITLE));
        let kind = blob.media_type();
        let title = title.ok_or_else(|| {
            self.bad(&format!("its blob `{}` of the type `{kind}` is no layer and has no title", blob.digest()))
        })?;
        let bad = |problem: String| SourceError::BadArchive { archive: self.subject(), entry: title.clone(), problem };
        match parse_entry_path(title).map_err(|problem| bad(problem.to_string()))? {
            path if path.is_empty() => Err(bad("a title that names no file".into())),
            path => Ok(path),
        }
    }

    fn facts(&self, manifest: &ImageManifest, pin: &Pin) -> PackageFacts {
        let note = |key: &str| manifest.annotations().as_ref().and_then(|a| a.get(key)).cloned();
        let reference = self.spec.image.as_deref().and_then(|image| Reference::parse(image).ok());
        // package-url/purl-spec, type `oci`: the last part of the repository, and where it is.
        let purl = reference.map(|Reference { registry, repository, .. }| {
            let name = repository.rsplit('/').next().unwrap_or_default().to_string();
            format!("pkg:oci/{name}@sha256%3A{}?repository_url={registry}/{repository}", pin.sha256)
        });
        PackageFacts {
            name: self.subject(),
            version: if pin.version.is_empty() { format!("sha256:{}", pin.sha256) } else { pin.version.clone() },
            license: note(ANNOTATION_LICENSES),
            supplier: note(ANNOTATION_VENDOR),
            purl,
        }
    }
}
