//! What the image file of all baked images holds.

use super::bolt::write_database;
use super::databases::{Record, SNAPSHOTTER, core_database, snapshotter_database};
use super::layers::{Layer, LayerError, TimedEntry};
use crate::entry::{Body, Entry, Kind, Sha256};
use crate::error::{Exit, Failure};
use crate::recipe::{Reference, parse_image_name};
use crate::source::BakedImage;
use bootwright_contract::paths;
use std::collections::{BTreeMap, HashMap};

/// Where containerd's plugins keep their things, below its root.
const CONTENT: &str = "io.containerd.content.v1.content";
const METADATA: &str = "io.containerd.metadata.v1.bolt";
/// What stands for the databases among the images' shares.
const OWN: &str = "images";

/// A layer of one or more images.
pub struct Snapshot {
    /// From 1.
    pub number: u64,
    /// Of it and all below it: `sha256:...` (image-spec, config.md, "Layer ChainID").
    pub chain: String,
    /// The place in the list of that which it stands on.
    pub parent: Option<usize>,
    layer: Layer,
    /// The first image that has it.
    image: String,
}

/// All that the image file holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Baked {
    /// Sorted by path, each folder before what is in it.
    pub entries: Vec<BakedEntry>,
    /// The images by name, sorted.
    pub images: Vec<BakedRecord>,
}

/// An image in documents about the build.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BakedRecord {
    /// As the recipe has it.
    pub name: String,
    /// Of its index, or of its manifest where that is what its name stands for: `sha256:...`.
    pub digest: String,
    pub layers: usize,
    /// Recipe file and line.
    pub origin: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct BakedEntry {
    pub entry: Entry,
    /// Of its last change, seconds since 1970.
    pub mtime: u32,
    /// The first image that has it, or [`OWN`].
    pub image: String,
}

