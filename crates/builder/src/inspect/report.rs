//! What was found, sorted and summed up; as tables or JSON.

use super::initrd::InitrdSegment;
use super::newc::InitrdEntry;
use crate::budget::mb;
use crate::emit::manifest::{BootFile, FileRecord, Manifest, SegmentRecord};
use crate::segment::ComponentShare;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use std::collections::BTreeMap;

/// Layout of both reports.
const VERSION: u32 = 1;
/// Path parts that name a top folder.
const FOLDER_DEPTH: usize = 3;

/// One of our images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImageReport {
    pub version: u32,
    pub recipe: String,
    pub image_id: String,
    pub kernel_release: String,
    pub boot_files: Vec<BootFile>,
    pub segments: Vec<SegmentRecord>,
    /// Largest first.
    pub components: Vec<ComponentWeight>,
    /// Largest first.
    pub largest: Vec<FileWeight>,
    /// All of them, when they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileRecord>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComponentWeight {
    pub name: String,
    /// Estimated share of the boot files, in bytes.
    pub packed: u64,
    pub unpacked: u64,
    pub files: u64,
}

/// A regular file, or a folder with all below it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileWeight {
    pub path: String,
    pub size: u64,
    /// Regular files.
    pub files: u64,
    /// Of our own images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
}

/// Any initrd.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InitrdReport {
    pub version: u32,
    /// Bytes of the file.
    pub size: u64,
    pub segments: Vec<SegmentReport>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentReport {
    #[serde(flatten)]
    pub segment: InitrdSegment,
    pub files: u64,
    /// Bytes of its regular files.
    pub content: u64,
    pub folders: Vec<FileWeight>,
    pub largest: Vec<FileWeight>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<InitrdEntry>,
}

/// Sums up a manifest.
pub fn image_report(manifest: &Manifest, top: usize, files: bool) -> ImageReport {
    let weigh = |(name, share): (String, ComponentShare)| ComponentWeight {
        name,
        packed: share.packed,
        unpacked: share.raw,
        files: share.files,
    };
    let mut components: Vec<ComponentWeight> = manifest.component_shares().into_iter().map(weigh).collect();
    components.sort_by(|a, b| b.packed.cmp(&a.packed).then_with(|| a.name.cmp(&b.name)));
    let sized = manifest.files.iter().filter_map(|f| Some((f, f.size?)));
    let weights = sized.map(|(f, size)| FileWeight {
        path: f.path.clone(),
        size,
        files: 1,
        component: Some(f.component.clone()),
    });
    ImageReport {
        version: VERSION,
        recipe: manifest.recipe.clone(),
        image_id: manifest.image_id.clone(),
        kernel_release: manifest.kernel_release.clone(),
        boot_files: manifest.boot_files.clone(),
        segments: manifest.segments.clone(),
        components,
        largest: largest(weights.collect(), top),
        files: if files { manifest.files.clone() } else { Vec::new() },
    }
}

/// Sums up the segments of an initrd of `size` bytes.
pub fn initrd_report(segments: Vec<InitrdSegment>, size: u64, top: usize, files: bool) -> InitrdReport {
    let segments = segments.into_iter().map(|mut segment| {
        let entries = std::mem::take(&mut segment.entries);
        let sized = || entries.iter().filter(|e| e.size > 0);
        let mut folders: BTreeMap<String, FileWeight> = BTreeMap::new();
        for entry in sized() {
            let path = folder_of(&entry.path);
            let new = FileWeight { path: path.clone(), size: 0, files: 0, component: None };
            let folder = folders.entry(path).or_insert(new);
            folder.size += entry.size;
            folder.files += 1;
        }
        let weight = |e: &InitrdEntry| FileWeight { path: e.path.clone(), size: e.size, files: 1, component: None };
        SegmentReport {
            files: sized().count() as u64,
            content: sized().map(|e| e.size).sum(),
            folders: largest(folders.into_values().collect(), top),
            largest: largest(sized().map(weight).collect(), top),
            segment,
            entries: if files { entries } else { Vec::new() },
        }
    });
    InitrdReport { version: VERSION, size, segments: segments.collect() }
}

