//! Images and artifacts from a registry or an OCI layout directory.
//!
//! The lock pins the manifest for the platform and every blob by digest; a tag has a say only in `lock`. Layers of an
//! image are laid over each other; a blob of an artifact becomes the file that its title names.

pub mod baked;
mod builtin;
mod challenge;
mod layout;
pub mod manifest;
pub mod platform;
mod registry;
#[cfg(test)]
mod tests;

use super::archive::rootfs::{Contents, Manner, Rootfs};
use super::archive::{Limits, open_tar};
use super::{PackageFacts, Pin, Pool, Source, SourceError};
use crate::cache::read_blob;
use crate::cache::unpacked::{Member, MemberKind, Unpacked};
use crate::entry::{Body, BodyAt, Sha256, Xattrs, parse_entry_path};
use crate::fetch::{Context, FetchError, VendorFiller, held};
use crate::recipe::{OciSpec, Reference, parse_layout, parse_reference};
use layout::{Layout, Wanted, check};
use manifest::{
    Config, Document, candidates, is_image, is_layer, parse_config, parse_document, platforms_of, sha256_of,
    wrong_platform,
};
use oci_spec::image::{
    ANNOTATION_LICENSES, ANNOTATION_TITLE, ANNOTATION_VENDOR, Descriptor, ImageIndex, ImageManifest,
};
use platform::Platform;
use registry::Registry;
use std::collections::BTreeMap;
use std::path::PathBuf;

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

/// An image that was found by its name.
struct Resolved {
    /// The indexes on the way to it, the outermost first; `index.json` of a layout is none of them.
    indexes: Vec<Vec<u8>>,
    /// Of the manifest.
    bytes: Vec<u8>,
    manifest: ImageManifest,
}

impl Resolved {
    fn of(bytes: Vec<u8>, manifest: ImageManifest) -> Self {
        Self { indexes: Vec::new(), bytes, manifest }
    }

    /// The same, found in an index.
    fn within(mut self, index: Vec<u8>) -> Self {
        self.indexes.insert(0, index);
        self
    }
}

/// What a search through indexes came by.
#[derive(Default)]
struct Seen {
    /// For messages.
    platforms: Vec<String>,
    /// The first artifact that names no platform: taken where there is no image.
    artifact: Option<Resolved>,
}

impl Source for Oci<'_> {
    fn lock(&self, cx: &Context<'_>) -> Result<Vec<Pin>, SourceError> {
        let place = self.place(cx)?;
        self.pins_of(&place, &self.resolve(&place, cx)?, cx)
    }

    /// Brings the configuration too, which the manifest pins: it says what the layers unpack to.
    fn fetch(&self, pins: &[Pin], cx: &Context<'_>) -> Result<(), SourceError> {
        let place = self.place(cx)?;
        let bring = |kind, sha256, size| match &place {
            Place::Registry(registry) => registry.bring(kind, sha256, size, cx),
            Place::Layout(layout) => layout.bring(sha256, size, cx),
        };
        for pin in pins {
            let kind = if baked::is_document(pin) { "manifests" } else { "blobs" };
            bring(kind, pin.sha256, pin.size)?;
        }
        let manifest = self.load_manifest(self.manifest_pin(pins)?, cx)?;
        match is_image(&manifest) {
            true => bring("blobs", sha256_of(&self.subject(), manifest.config())?, manifest.config().size()),
            false => Ok(()),
        }
    }

    fn vendor(&self, pins: &[Pin], to: &VendorFiller<'_>, cx: &Context<'_>) -> Result<(), SourceError> {
        self.fetch(pins, cx)?;
        let label = |pin: &Pin| format!("{} {}", self.subject(), pin.name);
        pins.iter().try_for_each(|pin| to.add_blob(&label(pin), &pin.sha256, cx.cache))?;
        let manifest = self.load_manifest(self.manifest_pin(pins)?, cx)?;
        match is_image(&manifest) {
            true => {
                let sha256 = sha256_of(&self.subject(), manifest.config())?;
                Ok(to.add_blob(&format!("{} configuration", self.subject()), &sha256, cx.cache)?)
            }
            false => Ok(()),
        }
    }

    fn is_current(&self, pins: &[Pin], cx: &Context<'_>) -> Result<bool, SourceError> {
        Ok(self.spec.layout.is_none() || self.lock(cx)? == pins)
    }

    fn open(&self, pins: &[Pin], cx: &Context<'_>) -> Result<Pool, SourceError> {
        let pin = self.manifest_pin(pins)?;
        let manifest = self.load_manifest(pin, cx)?;
        let Contents { entries, flaws } = self.lay(&manifest, cx)?;
        Ok(Pool { entries, flaws, packages: vec![self.facts(&manifest, pin)], ..Pool::default() })
    }
}