/// Why images cannot be baked.
#[derive(Debug, thiserror::Error)]
pub enum BakeError {
    #[error("image `{image}`, layer {number}: {cause}")]
    Layer { image: String, number: usize, cause: LayerError },
    #[error("`{image}` is no name of an image: {problem}")]
    Name { image: String, problem: &'static str },
}

impl From<BakeError> for Failure {
    fn from(e: BakeError) -> Self {
        let help = match &e {
            BakeError::Layer { .. } => "build that image anew: its files have to be such that containerd unpacks them",
            BakeError::Name { .. } => "write `registry.example/repository:tag`",
        };
        Self { exit: Exit::Usage, message: e.to_string(), help: Some(help.into()) }
    }
}

/// Lays images out. Their order does not matter; `snapshotter`: its root below containerd's.
pub fn bake(images: &[&BakedImage], snapshotter: &str) -> Result<Baked, BakeError> {
    let mut images = images.to_vec();
    images.sort_by(|a, b| a.name.cmp(&b.name));
    let mut snapshots: Vec<Snapshot> = Vec::new();
    let mut records: Vec<(&BakedImage, Reference, Option<usize>)> = Vec::new();
    for image in images {
        let name = |problem| BakeError::Name { image: image.name.clone(), problem };
        let reference = parse_image_name(&image.name).map_err(name)?;
        records.push((image, reference, add_layers(image, &mut snapshots)?));
    }
    let known: Vec<Record<'_>> = records
        .iter()
        .map(|(image, reference, top)| Record { image, reference, top: top.map(|top| &*snapshots[top].chain) })
        .collect();
    let mut store = Entries::default();
    store.folder("blobs", 0o700);
    store.folder("blobs/sha256", 0o700);
    store.folder("snapshots", 0o700);
    store.folder("seed", 0o711);
    for (path, mode) in [("", 0o700), ("/blobs", 0o755), ("/blobs/sha256", 0o755)] {
        store.folder(&format!("seed/{CONTENT}{path}"), mode);
    }
    for Record { image, .. } in &known {
        for document in image.documents.iter().chain([&image.config]) {
            let path = format!("blobs/sha256/{}", document.sha256);
            store.link(&format!("seed/{CONTENT}/{path}"), &format!("{}/{path}", paths::IMAGES));
            store.file(&path, 0o444, document.bytes.clone(), &image.name);
        }
    }
    store.folder(&format!("seed/{METADATA}"), 0o700);
    let database = write_database(&core_database(&known, &snapshots));
    store.file(&format!("seed/{METADATA}/meta.db"), 0o600, database, OWN);
    for (end, _) in snapshotter.match_indices('/') {
        store.folder(&format!("seed/{}", &snapshotter[..end]), 0o700);
    }
    store.folder(&format!("seed/{snapshotter}"), 0o700);
    store.folder(&format!("seed/{snapshotter}/snapshots"), 0o700);
    let database = write_database(&snapshotter_database(&snapshots));
    store.file(&format!("seed/{snapshotter}/metadata.db"), 0o600, database, OWN);
    for Snapshot { number, layer, image, .. } in &snapshots {
        let path = format!("snapshots/{number}");
        store.link(&format!("seed/{snapshotter}/{path}"), &format!("{}/{path}", paths::IMAGES));
        store.folder(&path, 0o700);
        store.layer(layer.entries(&format!("{path}/fs")), image);
    }
    let images = known.iter().map(|Record { image, .. }| BakedRecord {
        name: image.name.clone(),
        digest: format!("sha256:{}", image.documents[0].sha256),
        layers: image.layers.len(),
        origin: String::new(),
    });
    Ok(Baked { images: images.collect(), entries: store.0.into_values().collect() })
}

/// The snapshotter's root, unless containerd's configuration names another one.
pub fn snapshotter_root() -> String {
    format!("io.containerd.snapshotter.v1.{SNAPSHOTTER}")
}

/// Unpacks those layers that no image before had. Returns the place of the top one.
fn add_layers(image: &BakedImage, snapshots: &mut Vec<Snapshot>) -> Result<Option<usize>, BakeError> {
    let known: HashMap<String, usize> = snapshots.iter().enumerate().map(|(i, s)| (s.chain.clone(), i)).collect();
    let mut below: Vec<usize> = Vec::new();
    for (number, layer) in image.layers.iter().enumerate() {
        let parent = below.last().copied();
        let diff = format!("sha256:{}", layer.diff_id);
        let chain = match parent {
            None => diff,
            Some(parent) => {
                format!("sha256:{}", Sha256::of(format!("{} {diff}", snapshots[parent].chain).as_bytes()))
            }
        };
        if let Some(there) = known.get(&chain) {
            below.push(*there);
            continue;
        }
        let lower: Vec<&Layer> = below.iter().rev().map(|at| &snapshots[*at].layer).collect();
        let failed = |cause| BakeError::Layer { image: image.name.clone(), number: number + 1, cause };
        let layer = Layer::unpack(&layer.members, &lower).map_err(failed)?;
        let number = snapshots.len() as u64 + 1;
        snapshots.push(Snapshot { number, chain, parent, layer, image: image.name.clone() });
        below.push(snapshots.len() - 1);
    }
    Ok(below.pop())
}

/// By path.
#[derive(Default)]
struct Entries(BTreeMap<String, BakedEntry>);

impl Entries {
    fn add(&mut self, entry: Entry, image: &str) {
        self.0.insert(entry.path.clone(), BakedEntry { entry, mtime: 0, image: image.into() });
    }

    fn folder(&mut self, path: &str, mode: u32) {
        self.add(Entry::of_root(path, Kind::Dir, mode), OWN);
    }

    fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>, image: &str) {
        self.add(Entry::of_root(path, Kind::File(Body::from_bytes(bytes)), mode), image);
    }

    fn link(&mut self, path: &str, target: &str) {
        self.add(Entry::of_root(path, Kind::Symlink(target.into()), 0o777), OWN);
    }

    fn layer(&mut self, entries: Vec<TimedEntry>, image: &str) {
        for TimedEntry { entry, mtime } in entries {
            self.0.insert(entry.path.clone(), BakedEntry { entry, mtime, image: image.into() });
        }
    }
}