pub(crate) fn folder_of(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    parts[..(parts.len() - 1).min(FOLDER_DEPTH)].join("/")
}

fn largest(mut weights: Vec<FileWeight>, top: usize) -> Vec<FileWeight> {
    weights.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
    weights.truncate(top);
    weights
}

impl ImageReport {
    /// For people.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}, image {}, kernel {}\n\n", self.recipe, self.image_id, self.kernel_release);
        let boot_files = self.boot_files.iter().map(|f| vec![f.path.clone(), mb(f.size), f.sha256.to_string()]);
        text += &table(&["boot file", "size", "sha256"], boot_files, &[1]);
        let segments = self.segments.iter().map(|s| {
            let image = s.image_size.map(mb).unwrap_or_default();
            vec![s.name.as_str().into(), mb(s.size), mb(s.unpacked), mb(s.resident), image]
        });
        text += &table(&["segment", "packed", "unpacked", "in RAM", "image in it"], segments, &[1, 2, 3, 4]);
        let components =
            self.components.iter().map(|c| vec![c.name.clone(), mb(c.packed), mb(c.unpacked), c.files.to_string()]);
        text += &table(&["component", "packed", "unpacked", "files"], components, &[1, 2, 3]);
        let largest =
            self.largest.iter().map(|f| vec![mb(f.size), f.component.clone().unwrap_or_default(), f.path.clone()]);
        text += &table(&["size", "component", "largest files"], largest, &[0]);
        let files = self.files.iter().map(|f| {
            let size = f.size.map(|size| size.to_string()).unwrap_or_default();
            let path = f.target.as_ref().map_or(f.path.clone(), |target| format!("{} -> {target}", f.path));
            vec![
                f.segment.as_str().into(),
                f.mode.clone(),
                format!("{}:{}", f.uid, f.gid),
                size,
                f.component.clone(),
                path,
            ]
        });
        text + &table(&["segment", "mode", "owner", "size", "component", "path"], files, &[3])
    }
}

impl InitrdReport {
    /// For people.
    pub fn to_text(&self) -> String {
        let mut text = format!("{} in {} segments\n\n", mb(self.size), self.segments.len());
        let rows = self.segments.iter().enumerate().map(|(i, s)| {
            let SegmentReport { segment, files, content, .. } = s;
            let microcode = segment.early_microcode.then_some("early microcode");
            let notes: Vec<&str> = microcode
                .into_iter()
                .chain(segment.problem.as_deref())
                .chain(segment.notes.iter().map(String::as_str))
                .collect();
            vec![
                i.to_string(),
                segment.offset.to_string(),
                segment.compression.as_str().into(),
                mb(segment.packed),
                mb(segment.unpacked),
                mb(*content),
                files.to_string(),
                notes.join("; "),
            ]
        });
        let header = ["segment", "offset", "compression", "packed", "unpacked", "content", "files", "note"];
        text += &table(&header, rows, &[0, 1, 3, 4, 5, 6]);
        for (i, segment) in self.segments.iter().enumerate() {
            let row = |f: &FileWeight| vec![mb(f.size), f.files.to_string(), format!("/{}", f.path)];
            let title = format!("folders of segment {i}");
            text += &table(&["size", "files", &title], segment.folders.iter().map(row), &[0, 1]);
            let row = |f: &FileWeight| vec![mb(f.size), f.path.clone()];
            text += &table(&["size", "largest files"], segment.largest.iter().map(row), &[0]);
            let rows = segment.entries.iter().map(|e| {
                let path = e.target.as_ref().map_or(e.path.clone(), |target| format!("{} -> {target}", e.path));
                vec![e.mode.clone(), format!("{}:{}", e.uid, e.gid), e.size.to_string(), path]
            });
            text += &table(&["mode", "owner", "size", "path"], rows, &[2]);
        }
        text
    }
}

/// Nothing when there are no rows.
pub(crate) fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>, figures: &[usize]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.to_vec());
    table.add_rows(rows);
    for &i in figures {
        if let Some(column) = table.column_mut(i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if table.row_count() == 0 { String::new() } else { format!("{}\n\n", table.trim_fmt()) }
}
