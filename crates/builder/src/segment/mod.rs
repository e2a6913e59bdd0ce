//! Groups a tree's entries by how often they change: boot, root, images, config; and lays them out as archives of the initramfs.

use crate::entry::{Body, Entry, Kind, Sha256};
use crate::recipe::SegmentName;
use crate::tree::Tree;
use bootwright_contract::paths;
use bootwright_contract::sums::{Sum, format_sums};
use bootwright_contract::{RootImage, Verity};
use std::collections::BTreeMap;

impl SegmentName {
    /// Those that hold files of a tree. Stable first, volatile last, as in `initrd.img`; images lie before the config.
    pub const OF_TREE: [Self; 3] = [Self::Boot, Self::Root, Self::Config];

    /// `boot`, `root`, `images`, `config`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Root => "root",
            Self::Images => "images",
            Self::Config => "config",
        }
    }
}

/// One segment's archive before it is written: what the kernel shall unpack.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Sorted by path, parents included, the sums file too.
    pub entries: Vec<Entry>,
    /// Of the sums file.
    pub sums_sha256: Sha256,
}

/// A path that the layout itself uses is taken by the recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is reserved")]
pub struct Reserved {
    pub path: String,
}

/// Lays out a segment whose files stay files: boot as it is, the root (`image = "cpio"`) and config below their folders.
/// `extra` (`boot.json`) is no part of the sums.
pub fn lay_out(name: SegmentName, tree: &Tree, extra: &[Entry]) -> Result<Archive, Reserved> {
    let prefix = match name {
        // Images have no files in the tree.
        SegmentName::Boot | SegmentName::Images => "",
        SegmentName::Root => relative(paths::ROOT_TREE),
        SegmentName::Config => relative(paths::CONFIG_TREE),
    };
    let mut entries: Vec<Entry> = tree.segment(name).map(|e| below(prefix, &e.entry)).collect();
    if !prefix.is_empty() {
        entries.push(folder(prefix));
    }
    finish(name.as_str(), entries, extra)
}

/// Lays out one node's own files, which the boot loader loads after the image's segments.
pub fn lay_out_node(tree: &Tree) -> Result<Archive, Reserved> {
    let prefix = relative(paths::NODE_TREE);
    let mut entries: Vec<Entry> = tree.segment(SegmentName::Config).map(|e| below(prefix, &e.entry)).collect();
    entries.push(folder(prefix));
    finish(paths::NODE_SUMS, entries, &[])
}

/// Where a segment that is one image file has it.
pub fn image_path(name: SegmentName) -> &'static str {
    match name {
        SegmentName::Images => paths::IMAGES_FILE,
        _ => paths::ROOT_IMAGE,
    }
}

/// Lays out a segment that is one image file: the root, or container images.
pub fn lay_out_image(name: SegmentName, image: Body) -> Result<Archive, Reserved> {
    let path = relative(image_path(name)).to_string();
    finish(name.as_str(), vec![Entry::of_root(path, Kind::File(image), 0o644)], &[])
}

/// Lays out the root as files for a server: the root's own paths, and its sums file.
pub fn lay_out_export(tree: &Tree) -> Result<Archive, Reserved> {
    finish(SegmentName::Root.as_str(), tree.segment(SegmentName::Root).map(|e| e.entry.clone()).collect(), &[])
}

/// The hash of the config segment's sums file, known before the segment is packed: `boot.json` names it.
pub fn config_sums(tree: &Tree) -> Result<Sha256, Reserved> {
    Ok(lay_out(SegmentName::Config, tree, &[])?.sums_sha256)
}

/// The entry that holds the boot config, for [`lay_out`]'s `extra`.
pub fn boot_config_entry(json: Vec<u8>) -> Entry {
    let path = relative(paths::BOOT_CONFIG).to_string();
    Entry::of_root(path, Kind::File(Body::from_bytes(json)), 0o600)
}

/// Whether the tree's entries of that segment are in an image file rather than in the archive.
pub fn is_image(name: SegmentName, image: RootImage) -> bool {
    name == SegmentName::Images || name == SegmentName::Root && image != RootImage::Cpio
}