/// The error for a name that is none.
fn bad_name(image: &str, problem: &str) -> SourceError {
    SourceError::BadInput {
        subject: image.into(),
        problem: problem.into(),
        help: "write `registry.example/repository:tag` or `registry.example/repository@sha256:...`".into(),
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
                let reference = parse_reference(image).map_err(|problem| bad_name(image, problem))?;
                let plain_http = self.spec.plain_http;
                Ok(Place::Registry(Registry { reference, image: image.clone(), plain_http }))
            }
            (None, Some(layout)) => {
                let (dir, wanted) = parse_layout(&cx.recipe_dir.join(layout));
                Ok(Place::Layout(Layout { dir, wanted: wanted.map(Wanted::Ref) }))
            }
            _ => Err(self.bad("it needs either `image` or `layout`")),
        }
    }

    fn tag(&self, place: &Place) -> String {
        match place {
            Place::Registry(registry) => registry.reference.tag.clone().unwrap_or_default(),
            Place::Layout(layout) => layout.wanted.as_ref().map(Wanted::tag).unwrap_or_default(),
        }
    }

    fn manifest_pin<'p>(&self, pins: &'p [Pin]) -> Result<&'p Pin, SourceError> {
        pins.iter().find(|pin| pin.name == MANIFEST).ok_or_else(|| SourceError::BadInput {
            subject: self.subject(),
            problem: "the lock does not pin its manifest".into(),
            help: "renew the pins with `bootwright lock`".into(),
        })
    }

    /// The pins of an image's manifest and of what that names.
    fn pins_of(&self, place: &Place, resolved: &Resolved, cx: &Context<'_>) -> Result<Vec<Pin>, SourceError> {
        let Resolved { bytes, manifest, .. } = resolved;
        if is_image(manifest) {
            self.check_platform(place, manifest.config(), cx)?;
        }
        let (sha256, size) = (Sha256::of(bytes), bytes.len() as u64);
        let media_type = |text: String| BTreeMap::from([("media-type".to_string(), text)]);
        let mut pins = Vec::new();
        for (number, blob) in manifest.layers().iter().enumerate() {
            let kind = blob.media_type().to_string();
            let name = format!("{}-{number:03}", if is_layer(&kind) { "layer" } else { "file" });
            let (sha256, size) = (sha256_of(&self.subject(), blob)?, blob.size());
            pins.push(Pin { name, version: String::new(), size, sha256, detail: media_type(kind) });
        }
        let version = self.tag(place);
        pins.push(Pin { name: MANIFEST.into(), version, size, sha256, detail: BTreeMap::new() });
        pins.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pins)
    }

    /// The pinned manifest, from the cache.
    fn load_manifest(&self, pin: &Pin, cx: &Context<'_>) -> Result<ImageManifest, SourceError> {
        match parse_document(&self.subject(), &self.load(&pin.sha256, cx)?)? {
            Document::Manifest(manifest) => Ok(*manifest),
            Document::Index(_) => Err(self.bad("the lock pins an index, not an image")),
        }
    }

    /// A small body of the cache.
    fn load(&self, sha256: &Sha256, cx: &Context<'_>) -> Result<Vec<u8>, SourceError> {
        let path =
            cx.cache.blob(sha256).ok_or_else(|| SourceError::Fetch(FetchError::Offline { name: self.subject() }))?;
        read_blob(&path, sha256, |blob| {
            let mut bytes = Vec::new();
            let failed = |cause| SourceError::Io { action: "read", path: path.clone(), cause };
            blob.read_to_end(&mut bytes).map_err(failed)?;
            Ok(bytes)
        })
    }

    /// Lays the manifest's layers over each other, and an artifact's files. Each is checked against size and hash of its
    /// descriptor, and what a layer unpacks to against the configuration, whether the cache held it or not.
    fn lay(&self, manifest: &ImageManifest, cx: &Context<'_>) -> Result<Contents, SourceError> {
        let mut diff_ids = self.diff_ids(manifest, cx)?.into_iter();
        let mut rootfs = Rootfs::new(Manner::Layers);
        for blob in manifest.layers() {
            if is_layer(blob.media_type().as_ref()) {
                let name = format!("{} layer {}", self.subject(), blob.digest().digest());
                rootfs.lay(&name, &self.open_layer(blob, diff_ids.next(), cx)?.members);
            } else {
                let sha256 = sha256_of(&self.subject(), blob)?;
                let path = self.body(&sha256, blob.size(), cx)?;
                let at = BodyAt::File { path: path.into(), offset: 0 };
                let kind = MemberKind::File(Body { sha256, size: blob.size(), at });
                let (name, xattrs) = (self.title(blob)?, Xattrs::new());
                rootfs.lay(&self.subject(), &[Member { name, kind, mode: 0o644, uid: 0, gid: 0, xattrs, mtime: 0 }]);
            }
        }
        Ok(rootfs.finish())
    }

    /// The members of a layer, which is what `expected` says without its compression.
    fn open_layer(
        &self,
        blob: &Descriptor,
        expected: Option<Sha256>,
        cx: &Context<'_>,
    ) -> Result<Unpacked, SourceError> {
        let sha256 = sha256_of(&self.subject(), blob)?;
        self.body(&sha256, blob.size(), cx)?;
        let name = format!("{} layer {sha256}", self.subject());
        let unpacked = open_tar(cx.cache, &sha256, &name, Limits::default(), cx.settings.jobs)?;
        if let Some(expected) = expected.filter(|expected| unpacked.stream_sha256 != Some(*expected)) {
            let found = unpacked.stream_sha256.map_or("nothing whole".into(), |found| found.to_string());
            let problem = format!("its layer {sha256} unpacks to {found}, and its configuration says {expected}");
            return Err(self.bad(&problem));
        }
        Ok(unpacked)
    }

    /// What each layer of an image unpacks to; empty for an artifact.
    fn diff_ids(&self, manifest: &ImageManifest, cx: &Context<'_>) -> Result<Vec<Sha256>, SourceError> {
        if !is_image(manifest) {
            return Ok(Vec::new());
        }
        let sha256 = sha256_of(&self.subject(), manifest.config())?;
        self.body(&sha256, manifest.config().size(), cx)?;
        let Config { diff_ids, .. } = parse_config(&self.subject(), &self.load(&sha256, cx)?)?;
        let layers = manifest.layers().iter().filter(|blob| is_layer(blob.media_type().as_ref())).count();
        match diff_ids.len() == layers {
            true => Ok(diff_ids),
            false => {
                let said = diff_ids.len();
                Err(self.bad(&format!("it has {layers} layers, and its configuration speaks of {said}")))
            }
        }
    }

    fn platform(&self) -> Result<Platform, SourceError> {
        Platform::parse(&self.spec.platform).ok_or_else(|| SourceError::BadInput {
            subject: self.spec.platform.clone(),
            problem: "it is no platform".into(),
            help: "write `os/architecture` or `os/architecture/variant`, such as `linux/amd64`".into(),
        })
    }

    /// Follows the name to the manifest for the platform, checking each digest on the way.
    fn resolve(&self, place: &Place, cx: &Context<'_>) -> Result<Resolved, SourceError> {
        let subject = self.subject();
        let (bytes, document) = match place {
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
        let index = match document {
            Document::Manifest(manifest) => return Ok(Resolved::of(bytes, *manifest)),
            Document::Index(index) => index,
        };
        let mut seen = Seen::default();
        let found = self.resolve_in(place, &index, INDEX_DEPTH, &mut seen, cx)?.or(seen.artifact);
        let found = match place {
            Place::Layout(_) => found,
            Place::Registry(_) => found.map(|found| found.within(bytes)),
        };
        found.ok_or_else(|| wrong_platform(&subject, &seen.platforms.join(", "), &self.spec.platform))
    }

    /// The first image of an index, and of those that lie in it, that is for the platform.
    fn resolve_in(
        &self,
        place: &Place,
        index: &ImageIndex,
        depth: usize,
        seen: &mut Seen,
        cx: &Context<'_>,
    ) -> Result<Option<Resolved>, SourceError> {
        let wanted = self.platform()?;
        seen.platforms.extend(Some(platforms_of(index)).filter(|names| !names.is_empty()));
        for descriptor in candidates(index, &wanted) {
            let bytes = self.small(place, descriptor, true, cx)?;
            match parse_document(&self.subject(), &bytes)? {
                Document::Index(_) if depth == 0 => return Err(self.bad("its indexes lie too deep in each other")),
                Document::Index(inner) => {
                    if let Some(found) = self.resolve_in(place, &inner, depth - 1, seen, cx)? {
                        return Ok(Some(found.within(bytes)));
                    }
                }
                Document::Manifest(manifest) if descriptor.platform().is_some() => {
                    return Ok(Some(Resolved::of(bytes, *manifest)));
                }
                Document::Manifest(manifest) if is_image(&manifest) => {
                    let held = self.held_platform(place, manifest.config(), cx)?;
                    if held.rank_for(&wanted).is_some() {
                        return Ok(Some(Resolved::of(bytes, *manifest)));
                    }
                    seen.platforms.push(held.to_string());
                }
                Document::Manifest(artifact) => drop(seen.artifact.get_or_insert(Resolved::of(bytes, *artifact))),
            }
        }
        Ok(None)
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
        let held = self.held_platform(place, config, cx)?;
        match held.rank_for(&self.platform()?) {
            Some(_) => Ok(()),
            None => Err(wrong_platform(&self.subject(), &held.to_string(), &self.spec.platform)),
        }
    }

    fn held_platform(&self, place: &Place, config: &Descriptor, cx: &Context<'_>) -> Result<Platform, SourceError> {
        Ok(parse_config(&self.subject(), &self.small(place, config, false, cx)?)?.platform)
    }

    /// A body of the cache, of that many bytes.
    fn body(&self, sha256: &Sha256, size: u64, cx: &Context<'_>) -> Result<PathBuf, SourceError> {
        let name = format!("{} {sha256}", self.subject());
        held(&name, *sha256, size, cx)?.ok_or_else(|| SourceError::Fetch(FetchError::Offline { name: self.subject() }))
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
        let reference = self.spec.image.as_deref().and_then(|image| parse_reference(image).ok());
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
            ..PackageFacts::default()
        }
    }
}
