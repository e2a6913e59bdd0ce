//! What an image weighs: boot files, components, RAM, and what grew. Pure functions of sizes; nothing is measured here.

pub mod memory;
pub mod ram;
mod table;
#[cfg(test)]
mod tests;

pub use table::{node_terms, render};

use crate::error::{Exit, Failure};
use crate::recipe::{Budget, Compression, MemoryNeeds, SegmentName};
use crate::segment::{ComponentShare, PackedSegment};
use memory::{Lack, NodeMemory};
use ram::{Initrd, RamNeed, RootInRam, decoder_window, parse_rootfs_limit, steady_need, unpack_need};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const MB: f64 = 1e6;

/// Sizes that a budget is made of.
#[derive(Debug, Clone, Copy)]
pub struct Sizes<'a> {
    /// Bytes of the kernel, and the component that it belongs to.
    pub kernel: u64,
    pub kernel_component: &'a str,
    /// Those of the initrd.
    pub segments: &'a [PackedSegment],
    /// The root segment of a network root, which is no part of the initrd.
    pub root: Option<&'a PackedSegment>,
    /// Bytes of a network root that are in memory while the machine runs.
    pub root_in_ram: u64,
    /// Container images that the initrd does not hold.
    pub images: Option<&'a PackedSegment>,
    /// Bytes of those that are in memory while the machine runs.
    pub images_in_ram: u64,
    /// Of the boot segment.
    pub boot: Compression,
    /// Of a root segment that is a cpio.
    pub stable: Compression,
    /// Of the config segment.
    pub volatile: Compression,
    pub cmdline: &'a [String],
    /// `[memory]` of the recipe.
    pub memory: Option<&'a MemoryNeeds>,
}

/// Sizes of an earlier build, to say what grew. Bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Earlier {
    /// Packed.
    pub components: BTreeMap<String, u64>,
    /// Regular files by `segment:path`, unpacked.
    pub files: BTreeMap<String, u64>,
}

/// Budget of one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BudgetReport {
    /// `vmlinuz`, then the segments of `initrd.img`, in their order.
    pub boot_files: Vec<BudgetPart>,
    pub boot_files_bytes: u64,
    pub boot_files_limit: Option<u64>,
    pub initrd_bytes: u64,
    /// Of a network root.
    pub initrd_limit: Option<u64>,
    /// Largest first.
    pub components: Vec<ComponentLine>,
    pub unpack: RamNeed,
    pub steady: RamNeed,
    pub ram_limit_mib: Option<u64>,
    /// What decides how much a node has left for pods; absent without `[memory]`.
    pub node: Option<NodeMemory>,
    /// Since the last build, largest first; empty when there was none.
    pub grown: Vec<Growth>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BudgetPart {
    pub name: String,
    /// As it is transferred.
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComponentLine {
    pub name: String,
    /// Share of the boot files, estimated for compressed segments.
    pub packed: u64,
    /// Bytes of its files.
    pub raw: u64,
    pub files: u64,
    pub limit: Option<u64>,
}

/// A component (packed bytes) or a file (unpacked bytes) that is larger than in the last build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    pub what: String,
    /// 0 when it was not there.
    pub before: u64,
    pub now: u64,
}

/// A limit that is exceeded.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "over")]
pub enum Violation {
    BootFiles { bytes: u64, limit: u64 },
    Initrd { bytes: u64, limit: u64 },
    Component { name: String, bytes: u64, limit: u64 },
    Unpack { ram_mib: u64, limit_mib: u64 },
    Steady { ram_mib: u64, limit_mib: u64 },
    Workload(Lack),
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BootFiles { bytes, limit } => {
                write!(f, "kernel and initrd are {}, over the limit of {} (`boot_files_mb`)", mb(*bytes), mb(*limit))
            }
            Self::Initrd { bytes, limit } => {
                write!(
                    f,
                    "the initrd of the network root is {}, over the limit of {} (`netroot_initrd_mb`)",
                    mb(*bytes),
                    mb(*limit)
                )
            }
            Self::Component { name, bytes, limit } => {
                write!(f, "component `{name}` takes {}, over its limit of {}", mb(*bytes), mb(*limit))
            }
            Self::Unpack { ram_mib, limit_mib } => {
                write!(f, "unpacking needs {ram_mib} MiB of RAM, over the limit of {limit_mib} (`ram_mib`)")
            }
            Self::Steady { ram_mib, limit_mib } => {
                write!(f, "running needs {ram_mib} MiB of RAM, over the limit of {limit_mib} (`ram_mib`)")
            }
            Self::Workload(Lack { ram_mib, left_mib, wanted_mib }) => write!(
                f,
                "{ram_mib} MiB of RAM (`ram_mib`) leave {left_mib} MiB for pods, less than the {wanted_mib} of `workload_mib` in [memory]"
            ),
        }
    }
}