fn finish(name: &str, entries: Vec<Entry>, extra: &[Entry]) -> Result<Archive, Reserved> {
    let mut all: BTreeMap<String, Entry> = BTreeMap::new();
    let mut sums = Vec::new();
    let mut add = |entry: Entry| match all.insert(entry.path.clone(), entry) {
        None => Ok(()),
        Some(taken) => Err(Reserved { path: taken.path }),
    };
    let mut entries = entries;
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    for entry in entries {
        if let Kind::File(body) = &entry.kind {
            sums.push(Sum { sha256: body.sha256.to_string(), size: body.size, path: format!("/{}", entry.path) });
        }
        add(entry)?;
    }
    let sums = Body::from_bytes(format_sums(&sums).into_bytes());
    let sums_sha256 = sums.sha256;
    let path = format!("{}/{}", relative(paths::SUMS), name);
    add(Entry::of_root(path, Kind::File(sums), 0o644))?;
    add(folder(relative(paths::STAGE)))?;
    add(folder(relative(paths::SUMS)))?;
    for entry in extra {
        add(entry.clone())?;
    }
    Ok(Archive { entries: all.into_values().collect(), sums_sha256 })
}

fn relative(path: &'static str) -> &'static str {
    path.trim_start_matches('/')
}

fn folder(path: &str) -> Entry {
    Entry::of_root(path, Kind::Dir, 0o755)
}

fn below(prefix: &str, entry: &Entry) -> Entry {
    if prefix.is_empty() {
        return entry.clone();
    }
    let mut entry = entry.clone();
    entry.path = format!("{prefix}/{}", entry.path);
    if let Kind::Hardlink(target) = &entry.kind {
        entry.kind = Kind::Hardlink(format!("{prefix}/{target}"));
    }
    entry
}

/// Where each packed segment starts in `initrd.img`, when they are written one after another. Sizes are multiples of 4:
/// the kernel finds a plain cpio after a compressed one only at such an offset (`init/initramfs.c`, `this_header & 3`).
pub fn segment_offsets(segments: &[PackedSegment]) -> Vec<u64> {
    segments
        .iter()
        .scan(0, |at, segment| {
            let start = *at;
            *at += segment.size;
            Some(start)
        })
        .collect()
}

/// A packed segment: a file in the cache whose bytes go into `initrd.img`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PackedSegment {
    pub name: SegmentName,
    /// The packed file in the cache.
    pub path: std::path::PathBuf,
    /// Bytes, padded to a multiple of 4.
    pub size: u64,
    pub sha256: Sha256,
    /// Of its sums file: what the boot config names.
    pub sums_sha256: Sha256,
    /// The program that made the image in it, with its version: `mksquashfs 4.5.1`.
    pub tool: Option<String>,
    /// Bytes after decompression as the kernel unpacks it (cpio with headers).
    pub unpacked: u64,
    /// Sum over its regular files of sizes rounded up to pages: what it occupies in the rootfs tmpfs.
    pub resident: u64,
    pub files: u64,
    /// Of the root segment and that of container images: the bytes of the squashfs or erofs image in it.
    pub image_size: Option<u64>,
    /// Of container images: what proves the image file, whose end is the tree of hashes.
    pub verity: Option<Verity>,
    /// Estimated share of the packed bytes by component.
    pub components: BTreeMap<String, ComponentShare>,
    /// The same by path, of regular files.
    pub file_shares: BTreeMap<String, u64>,
    /// Taken from the cache as it was.
    #[serde(skip)]
    pub reused: bool,
}

/// An image file, and what proves it while it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Proven {
    /// What follows the image, from whole blocks on: zeros up to there, and the tree.
    pub tail: Vec<u8>,
    pub verity: Verity,
    /// Bytes and hash of image and tail.
    pub size: u64,
    pub sha256: Sha256,
}

