//! The two databases in which containerd keeps what it has: its core's, and that of its overlay snapshotter.
//!
//! Laid out as containerd 2.2 to 2.4 do, all of them with the same source for it: core/metadata/buckets.go (schema `v1`, version 4
//! of core/metadata/db.go) and core/snapshots/storage/bolt.go. Sizes of snapshots are 0: they take no RAM of a node.

use super::bolt::Bucket;
use super::store::Snapshot;
use crate::recipe::Reference;
use crate::source::{BakedImage, Document};
use std::collections::{BTreeMap, BTreeSet};

/// What kubelet's requests run in.
const NAMESPACE: &str = "k8s.io";
pub const SNAPSHOTTER: &str = "overlayfs";
/// core/metadata/db.go, `dbVersion`.
const VERSION: i64 = 4;
/// core/snapshots: a layer that others may stand on.
const COMMITTED: u8 = 3;
/// An image as the databases know it.
pub struct Record<'a> {
    pub image: &'a BakedImage,
    pub reference: &'a Reference,
    /// Chain ID of its top layer; an image may have none.
    pub top: Option<&'a str>,
}

/// `meta.db`: images, blobs, snapshots.
pub fn core_database(images: &[Record<'_>], snapshots: &[Snapshot]) -> Bucket {
    let mut root = Bucket::default();
    let schema = root.bucket("v1");
    schema.put("version", varint(VERSION));
    let namespace = schema.bucket(NAMESPACE);
    for record in images {
        add_image(namespace.bucket("images"), record);
    }
    let content = namespace.bucket("content").bucket("blob");
    for (digest, (size, labels)) in blobs(images) {
        let blob = content.bucket(digest);
        add_times(blob);
        blob.put("size", varint(size as i64));
        add_labels(blob, labels);
    }
    let layers = namespace.bucket("snapshots").bucket(SNAPSHOTTER);
    layers.sequence = snapshots.len() as u64;
    for snapshot in snapshots {
        let layer = layers.bucket(&snapshot.chain);
        layer.put("name", snapshot_key(snapshot));
        add_times(layer);
        add_labels(layer, [("containerd.io/snapshot.ref".into(), snapshot.chain.clone())]);
        if let Some(parent) = snapshot.parent {
            let parent = &snapshots[parent].chain;
            layer.put("parent", parent);
            layers.bucket(parent).bucket("children").put(&snapshot.chain, "");
        }
    }
    root
}

/// The snapshotter's `metadata.db`.
pub fn snapshotter_database(snapshots: &[Snapshot]) -> Bucket {
    let mut root = Bucket::default();
    let schema = root.bucket("v1");
    let layers = schema.bucket("snapshots");
    layers.sequence = snapshots.len() as u64;
    for snapshot in snapshots {
        let layer = layers.bucket(snapshot_key(snapshot));
        layer.put("id", uvarint(snapshot.number));
        layer.put("kind", [COMMITTED]);
        if let Some(parent) = snapshot.parent {
            layer.put("parent", snapshot_key(&snapshots[parent]));
        }
        add_times(layer);
        add_labels(layer, [("containerd.io/snapshot.ref".into(), snapshot.chain.clone())]);
        layer.put("inodes", varint(0));
        layer.put("size", varint(0));
    }
    let parents = schema.bucket("parents");
    for snapshot in snapshots {
        if let Some(parent) = snapshot.parent {
            let numbers = [uvarint(snapshots[parent].number), vec![0], uvarint(snapshot.number)];
            parents.put(numbers.concat(), snapshot_key(snapshot));
        }
    }
    root
}

/// What the core calls a layer when it speaks to the snapshotter.
fn snapshot_key(snapshot: &Snapshot) -> String {
    format!("{NAMESPACE}/{}/{}", snapshot.number, snapshot.chain)
}

/// Under the names that the CRI plugin gives an image that it has pulled: the tag's, the digest's, the configuration's.
fn add_image(images: &mut Bucket, Record { image, reference, .. }: &Record<'_>) {
    let target = &image.documents[0];
    let tag = reference.tag.as_ref().map(|tag| format!("{}:{tag}", reference.name()));
    let names = [format!("{}@{}", reference.name(), digest(target)), digest(&image.config)];
    for name in names.into_iter().chain(tag) {
        let record = images.bucket(name);
        add_times(record);
        let labels = ["image=managed", "pinned=pinned"].map(|label| format!("io.cri-containerd.{label}"));
        add_labels(record, labels.iter().filter_map(|label| label.split_once('=')).map(|(k, v)| (k.into(), v.into())));
        let place = record.bucket("target");
        place.put("digest", digest(target));
        place.put("mediatype", &target.media_type);
        place.put("size", varint(target.bytes.len() as i64));
    }
}

type Labels = BTreeMap<String, String>;

/// Sizes and labels of all documents, by digest. The labels keep what they name from being collected.
fn blobs(images: &[Record<'_>]) -> BTreeMap<String, (usize, Labels)> {
    let mut blobs: BTreeMap<String, (usize, Labels)> = BTreeMap::new();
    let mut sources: BTreeMap<String, BTreeMap<String, BTreeSet<&str>>> = BTreeMap::new();
    for Record { image, reference, top } in images {
        for document in image.documents.iter().chain([&image.config]) {
            let (_, labels) = blobs.entry(digest(document)).or_insert((document.bytes.len(), Labels::new()));
            labels.extend(child_labels(document));
            let host = reference.registry.rsplit_once(':').map_or(&*reference.registry, |(host, _)| host);
            let key = format!("containerd.io/distribution.source.{host}");
            sources.entry(digest(document)).or_default().entry(key).or_default().insert(&reference.repository);
        }
        let (_, labels) = blobs.get_mut(&digest(&image.config)).expect("just put there");
        labels.extend(top.map(|top| (format!("containerd.io/gc.ref.snapshot.{SNAPSHOTTER}"), top.to_string())));
    }
    for (digest, found) in sources {
        let (_, labels) = blobs.get_mut(&digest).expect("it has the same keys");
        labels.extend(found.into_iter().map(|(key, all)| (key, all.into_iter().collect::<Vec<_>>().join(","))));
    }
    blobs
}

/// core/images/mediatypes.go, `ChildGCLabels`, numbered as core/images/handlers.go does.
fn child_labels(document: &Document) -> Labels {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut labels = Labels::new();
    for child in &document.children {
        let kind = child.media_type().to_string();
        let word = match kind.as_str() {
            kind if kind.contains(".config.") || kind.contains(".container.image.") => "config",
            kind if kind.contains(".layer.") || kind.contains(".rootfs.") => "l.",
            kind if kind.ends_with(".manifest.v1+json") || kind.ends_with(".manifest.v2+json") => "m.",
            _ => "",
        };
        let count = counts.entry(word).or_default();
        let number = if word == "config" && *count == 0 { String::new() } else { count.to_string() };
        *count += 1;
        labels.insert(format!("containerd.io/gc.ref.content.{word}{number}"), child.digest().to_string());
    }
    labels
}

fn digest(document: &Document) -> String {
    format!("sha256:{}", document.sha256)
}

fn add_labels(bucket: &mut Bucket, labels: impl IntoIterator<Item = (String, String)>) {
    for (key, value) in labels {
        bucket.bucket("labels").put(key, value);
    }
}

/// 1970, as Go's `time.Time.MarshalBinary` writes it: version, seconds since the year 1, nanoseconds, and -1 for UTC.
fn add_times(bucket: &mut Bucket) {
    const FROM_YEAR_1_TO_1970: u64 = 62_135_596_800;
    let time = [&[1][..], &FROM_YEAR_1_TO_1970.to_be_bytes(), &[0; 4], &[0xff; 2]].concat();
    bucket.put("createdat", &time);
    bucket.put("updatedat", &time);
}

/// Go's `binary.PutUvarint`: seven bits a byte, the lowest first.
fn uvarint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// Go's `binary.PutVarint` of a number that is not negative.
fn varint(number: i64) -> Vec<u8> {
    uvarint(number.unsigned_abs() << 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_gos_encoding() {
        for (number, bytes) in [(0, &[0][..]), (1, &[2]), (63, &[126]), (64, &[0x80, 1]), (4, &[8]), (300, &[0xd8, 4])]
        {
            assert_eq!(varint(number), bytes, "{number}");
        }
        assert_eq!(uvarint(300), [0xac, 2]);
    }
}
