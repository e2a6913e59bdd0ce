//! An image that is baked in: its documents as a registry gives them, and its layers each by itself.

use super::builtin::builtin_image;
use super::layout::{Layout, Wanted, check};
use super::manifest::{Document as Parsed, is_image, parse_document, sha256_of};
use super::{MANIFEST, Oci, Place, bad_name};
use crate::cache::unpacked::Member;
use crate::entry::Sha256;
use crate::fetch::{Context, VendorFiller};
use crate::recipe::{ImageSpec, OciSpec, Reference, parse_image_name, parse_layout};
use crate::source::{PackageFacts, Pin, Pool, Source, SourceError};
use crate::tool::{Needs, Tool};
use oci_spec::image::{Descriptor, MediaType};
use std::collections::BTreeMap;

/// Name of the pins of indexes, with a number behind it: the outermost is 0.
pub(super) const INDEX: &str = "index-";

/// A container image, whole but for the packed layers.
#[derive(Debug, Clone, PartialEq)]
pub struct BakedImage {
    /// As the recipe has it.
    pub name: String,
    /// What the name stands for comes first: an index, or the manifest, which is the last.
    pub documents: Vec<Document>,
    pub config: Document,
    /// The lowest first.
    pub layers: Vec<BakedLayer>,
}

/// An index, manifest or configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub media_type: String,
    pub sha256: Sha256,
    pub bytes: Vec<u8>,
    /// What it names.
    pub children: Vec<Descriptor>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct BakedLayer {
    /// Of the layer without its compression.
    pub diff_id: Sha256,
    pub members: Vec<Member>,
}

/// The source of an `[[image]]`.
pub struct Image<'a> {
    spec: &'a ImageSpec,
    oci: OciSpec,
}

impl<'a> Image<'a> {
    pub fn new(spec: &'a ImageSpec) -> Self {
        Self { spec, oci: spec.as_oci() }
    }

    fn oci(&self) -> Oci<'_> {
        Oci { spec: &self.oci }
    }

    fn reference(&self) -> Result<Reference, SourceError> {
        parse_image_name(&self.spec.name).map_err(|problem| bad_name(&self.spec.name, problem))
    }

    fn place(&self, cx: &Context<'_>) -> Result<Place, SourceError> {
        if let Some(layout) = &self.spec.layout
            && let (dir, None) = parse_layout(&cx.recipe_dir.join(layout))
        {
            return Ok(Place::Layout(Layout { dir, wanted: Some(Wanted::Image(self.reference()?)) }));
        }
        self.oci().place(cx)
    }

    /// A document of the cache.
    fn document(&self, sha256: &Sha256, cx: &Context<'_>) -> Result<Document, SourceError> {
        let oci = self.oci();
        let bytes = oci.load(sha256, cx)?;
        let (kind, children) = match parse_document(&oci.subject(), &bytes)? {
            Parsed::Index(index) => {
                (index.media_type().clone().unwrap_or(MediaType::ImageIndex), index.manifests().clone())
            }
            Parsed::Manifest(manifest) => {
                let layers = manifest.layers().iter().cloned();
                let children = [manifest.config().clone()].into_iter().chain(layers).collect();
                (manifest.media_type().clone().unwrap_or(MediaType::ImageManifest), children)
            }
        };
        Ok(Document { media_type: kind.to_string(), sha256: *sha256, bytes, children })
    }
}

impl Source for Image<'_> {
    fn lock(&self, cx: &Context<'_>) -> Result<Vec<Pin>, SourceError> {
        if self.spec.builtin.is_some() {
            return Ok(Vec::new());
        }
        let (oci, place) = (self.oci(), self.place(cx)?);
        let resolved = oci.resolve(&place, cx)?;
        if !is_image(&resolved.manifest) {
            return Err(oci.bad("is no container image: its configuration is none of one"));
        }
        let target = resolved.indexes.first().unwrap_or(&resolved.bytes);
        if let Some(expected) = self.reference()?.digest {
            let size = target.len() as u64;
            check(&self.spec.name, (expected, size), (Sha256::of(target), size))?;
        }
        let mut pins = oci.pins_of(&place, &resolved, cx)?;
        for (number, bytes) in resolved.indexes.iter().enumerate() {
            let (name, sha256, size) = (format!("{INDEX}{number}"), Sha256::of(bytes), bytes.len() as u64);
            pins.push(Pin { name, version: String::new(), size, sha256, detail: BTreeMap::new() });
        }
        pins.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pins)
    }

    fn fetch(&self, pins: &[Pin], cx: &Context<'_>) -> Result<(), SourceError> {
        if self.spec.builtin.is_some() { Ok(()) } else { self.oci().fetch(pins, cx) }
    }

    fn vendor(&self, pins: &[Pin], to: &VendorFiller<'_>, cx: &Context<'_>) -> Result<(), SourceError> {
        if self.spec.builtin.is_some() { Ok(()) } else { self.oci().vendor(pins, to, cx) }
    }

    fn is_current(&self, pins: &[Pin], cx: &Context<'_>) -> Result<bool, SourceError> {
        Ok(self.spec.layout.is_none() || self.lock(cx)? == pins)
    }

    fn needs(&self, _pins: Option<&[Pin]>) -> Needs {
        Needs { build: [Tool::Mksquashfs].into(), ..Needs::default() }
    }

    fn open(&self, pins: &[Pin], cx: &Context<'_>) -> Result<Pool, SourceError> {
        if let Some(builtin) = self.spec.builtin {
            return Ok(builtin_image(&self.spec.name, builtin));
        }
        let oci = self.oci();
        let pinned = oci.manifest_pin(pins)?;
        let manifest = oci.load_manifest(pinned, cx)?;
        let documents = pins.iter().filter(|pin| pin.name.starts_with(INDEX)).chain([pinned]);
        let documents = documents.map(|pin| self.document(&pin.sha256, cx)).collect::<Result<Vec<_>, _>>()?;
        let diff_ids = oci.diff_ids(&manifest, cx)?;
        if diff_ids.len() != manifest.layers().len() {
            return Err(oci.bad("has a blob among its layers that is no layer"));
        }
        let layers = manifest.layers().iter().zip(diff_ids).map(|(blob, diff_id)| {
            let members = oci.open_layer(blob, Some(diff_id), cx)?.members;
            Ok(BakedLayer { diff_id, members })
        });
        let layers = layers.collect::<Result<Vec<_>, SourceError>>()?;
        let config = sha256_of(&oci.subject(), manifest.config())?;
        let media_type = manifest.config().media_type().to_string();
        let config = Document { media_type, sha256: config, bytes: oci.load(&config, cx)?, children: Vec::new() };
        let facts = PackageFacts {
            name: self.spec.name.clone(),
            version: format!("sha256:{}", documents[0].sha256),
            sha256: Some(documents[0].sha256),
            ..oci.facts(&manifest, pinned)
        };
        let image = BakedImage { name: self.spec.name.clone(), documents, config, layers };
        Ok(Pool { image: Some(image), packages: vec![facts], ..Pool::default() })
    }
}

/// Whether a pin is that of a document that registries keep among manifests.
pub(super) fn is_document(pin: &Pin) -> bool {
    pin.name == MANIFEST || pin.name.starts_with(INDEX)
}
