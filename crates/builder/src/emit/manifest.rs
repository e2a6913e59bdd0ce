//! `manifest.json`: every file of an image, where it comes from and why it is there.

use super::{EmitError, Image, SourceRecord};
use crate::baked::BakedRecord;
use crate::budget::Earlier;
use crate::entry::{Kind, Sha256};
use crate::recipe::{Allowance, RootMode, SegmentName};
use crate::segment::ComponentShare;
use crate::tree::{Reason, TreeEntry};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Its name in an image's folder.
pub const MANIFEST: &str = "manifest.json";
/// Layout of the document.
pub const SCHEMA: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    pub recipe: String,
    pub summary: String,
    pub image_id: String,
    /// Seconds since 1970 of the lock.
    pub time: u64,
    pub kernel_release: String,
    pub kernel_component: String,
    pub cmdline: Vec<String>,
    /// `vmlinuz` and `initrd.img`.
    pub boot_files: Vec<BootFile>,
    /// In the order of `initrd.img`.
    pub segments: Vec<SegmentRecord>,
    /// What it needs of a machine. Absent: an older version wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram: Option<RamRecord>,
    /// The root, where it is not in the initrd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootRecord>,
    /// The container images that are baked in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<BakedRecord>,
    /// What they take of their file, by name, where the initrd does not hold it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub image_shares: BTreeMap<String, ComponentShare>,
    pub sources: Vec<SourceRecord>,
    /// That the recipe allows in the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Allowance>,
    /// Program -> version.
    pub tools: BTreeMap<String, String>,
    /// By segment and path.
    pub files: Vec<FileRecord>,
}

/// A file of the image's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BootFile {
    pub path: String,
    pub size: u64,
    pub sha256: Sha256,
}

/// RAM in MiB, as the budget works it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RamRecord {
    pub unpack_mib: u64,
    pub run_mib: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentRecord {
    pub name: SegmentName,
    /// Below the image's folder.
    pub path: String,
    /// In `initrd.img`.
    pub offset: u64,
    pub size: u64,
    pub sha256: Sha256,
    pub unpacked: u64,
    /// Pages that it occupies, in bytes.
    pub resident: u64,
    /// Bytes of the squashfs or erofs image in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<u64>,
    pub components: BTreeMap<String, ComponentShare>,
}

/// A network root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootRecord {
    pub mode: RootMode,
    /// As the boot config names them.
    pub sources: Vec<String>,
    /// The initrd takes other roots, if they are signed.
    #[serde(default)]
    pub renewable: bool,
    /// What the server is given: `root.img`, or `root.tar`.
    pub files: Vec<BootFile>,
    /// Of the image as a disk.
    pub image_size: u64,
    pub image_sha256: Sha256,
    /// Of the sums file in the export tree.
    pub tree_sums_sha256: Sha256,
    pub components: BTreeMap<String, ComponentShare>,
}

/// One file, folder or link of the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileRecord {
    /// No leading `/`.
    pub path: String,
    pub segment: SegmentName,
    pub kind: FileKind,
    /// Octal, `0755`.
    pub mode: String,
    pub uid: u32,
    pub gid: u32,
    /// Of regular files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its part of the packed segment in bytes, estimated. Of regular files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Of links; of device nodes `major:minor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Extended attributes in hex, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
    pub component: String,
    /// Recipe file and line.
    pub origin: String,
    pub reason: Reason,
    /// Whose files of that path it replaced: those of recipes that its own extends, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gave_way: Vec<GaveWay>,
}

/// A file that an extending recipe replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GaveWay {
    pub component: String,
    /// Recipe file and line.
    pub origin: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    Dir,
    File,
    Hardlink,
    Symlink,
    Char,
    Block,
    Fifo,
}

/// Describes an image. `paths`: where its segments lie below its folder. `root_files`: what the server of a network root
/// is given.
pub fn new_manifest(
    image: &Image<'_>,
    boot_files: Vec<BootFile>,
    paths: &[PathBuf],
    root_files: Vec<BootFile>,
) -> Manifest {
    let mut offset = 0;
    let segments = image.segments.iter().zip(paths).map(|(s, path)| {
        let start = offset;
        offset += s.size;
        SegmentRecord {
            name: s.name,
            path: path.display().to_string(),
            offset: start,
            size: s.size,
            sha256: s.sha256,
            unpacked: s.unpacked,
            resident: s.resident,
            image_size: s.image_size,
            components: s.components.clone(),
        }
    });
    Manifest {
        schema: SCHEMA,
        recipe: image.recipe.name.clone(),
        summary: image.recipe.summary.clone(),
        image_id: image.image_id.into(),
        time: image.time,
        kernel_release: image.build.kernel.release.clone(),
        kernel_component: image.recipe.kernel.component.clone(),
        cmdline: image.recipe.kernel.cmdline.clone(),
        boot_files,
        segments: segments.collect(),
        ram: None,
        root: image.root.map(|root| RootRecord {
            mode: image.recipe.root.mode,
            sources: image.recipe.root.sources.clone(),
            renewable: image.is_renewable(),
            files: root_files,
            image_size: root.proven.size,
            image_sha256: root.proven.sha256,
            tree_sums_sha256: root.export.sums_sha256,
            components: root.segment.components.clone(),
        }),
        images: image.baked.to_vec(),
        image_shares: image.images.map(|images| images.segment.components.clone()).unwrap_or_default(),
        sources: image.sources.to_vec(),
        secrets: image.secrets.to_vec(),
        tools: tools(image),
        files: image.build.tree.entries.values().map(|entry| file_record(entry, image)).collect(),
    }
}

