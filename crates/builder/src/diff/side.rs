//! What is compared: an image of ours by its manifest, or any initrd by what is in it.

use super::Weight;
use crate::budget::ram::{Initrd, RootfsLimit, decoder_window, unpack_need};
use crate::emit::manifest::{FileKind, FileRecord, Manifest};
use crate::entry::Sha256;
use crate::input_file::open_regular;
use crate::inspect::initrd::{InitrdSegment, SegmentPacking, read_initrd};
use crate::inspect::newc::InitrdLimits;
use crate::inspect::report::folder_of;
use crate::inspect::{InspectError, load_image};
use crate::recipe::{Compression, SegmentName};
use crate::segment::ComponentShare;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Seek;
use std::path::Path;

/// One side of a comparison.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// In words.
    pub title: String,
    /// Equal for what is the same byte for byte.
    pub identity: String,
    /// Bytes by name: what a loader loads, and what a server of the root holds.
    pub parts: BTreeMap<String, u64>,
    pub settings: BTreeMap<String, String>,
    pub ram_mib: BTreeMap<String, u64>,
    /// Versions by component and name.
    pub packages: BTreeMap<(String, String), BTreeSet<String>>,
    /// By segment and path; kernel modules by name.
    pub files: BTreeMap<String, SideFile>,
    pub has_packed: bool,
    pub names_components: bool,
    /// Of an image of ours: the kernel's own file and baked container images count too.
    pub components: BTreeMap<String, ComponentShare>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SideFile {
    /// With a `/` in front.
    pub path: String,
    pub component: Option<String>,
    pub size: u64,
    pub packed: Option<u64>,
    /// Kind and hash or target.
    pub content: String,
    /// Mode, owner and extended attributes.
    pub attributes: String,
    pub is_module: bool,
}

impl SideFile {
    pub fn weight(&self, weight: Weight) -> u64 {
        match weight {
            Weight::Packed => self.packed.unwrap_or(0),
            Weight::Unpacked => self.size,
        }
    }
}

/// Looks at an image's folder, or at an initrd.
///
/// # Errors
/// What is neither, or cannot be read.
pub fn load_side(path: &Path) -> Result<Side, InspectError> {
    match path.is_dir() {
        true => Ok(Side::of_image(&load_image(path)?)),
        false => load_initrd(path),
    }
}