/// Works out what an image weighs. `files`: its regular files as in [`Earlier::files`].
pub fn assess(
    sizes: Sizes<'_>,
    budget: &Budget,
    files: &BTreeMap<String, u64>,
    earlier: Option<&Earlier>,
) -> BudgetReport {
    let mut boot_files = vec![BudgetPart { name: "vmlinuz".into(), bytes: sizes.kernel }];
    boot_files.extend(sizes.segments.iter().map(|s| BudgetPart { name: s.name.as_str().into(), bytes: s.size }));
    let boot_files_bytes = boot_files.iter().map(|part| part.bytes).sum();
    let components = component_lines(sizes, budget);
    let resident = |name| sizes.segments.iter().filter(|s| s.name == name).map(|s| s.resident).sum::<u64>();
    let initrd = Initrd {
        packed: sizes.segments.iter().map(|s| s.size).sum(),
        content: sizes.segments.iter().map(|s| s.resident).sum(),
        window: sizes.segments.iter().map(|s| segment_window(sizes, s)).max().unwrap_or(0),
        limit: parse_rootfs_limit(sizes.cmdline),
    };
    let (boot, config) = (resident(SegmentName::Boot), resident(SegmentName::Config));
    let root = match sizes.root {
        None => RootInRam::Segment(resident(SegmentName::Root)),
        Some(_) if sizes.root_in_ram > 0 => RootInRam::Fetched(sizes.root_in_ram),
        Some(_) => RootInRam::Elsewhere,
    };
    let images = resident(SegmentName::Images) + sizes.images_in_ram.next_multiple_of(4096);
    BudgetReport {
        grown: earlier.map(|earlier| growth(&components, files, earlier)).unwrap_or_default(),
        boot_files,
        boot_files_bytes,
        boot_files_limit: budget.boot_files_mb.map(bytes_of),
        initrd_bytes: initrd.packed,
        initrd_limit: sizes.root.and(budget.netroot_initrd_mb).map(bytes_of),
        components,
        unpack: unpack_need(initrd),
        steady: steady_need(boot, root, images, config, budget.workload_mib),
        ram_limit_mib: budget.ram_mib,
        node: sizes.memory.map(|needs| NodeMemory::of(needs, initrd, sizes.root_in_ram + sizes.images_in_ram)),
    }
}

fn segment_window(sizes: Sizes<'_>, segment: &PackedSegment) -> u64 {
    let how = match segment.name {
        SegmentName::Config => sizes.volatile,
        // An image file is compressed itself and lies in the archive as it is.
        SegmentName::Images => Compression::None,
        SegmentName::Root if segment.image_size.is_some() => Compression::None,
        SegmentName::Boot => sizes.boot,
        SegmentName::Root => sizes.stable,
    };
    decoder_window(how, segment.unpacked)
}

fn component_lines(sizes: Sizes<'_>, budget: &Budget) -> Vec<ComponentLine> {
    let mut shares: BTreeMap<&str, ComponentShare> = BTreeMap::new();
    let kernel = ComponentShare { files: 1, raw: sizes.kernel, packed: sizes.kernel };
    let of_segments = sizes
        .segments
        .iter()
        .chain(sizes.root)
        .chain(sizes.images)
        .flat_map(|s| &s.components)
        .map(|(name, share)| (name.as_str(), *share));
    for (name, share) in of_segments.chain([(sizes.kernel_component, kernel)]) {
        let sum = shares.entry(name).or_default();
        *sum = ComponentShare {
            files: sum.files + share.files,
            raw: sum.raw + share.raw,
            packed: sum.packed + share.packed,
        };
    }
    let mut lines: Vec<ComponentLine> = shares
        .into_iter()
        .map(|(name, ComponentShare { files, raw, packed })| {
            let limit = budget.components_mb.get(name).copied().map(bytes_of);
            ComponentLine { name: name.into(), packed, raw, files, limit }
        })
        .collect();
    lines.sort_by(|a, b| b.packed.cmp(&a.packed).then_with(|| a.name.cmp(&b.name)));
    lines
}