/// The root of an image whose initrd does not hold it: what its servers are given.
#[derive(Debug, Clone)]
pub struct NetworkRoot {
    /// The packed root segment, the same as a RAM root's: the image is taken out of it.
    pub segment: PackedSegment,
    /// The image, in the segment's file.
    pub image: Body,
    /// The file that a server gives out: the image, and what proves it.
    pub proven: Proven,
    /// The same root as files, with their sums.
    pub export: Archive,
    /// XXH64 of those files one after another, where the root may be mounted as files.
    pub tree_xxh64: Option<String>,
}

/// Container images that the initrd does not hold.
#[derive(Debug, Clone)]
pub struct NetworkImages {
    /// The packed segment, the same as that of a RAM root.
    pub segment: PackedSegment,
    /// The image file, in the segment's file.
    pub image: Body,
}

/// A component's share of a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ComponentShare {
    pub files: u64,
    /// Bytes of its files.
    pub raw: u64,
    /// Its part of the packed bytes, by each file compressed on its own and scaled to the segment's size.
    pub packed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Origin;
    use crate::tree::{Reason, TreeEntry};
    use bootwright_contract::sums::parse_sums;

    fn entry(segment: SegmentName, path: &str, kind: Kind) -> TreeEntry {
        TreeEntry {
            entry: Entry::of_root(path, kind, 0o755),
            component: "test".into(),
            origin: Origin { file: "test.toml".into(), line: 1 },
            reason: Reason::Inline,
            segment,
        }
    }

    fn tree(entries: Vec<TreeEntry>) -> Tree {
        Tree {
            entries: entries.into_iter().map(|e| ((e.segment, e.entry.path.clone()), e)).collect(),
            ..Tree::default()
        }
    }

    fn paths_of(archive: &Archive) -> Vec<&str> {
        archive.entries.iter().map(|e| e.path.as_str()).collect()
    }

    #[test]
    fn each_segment_has_its_place_and_its_sums() {
        let file = || Kind::File(Body::from_bytes(*b"x"));
        let tree = tree(vec![
            entry(SegmentName::Boot, "init", file()),
            entry(SegmentName::Root, "a", file()),
            entry(SegmentName::Root, "b", Kind::Hardlink("a".into())),
            entry(SegmentName::Config, "a", file()),
        ]);
        let boot = lay_out(SegmentName::Boot, &tree, &[]).unwrap();
        assert_eq!(paths_of(&boot), ["bootwright", "bootwright/sums", "bootwright/sums/boot", "init"]);
        let root = lay_out(SegmentName::Root, &tree, &[]).unwrap();
        assert_eq!(paths_of(&root)[1..4], ["bootwright/root", "bootwright/root/a", "bootwright/root/b"]);
        assert_eq!(root.entries[3].kind, Kind::Hardlink("bootwright/root/a".into()));

        let config = lay_out(SegmentName::Config, &tree, &[boot_config_entry(b"{}".to_vec())]).unwrap();
        let Some(Kind::File(sums)) = config.entries.iter().find(|e| e.path.ends_with("sums/config")).map(|e| &e.kind)
        else {
            panic!("no sums file")
        };
        let text = String::from_utf8(sums.read_start(9999).unwrap()).unwrap();
        let sums: Vec<_> = parse_sums(&text).unwrap().into_iter().map(|s| s.path).collect();
        assert_eq!(sums, ["/bootwright/config/a"], "neither boot.json nor the sums themselves");
        assert_eq!(config_sums(&tree), Ok(config.sums_sha256), "boot.json does not change the sums");
    }

    #[test]
    fn a_node_has_a_place_and_sums_of_its_own() {
        let file = Kind::File(Body::from_bytes(*b"x"));
        let node = lay_out_node(&tree(vec![entry(SegmentName::Config, "a", file)])).unwrap();
        let expected =
            ["bootwright", "bootwright/node", "bootwright/node/a", "bootwright/sums", "bootwright/sums/node"];
        assert_eq!(paths_of(&node), expected);
    }

    #[test]
    fn the_layouts_own_paths_are_reserved() {
        let tree = tree(vec![entry(SegmentName::Boot, "bootwright/sums", Kind::Dir)]);
        assert_eq!(lay_out(SegmentName::Boot, &tree, &[]).unwrap_err(), Reserved { path: "bootwright/sums".into() });
    }
}