/// This program, those that made images of segments, and Go toolchains.
fn tools(image: &Image<'_>) -> BTreeMap<String, String> {
    let own = [("bootwright".to_string(), env!("CARGO_PKG_VERSION").to_string())];
    let elsewhere = image.root.map(|root| &root.segment).into_iter().chain(image.images.map(|images| &images.segment));
    let of_segments = image.segments.iter().chain(elsewhere).filter_map(|s| s.tool.as_deref());
    let of_segments = of_segments.map(|tool| tool.split_once(' ').unwrap_or((tool, "")));
    let toolchains = image.sources.iter().flat_map(|s| &s.pins).filter_map(|pin| pin.detail.get("toolchain"));
    let toolchains = toolchains.map(|version| ("go", version.as_str()));
    own.into_iter().chain(of_segments.chain(toolchains).map(|(tool, version)| (tool.into(), version.into()))).collect()
}

fn file_record(found: &TreeEntry, image: &Image<'_>) -> FileRecord {
    let (entry, tree) = (&found.entry, &image.build.tree);
    let mut packed = image.segments.iter().chain(image.root.map(|root| &root.segment));
    let segment = packed.find(|segment| segment.name == found.segment);
    let (kind, size, sha256, target) = match &entry.kind {
        Kind::Dir => (FileKind::Dir, None, None, None),
        Kind::File(body) => (FileKind::File, Some(body.size), Some(body.sha256), None),
        Kind::Hardlink(target) => (FileKind::Hardlink, None, None, Some(target.clone())),
        Kind::Symlink(target) => (FileKind::Symlink, None, None, Some(target.clone())),
        Kind::CharDevice { major, minor } => (FileKind::Char, None, None, Some(format!("{major}:{minor}"))),
        Kind::BlockDevice { major, minor } => (FileKind::Block, None, None, Some(format!("{major}:{minor}"))),
        Kind::Fifo => (FileKind::Fifo, None, None, None),
    };
    let gave_way = tree.gave_way.get(&(found.segment, entry.path.clone())).into_iter().flatten();
    FileRecord {
        path: entry.path.clone(),
        segment: found.segment,
        kind,
        mode: format!("{:04o}", entry.mode),
        uid: entry.uid,
        gid: entry.gid,
        size,
        packed: segment.and_then(|segment| segment.file_shares.get(&entry.path)).copied(),
        sha256,
        target,
        xattrs: entry.xattrs.iter().map(|(name, value)| (name.clone(), hex::encode(value))).collect(),
        component: found.component.clone(),
        origin: found.origin.to_string(),
        reason: found.reason.clone(),
        gave_way: gave_way.map(|o| GaveWay { component: o.component.clone(), origin: o.origin.to_string() }).collect(),
    }
}

impl Manifest {
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("a manifest is plain data");
        json.push(b'\n');
        json
    }

    /// Regular files by `segment:path`, in bytes.
    pub fn file_sizes(&self) -> BTreeMap<String, u64> {
        let sized = self.files.iter().filter_map(|f| Some((format!("{}:{}", f.segment.as_str(), f.path), f.size?)));
        sized.collect()
    }

    /// Each component's share of each segment, of a network root, and of images beside it.
    fn shares(&self) -> impl Iterator<Item = (&String, &ComponentShare)> {
        let elsewhere = self.root.iter().flat_map(|r| &r.components).chain(&self.image_shares);
        self.segments.iter().flat_map(|s| &s.components).chain(elsewhere)
    }

    /// What each component takes, the kernel's own file with it: as `build` shows it.
    pub fn component_shares(&self) -> BTreeMap<String, ComponentShare> {
        let kernel = self.boot_files.first();
        let kernel = kernel.map(|f| (&self.kernel_component, ComponentShare { files: 1, raw: f.size, packed: f.size }));
        let mut sums: BTreeMap<String, ComponentShare> = BTreeMap::new();
        for (name, share) in self.shares().map(|(name, share)| (name, *share)).chain(kernel) {
            let sum = sums.entry(name.clone()).or_default();
            sum.files += share.files;
            sum.raw += share.raw;
            sum.packed += share.packed;
        }
        sums
    }

    /// What a later build compares itself with.
    pub fn weights(&self) -> Earlier {
        let components = self.component_shares().into_iter().map(|(name, share)| (name, share.packed));
        Earlier { components: components.collect(), files: self.file_sizes() }
    }
}

/// Reads a manifest.
///
/// # Errors
/// [`EmitError::Io`], [`EmitError::Manifest`] also for another [`SCHEMA`].
pub fn load_manifest(path: &Path) -> Result<Manifest, EmitError> {
    let bytes = crate::input_file::read_bytes(path).map_err(EmitError::io("read", path))?;
    let bad = |problem: String| EmitError::Manifest { path: path.into(), problem };
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    match manifest.schema {
        SCHEMA => Ok(manifest),
        other => Err(bad(format!("it has schema {other}, this version reads {SCHEMA}"))),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Of an image without files.
    pub(crate) fn empty() -> Manifest {
        Manifest {
            schema: SCHEMA,
            recipe: "tiny".into(),
            summary: String::new(),
            image_id: "0123".into(),
            time: 0,
            kernel_release: "6.12".into(),
            kernel_component: "kernel".into(),
            cmdline: Vec::new(),
            boot_files: Vec::new(),
            segments: Vec::new(),
            ram: None,
            root: None,
            images: Vec::new(),
            image_shares: BTreeMap::new(),
            sources: Vec::new(),
            secrets: Vec::new(),
            tools: BTreeMap::new(),
            files: Vec::new(),
        }
    }
}
