//! What a boot did not open, by component.

use super::Opened;
use crate::budget::mb;
use crate::emit::manifest::{FileKind, FileRecord, Manifest};
use crate::inspect::report::table;
use crate::recipe::SegmentName;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Layout of the document.
const VERSION: u32 = 1;

/// Serialised it is the document of `--json`. Packed sizes are bytes, estimated as in the manifest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceReport {
    /// Layout of this document; 1.
    pub version: u32,
    pub recipe: String,
    pub image_id: String,
    /// Seconds until all was reached.
    pub wall_s: f64,
    /// Regular files of the image.
    pub files: u64,
    pub packed: u64,
    pub never_opened_files: u64,
    pub never_opened_packed: u64,
    /// By packed size of what was never opened, largest first.
    pub components: Vec<ComponentTrace>,
    /// Never opened, largest first.
    pub never_opened: Vec<FileTrace>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ComponentTrace {
    pub name: String,
    pub files: u64,
    pub packed: u64,
    pub never_opened_files: u64,
    pub never_opened_packed: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileTrace {
    pub path: String,
    pub segment: SegmentName,
    pub component: String,
    pub size: u64,
    pub packed: u64,
}

impl TraceReport {
    pub fn new(manifest: &Manifest, opened: &Opened, wall_s: f64) -> Self {
        let used = used_files(manifest, opened);
        let mut components: BTreeMap<&str, ComponentTrace> = BTreeMap::new();
        let mut never_opened = Vec::new();
        for record in manifest.files.iter().filter(|record| record.kind == FileKind::File) {
            let packed = record.packed.unwrap_or(0);
            let component = components.entry(&record.component).or_default();
            component.files += 1;
            component.packed += packed;
            if !used.contains(&(record.segment, record.path.as_str())) {
                component.never_opened_files += 1;
                component.never_opened_packed += packed;
                never_opened.push(FileTrace {
                    path: record.path.clone(),
                    segment: record.segment,
                    component: record.component.clone(),
                    size: record.size.unwrap_or(0),
                    packed,
                });
            }
        }
        never_opened.sort_by_key(|file| Reverse(file.packed));
        let named = |(name, component): (&str, ComponentTrace)| ComponentTrace { name: name.into(), ..component };
        let mut components: Vec<ComponentTrace> = components.into_iter().map(named).collect();
        components.sort_by_key(|component| Reverse(component.never_opened_packed));
        let sum = |of: fn(&ComponentTrace) -> u64| components.iter().map(of).sum();
        Self {
            version: VERSION,
            recipe: manifest.recipe.clone(),
            image_id: manifest.image_id.clone(),
            wall_s,
            files: sum(|c| c.files),
            packed: sum(|c| c.packed),
            never_opened_files: sum(|c| c.never_opened_files),
            never_opened_packed: sum(|c| c.never_opened_packed),
            components,
            never_opened,
        }
    }

    /// For people. `top`: how many of the largest files are named.
    pub fn to_text(&self, top: usize) -> String {
        let mut text = format!(
            "{} of {} files were opened, {} of {}\nnever opened in this boot: {} (packed), of it\n\n",
            self.files - self.never_opened_files,
            self.files,
            mb(self.packed - self.never_opened_packed),
            mb(self.packed),
            mb(self.never_opened_packed)
        );
        let idle = self.components.iter().filter(|component| component.never_opened_files > 0);
        let components = idle.map(|component| {
            let ComponentTrace { name, files, packed, never_opened_files, never_opened_packed } = component;
            let of = format!("{never_opened_files} of {files}");
            vec![name.clone(), mb(*never_opened_packed), mb(*packed), of]
        });
        text += &table(&["component", "never opened", "of", "files"], components, &[1, 2, 3]);
        let files = self.never_opened.iter().take(top);
        let files = files.map(|file| vec![mb(file.packed), file.component.clone(), format!("/{}", file.path)]);
        text += &table(&["packed", "component", "largest files that were never opened"], files, &[0]);
        if self.never_opened.len() > top {
            text = format!("{}\n... and {} more\n", text.trim_end(), self.never_opened.len() - top);
        }
        text.trim_end().to_string() + "\n"
    }
}

/// By segment and path, with the first names of files that were opened by another of theirs.
fn used_files<'a>(manifest: &'a Manifest, opened: &Opened) -> BTreeSet<(SegmentName, &'a str)> {
    let of_config = manifest.files.iter().filter(|record| record.segment == SegmentName::Config);
    let covered: BTreeSet<&str> = of_config.map(|record| record.path.as_str()).collect();
    let is_opened = |record: &FileRecord| match record.segment {
        SegmentName::Boot => opened.initramfs.hold(&record.path),
        // The config segment's file of that path lies over it.
        SegmentName::Root if covered.contains(record.path.as_str()) => false,
        SegmentName::Root | SegmentName::Images | SegmentName::Config => opened.root.hold(&record.path),
    };
    let first_name = |record: &'a FileRecord| match (record.kind, &record.target) {
        (FileKind::Hardlink, Some(first)) => first.as_str(),
        _ => record.path.as_str(),
    };
    manifest
        .files
        .iter()
        .filter(|record| is_opened(record))
        .map(|record| (record.segment, first_name(record)))
        .collect()
}