/// The components that grew, then the files that grew; the ten largest of each.
fn growth(components: &[ComponentLine], files: &BTreeMap<String, u64>, earlier: &Earlier) -> Vec<Growth> {
    let grown = |what: String, now: u64, before: Option<&u64>| {
        let before = before.copied().unwrap_or(0);
        (now > before).then_some(Growth { what, before, now })
    };
    let largest = |mut found: Vec<Growth>| {
        found.sort_by(|a, b| (b.now - b.before).cmp(&(a.now - a.before)).then_with(|| a.what.cmp(&b.what)));
        found.truncate(10);
        found
    };
    let of_components = components
        .iter()
        .filter_map(|c| grown(format!("component {}", c.name), c.packed, earlier.components.get(&c.name)));
    let of_files = files.iter().filter_map(|(file, now)| grown(file.clone(), *now, earlier.files.get(file)));
    let mut all = largest(of_components.collect());
    all.extend(largest(of_files.collect()));
    all
}

impl BudgetReport {
    /// The limits that are exceeded.
    pub fn violations(&self) -> Vec<Violation> {
        let over = |bytes: u64, limit: Option<u64>| limit.filter(|limit| bytes > *limit);
        let mut found = Vec::new();
        if let Some(limit) = over(self.boot_files_bytes, self.boot_files_limit) {
            found.push(Violation::BootFiles { bytes: self.boot_files_bytes, limit });
        }
        if let Some(limit) = over(self.initrd_bytes, self.initrd_limit) {
            found.push(Violation::Initrd { bytes: self.initrd_bytes, limit });
        }
        for line in &self.components {
            if let Some(limit) = over(line.packed, line.limit) {
                found.push(Violation::Component { name: line.name.clone(), bytes: line.packed, limit });
            }
        }
        if let Some(limit_mib) = over(self.unpack.ram_mib, self.ram_limit_mib) {
            found.push(Violation::Unpack { ram_mib: self.unpack.ram_mib, limit_mib });
        }
        if let Some(limit_mib) = over(self.steady.ram_mib, self.ram_limit_mib) {
            found.push(Violation::Steady { ram_mib: self.steady.ram_mib, limit_mib });
        }
        found.extend(self.node.as_ref().and_then(|node| node.lacks(self.ram_limit_mib)).map(Violation::Workload));
        found
    }

    /// Fails when a limit is exceeded, naming the largest offenders and what grew.
    ///
    /// # Errors
    /// A [`Failure`] with [`Exit::OverBudget`].
    pub fn check(&self, recipe: &str) -> Result<(), Failure> {
        let violations = self.violations();
        if violations.is_empty() {
            return Ok(());
        }
        let mut message = format!("`{recipe}` is over budget");
        let mut add = |line: String| {
            message.push_str("\n  ");
            message.push_str(&line);
        };
        violations.iter().for_each(|violation| add(violation.to_string()));
        add("largest components:".into());
        for line in self.components.iter().take(5) {
            add(format!("  {} {}", mb(line.packed), line.name));
        }
        if !self.grown.is_empty() {
            add("grown since the last build:".into());
            for Growth { what, before, now } in &self.grown {
                add(format!("  +{} {what} ({} -> {})", mb(now - before), mb(*before), mb(*now)));
            }
        }
        let help = "drop what the image does not need (`bootwright inspect` lists it), or raise the limit in the recipe's [budget]";
        Err(Failure { exit: Exit::OverBudget, message, help: Some(help.into()) })
    }
}

/// `31.4 MB`; small things in kB.
pub(crate) fn mb(bytes: u64) -> String {
    match bytes {
        ..100_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.2} MB", bytes as f64 / MB),
    }
}

fn bytes_of(megabytes: f64) -> u64 {
    (megabytes * MB).round() as u64
}
