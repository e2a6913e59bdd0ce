//! What the page shows, in words and percent.

use super::Inputs;
use super::boot::BootView;
use super::changes::ChangesView;
use super::tiles::{Tile, lay_out};
use crate::budget::ram::RamNeed;
use crate::budget::{BudgetReport, mb};
use crate::emit::manifest::Manifest;
use crate::recipe::SegmentName;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// How much wider than high the treemap is on a wide screen.
const ASPECT: f64 = 2.0;
/// Files below this part of all are one tile together.
const SMALLEST: u64 = 400;
/// Files that the table names.
const MOST_FILES: usize = 30;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    pub recipe: String,
    pub summary: String,
    pub image_id: String,
    pub kernel: String,
    pub total: String,
    pub limits: Vec<LimitRow>,
    pub needs: Vec<NeedView>,
    pub groups: Vec<TileGroup>,
    pub components: Vec<ComponentRow>,
    pub files: Vec<FileRow>,
    /// Of the last smoke boot of this image.
    pub boot: Option<BootView>,
    pub changes: Option<ChangesView>,
}

/// A limit of the recipe's budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LimitRow {
    pub name: String,
    pub value: String,
    pub limit: String,
    /// Of the limit, at most 100.
    pub percent: u64,
    pub is_over: bool,
}

/// RAM by term.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NeedView {
    pub title: &'static str,
    pub total_mib: u64,
    pub terms: Vec<TermRow>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TermRow {
    pub name: String,
    pub mib: String,
    pub source: String,
    pub percent: f64,
}

/// A component in the treemap.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TileGroup {
    pub name: String,
    pub packed: String,
    pub share: String,
    /// Degrees.
    pub hue: usize,
    #[serde(flatten)]
    pub tile: Tile,
    pub tiles: Vec<FileTile>,
}

/// A file, or the small ones of a component together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileTile {
    pub name: String,
    pub path: String,
    pub detail: String,
    #[serde(flatten)]
    pub tile: Tile,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComponentRow {
    pub name: String,
    pub packed: String,
    pub unpacked: String,
    pub files: u64,
    pub share: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileRow {
    pub path: String,
    pub component: String,
    pub packed: String,
    pub unpacked: String,
}

/// A file that weighs something.
struct Weighed<'a> {
    path: String,
    component: &'a str,
    packed: u64,
    size: u64,
    origin: &'a str,
}

impl View {
    pub fn new(manifest: &Manifest, inputs: &Inputs, boot: Option<BootView>) -> Self {
        let budget = &inputs.budget;
        let mut files = weighed(manifest);
        files.sort_by_key(|file| Reverse(file.packed));
        let total = files.iter().map(|file| file.packed).sum::<u64>().max(1);
        let share = |bytes: u64| format!("{:.1} %", bytes as f64 * 100.0 / total as f64);
        let components = budget.components.iter().map(|line| ComponentRow {
            name: line.name.clone(),
            packed: mb(line.packed),
            unpacked: mb(line.raw),
            files: line.files,
            share: share(line.packed),
        });
        let rows = files.iter().take(MOST_FILES).map(|file| FileRow {
            path: file.path.clone(),
            component: file.component.into(),
            packed: mb(file.packed),
            unpacked: mb(file.size),
        });
        Self {
            recipe: manifest.recipe.clone(),
            summary: manifest.summary.clone(),
            image_id: manifest.image_id.clone(),
            kernel: manifest.kernel_release.clone(),
            total: mb(budget.boot_files_bytes),
            limits: limits(budget),
            needs: [("RAM to unpack", &budget.unpack), ("RAM to run", &budget.steady)].map(need).to_vec(),
            components: components.collect(),
            files: rows.collect(),
            groups: groups(&files, total),
            boot,
            changes: inputs.difference.as_ref().map(ChangesView::new),
        }
    }
}

fn weighed(manifest: &Manifest) -> Vec<Weighed<'_>> {
    let kernel = manifest.boot_files.first().map(|file| Weighed {
        path: file.path.clone(),
        component: &manifest.kernel_component,
        packed: file.size,
        size: file.size,
        origin: "",
    });
    let files = manifest.files.iter().filter_map(|file| {
        Some(Weighed {
            path: format!("/{}", file.path),
            component: &file.component,
            packed: file.packed.filter(|packed| *packed > 0)?,
            size: file.size.unwrap_or(0),
            origin: &file.origin,
        })
    });
    // Baked container images are a file of their own, whose files no manifest lists.
    let baked = manifest.segments.iter().filter(|segment| segment.name == SegmentName::Images);
    let images = baked.flat_map(|segment| &segment.components).chain(&manifest.image_shares);
    let images = images.map(|(name, share)| Weighed {
        path: name.clone(),
        component: name,
        packed: share.packed,
        size: share.raw,
        origin: "",
    });
    kernel.into_iter().chain(files).chain(images.filter(|image| image.packed > 0)).collect()
}