fn load_initrd(path: &Path) -> Result<Side, InspectError> {
    let failed = |cause| InspectError::Read { path: path.into(), cause };
    let mut file = open_regular(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let segments = read_initrd(&mut file, InitrdLimits::default()).map_err(failed)?;
    if segments.first().is_none_or(|first| first.compression == SegmentPacking::Unknown) {
        return Err(InspectError::NoInitrd { path: path.into() });
    }
    file.rewind().map_err(failed)?;
    let (sha256, _) = Sha256::of_reader(&mut file).map_err(failed)?;
    Ok(Side::of_initrd(path.display().to_string(), sha256, size, &segments))
}

impl Side {
    /// An image of ours.
    pub fn of_image(manifest: &Manifest) -> Self {
        let boot_files = manifest.boot_files.iter().chain(manifest.root.iter().flat_map(|root| &root.files));
        let identity: String = boot_files.clone().map(|file| format!("{} {}\n", file.path, file.sha256)).collect();
        let mut settings: BTreeMap<String, String> = BTreeMap::from([
            ("kernel".into(), manifest.kernel_release.clone()),
            ("command line".into(), manifest.cmdline.join(" ")),
        ]);
        let short = |sha256: &Sha256| sha256.to_string()[..12].to_string();
        let segments = manifest.segments.iter().map(|s| (format!("segment {}", s.name.as_str()), short(&s.sha256)));
        settings.extend(segments);
        let ram = manifest.ram.iter().flat_map(|ram| [("to unpack", ram.unpack_mib), ("to run", ram.run_mib)]);
        let mut packages: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for source in &manifest.sources {
            for (name, version) in source.packages_within() {
                packages.entry((source.component.clone(), name.into())).or_default().insert(version.into());
            }
        }
        for image in &manifest.images {
            packages.entry(("images".into(), image.name.clone())).or_default().insert(image.digest.clone());
        }
        let file = |record: &FileRecord| {
            let name = module_name(&record.path);
            let of_segment = |name: &str| match record.segment {
                SegmentName::Root => name.to_string(),
                other => format!("{name} ({})", other.as_str()),
            };
            let key = of_segment(&name.clone().unwrap_or_else(|| without_release(&record.path)));
            (key, of_record(record, of_segment(&format!("/{}", record.path)), name.is_some()))
        };
        Self {
            title: format!("{} (image {})", manifest.recipe, manifest.image_id.get(..8).unwrap_or_default()),
            identity,
            parts: boot_files.map(|file| (file.path.clone(), file.size)).collect(),
            settings,
            ram_mib: ram.map(|(name, mib)| (name.to_string(), mib)).collect(),
            packages,
            files: manifest.files.iter().map(file).collect(),
            // An older version of this tool wrote no shares of files.
            has_packed: manifest.files.iter().any(|file| file.packed.is_some()),
            names_components: true,
            components: manifest.component_shares(),
        }
    }

    /// Any initrd of `size` bytes.
    pub fn of_initrd(title: String, sha256: Sha256, size: u64, segments: &[InitrdSegment]) -> Self {
        let mut side = Self { identity: sha256.to_string(), title, ..Self::default() };
        side.parts.insert("initrd".into(), size);
        for (i, segment) in segments.iter().enumerate() {
            side.settings.insert(format!("segment {i}"), segment.compression.as_str().into());
            side.settings.extend(segment.problem.iter().map(|problem| (format!("segment {i} ends"), problem.clone())));
            for entry in &segment.entries {
                let name = module_name(&entry.path);
                let file = SideFile {
                    path: format!("/{}", entry.path),
                    component: None,
                    size: entry.size,
                    packed: None,
                    content: content(entry.sha256.as_ref(), &entry.kind, entry.target.as_deref()),
                    attributes: format!("{} {}:{}", entry.mode, entry.uid, entry.gid),
                    is_module: name.is_some(),
                };
                // A later file takes the place of an earlier one, as in the kernel.
                side.files.insert(name.unwrap_or_else(|| without_release(&entry.path)), file);
            }
        }
        let content = segments.iter().flat_map(|s| &s.entries).map(|entry| entry.size.next_multiple_of(4096)).sum();
        let window = segments.iter().map(usual_window).max().unwrap_or(0);
        let need = unpack_need(Initrd { packed: size, content, window, limit: RootfsLimit::Percent(50) });
        side.ram_mib.insert("to unpack".into(), need.ram_mib);
        side
    }

    /// Bytes by component, or by folder.
    pub fn weigh_groups(&self, weight: Weight, by_component: bool) -> BTreeMap<String, u64> {
        if by_component {
            let weigh = |share: &ComponentShare| match weight {
                Weight::Packed => share.packed,
                Weight::Unpacked => share.raw,
            };
            return self.components.iter().map(|(name, share)| (name.clone(), weigh(share))).collect();
        }
        let mut groups: BTreeMap<String, u64> = BTreeMap::new();
        for file in self.files.values().filter(|file| file.weight(weight) > 0) {
            let folder = format!("/{}", folder_of(&without_release(file.path.trim_start_matches('/'))));
            *groups.entry(folder).or_default() += file.weight(weight);
        }
        groups
    }
}

fn of_record(record: &FileRecord, path: String, is_module: bool) -> SideFile {
    let xattrs: String = record.xattrs.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    SideFile {
        path,
        component: Some(record.component.clone()),
        size: record.size.filter(|_| record.kind == FileKind::File).unwrap_or(0),
        packed: record.packed,
        content: content(record.sha256.as_ref(), &record.kind, record.target.as_deref()),
        attributes: format!("{} {}:{}{xattrs}", record.mode, record.uid, record.gid),
        is_module,
    }
}

/// What a file is but for its name and attributes: two of the same text have the same content.
fn content(sha256: Option<&Sha256>, kind: &impl std::fmt::Debug, target: Option<&str>) -> String {
    sha256.map_or_else(|| format!("{kind:?} {}", target.unwrap_or_default()), Sha256::to_string)
}

/// What a decoder takes at the level that compressors have unless they are told otherwise: no more is known of another's initrd.
fn usual_window(segment: &InitrdSegment) -> u64 {
    let how = match segment.compression {
        SegmentPacking::None | SegmentPacking::Unknown => Compression::None,
        SegmentPacking::Xz | SegmentPacking::Lzma => Compression::Xz { level: 6, x86: false },
        SegmentPacking::Zstd => Compression::Zstd(19),
        _ => Compression::Gzip(6),
    };
    decoder_window(how, segment.unpacked)
}

/// Name of a kernel module by its path; `-` and `_` are one to the kernel (kernel/module/main.c, `mod_find`; kmod(8)).
fn module_name(path: &str) -> Option<String> {
    let is_below = path.starts_with("lib/modules/") || path.starts_with("usr/lib/modules/");
    let name = path.rsplit('/').next().filter(|_| is_below)?;
    let stem = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().find_map(|suffix| name.strip_suffix(suffix))?;
    Some(stem.replace('-', "_"))
}

/// A path without the kernel's release, so that modules of two kernels are in one folder.
fn without_release(path: &str) -> String {
    match path.split_once("lib/modules/") {
        Some((before, rest)) => {
            let rest = rest.split_once('/').map_or("", |(_, rest)| rest);
            format!("{before}lib/modules/{rest}")
        }
        None => path.into(),
    }
}