/// `files`: the largest first.
fn groups(files: &[Weighed<'_>], total: u64) -> Vec<TileGroup> {
    let mut by_component: BTreeMap<&str, Vec<&Weighed<'_>>> = BTreeMap::new();
    for file in files {
        by_component.entry(file.component).or_default().push(file);
    }
    let weight = |files: &[&Weighed<'_>]| files.iter().map(|file| file.packed).sum::<u64>();
    let mut components: Vec<_> = by_component.into_iter().map(|(name, files)| (name, weight(&files), files)).collect();
    components.sort_by_key(|(_, weight, _)| Reverse(*weight));
    let weights: Vec<u64> = components.iter().map(|(_, weight, _)| *weight).collect();
    let boxes = lay_out(&weights, ASPECT);
    let share = |bytes: u64| format!("{:.1} %", bytes as f64 * 100.0 / total as f64);
    let placed = components.into_iter().zip(boxes).enumerate();
    let groups = placed.map(|(i, ((name, weight, files), tile))| TileGroup {
        name: name.into(),
        packed: mb(weight),
        share: share(weight),
        // The golden angle: neighbours in the list are far apart.
        hue: i * 137 % 360,
        tiles: file_tiles(&files, total, ASPECT * tile.width / tile.height.max(0.001)),
        tile,
    });
    groups.collect()
}

fn file_tiles(files: &[&Weighed<'_>], total: u64, aspect: f64) -> Vec<FileTile> {
    let (large, small): (Vec<&Weighed<'_>>, Vec<&Weighed<'_>>) =
        files.iter().partition(|file| file.packed >= total / SMALLEST);
    let detail = |packed: u64, size: u64| format!("{} packed, {} unpacked", mb(packed), mb(size));
    let mut tiles: Vec<(u64, String, String, String)> = large
        .iter()
        .map(|file| {
            let name = file.path.rsplit('/').next().unwrap_or_default().to_string();
            let origin = if file.origin.is_empty() { String::new() } else { format!(", from {}", file.origin) };
            (file.packed, name, file.path.clone(), detail(file.packed, file.size) + &origin)
        })
        .collect();
    let sum = |of: fn(&Weighed<'_>) -> u64| small.iter().map(|file| of(file)).sum::<u64>();
    if !small.is_empty() {
        let name = format!("{} small files", small.len());
        tiles.push((
            sum(|file| file.packed),
            name.clone(),
            name,
            detail(sum(|file| file.packed), sum(|file| file.size)),
        ));
    }
    tiles.sort_by_key(|(packed, ..)| Reverse(*packed));
    let weights: Vec<u64> = tiles.iter().map(|(packed, ..)| *packed).collect();
    let boxes = lay_out(&weights, aspect);
    tiles.into_iter().zip(boxes).map(|((_, name, path, detail), tile)| FileTile { name, path, detail, tile }).collect()
}

fn limits(budget: &BudgetReport) -> Vec<LimitRow> {
    let row = |name: &str, value: u64, limit: Option<u64>, shown: fn(u64) -> String| {
        let limit = limit?;
        Some(LimitRow {
            name: name.into(),
            value: shown(value),
            limit: shown(limit),
            percent: (value * 100 / limit.max(1)).min(100),
            is_over: value > limit,
        })
    };
    let mib = |mib: u64| format!("{mib} MiB");
    let mut rows = vec![
        row("boot files", budget.boot_files_bytes, budget.boot_files_limit, mb),
        row("initrd of the network root", budget.initrd_bytes, budget.initrd_limit, mb),
        row("RAM to unpack", budget.unpack.ram_mib, budget.ram_limit_mib, mib),
        row("RAM to run", budget.steady.ram_mib, budget.ram_limit_mib, mib),
    ];
    rows.extend(budget.components.iter().map(|line| row(&line.name, line.packed, line.limit, mb)));
    rows.into_iter().flatten().collect()
}

fn need((title, need): (&'static str, &RamNeed)) -> NeedView {
    let total = need.terms.iter().map(|term| term.bytes).sum::<u64>().max(1);
    let terms = need.terms.iter().map(|term| TermRow {
        name: term.name.clone(),
        mib: format!("{:.1}", term.bytes as f64 / f64::from(1 << 20)),
        source: term.source.clone(),
        percent: (term.bytes as f64 * 1000.0 / total as f64).round() / 10.0,
    });
    NeedView { title, total_mib: need.ram_mib, terms: terms.collect() }
}
