//! What grew or shrank between two images, or two initrds of whatever origin. What is the same on both sides is left out.

mod side;
#[cfg(test)]
mod tests;
mod text;

pub use side::{Side, SideFile, load_side};

use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Layout of the document.
const VERSION: u32 = 1;

/// The differences, each list with the largest change first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diff {
    /// Layout of this document; 1.
    pub version: u32,
    /// What is compared, in words.
    pub before: String,
    pub after: String,
    /// Both are the same, byte for byte.
    pub identical: bool,
    /// What files and components are weighed by.
    pub weight: Weight,
    /// `boot files` together, then each of them that changed. Bytes.
    pub totals: Vec<Change>,
    /// MiB.
    pub ram: Vec<Change>,
    /// Kernel, command line, and segments whose bytes differ.
    pub settings: Vec<TextChange>,
    /// Of our images; folders otherwise. Bytes.
    pub components: Vec<Change>,
    /// Debian packages, Go modules, crates and others that our images name, by component and name.
    pub packages: Vec<PackageChange>,
    /// Kernel modules by name. Bytes.
    pub modules: Vec<FileChange>,
    /// All other files.
    pub files: Vec<FileChange>,
}

/// What bytes of files and components are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Estimated share of the boot files: both sides are images of ours.
    Packed,
    /// Bytes of files.
    Unpacked,
}

/// A figure on both sides; absent where there is nothing of that name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub name: String,
    pub before: Option<u64>,
    pub after: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextChange {
    pub name: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// Versions of a package; several are joined by commas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageChange {
    pub name: String,
    pub component: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// A file or kernel module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    #[serde(flatten)]
    pub change: Change,
    pub component: Option<String>,
    pub what: FileNews,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileNews {
    Added,
    Removed,
    /// Other bytes, another target of a link, or another kind of file.
    Content,
    /// Another mode, owner or extended attribute.
    Attributes,
}

impl FileNews {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Content => "content",
            Self::Attributes => "attributes",
        }
    }
}

impl Change {
    /// From what was to what is.
    pub fn delta(&self) -> i128 {
        i128::from(self.after.unwrap_or(0)) - i128::from(self.before.unwrap_or(0))
    }

    /// What was, what is, and by how much they differ, as `shown` writes figures; `none` and `minus`: the signs for nothing and for less.
    pub fn figures(&self, shown: impl Fn(u64) -> String, none: &str, minus: &str) -> [String; 3] {
        let figure = |value: Option<u64>| value.map_or(none.into(), &shown);
        let delta = self.delta();
        let size = shown(u64::try_from(delta.unsigned_abs()).unwrap_or(u64::MAX));
        let sign = if delta < 0 { minus } else { "+" };
        let by = if delta == 0 { "0".into() } else { format!("{sign}{size}") };
        [figure(self.before), figure(self.after), by]
    }
}

/// Compares two sides.
pub fn compare(before: &Side, after: &Side) -> Diff {
    let weight = if before.has_packed && after.has_packed { Weight::Packed } else { Weight::Unpacked };
    let by_component = before.names_components && after.names_components;
    let weigh = |side: &Side| side.weigh_groups(weight, by_component);
    let (mut modules, mut files) = (Vec::new(), Vec::new());
    for change in file_changes(before, after, weight) {
        if change.0 { modules.push(change.1) } else { files.push(change.1) }
    }
    let identical = before.identity == after.identity;
    let sum = |side: &Side| Some(side.parts.values().sum::<u64>());
    let together = Change { name: "boot files".into(), before: sum(before), after: sum(after) };
    let mut totals = vec![together];
    totals.extend(changes(&before.parts, &after.parts));
    Diff {
        version: VERSION,
        before: before.title.clone(),
        after: after.title.clone(),
        identical,
        weight,
        totals,
        ram: changes(&before.ram_mib, &after.ram_mib),
        settings: text_changes(&before.settings, &after.settings),
        components: changes(&weigh(before), &weigh(after)),
        packages: package_changes(before, after),
        modules: largest_first(modules),
        files: largest_first(files),
    }
}

/// What stands on both sides, or on one; `None` for the other.
fn pairs<'a, K: Ord, V>(
    before: &'a BTreeMap<K, V>,
    after: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    let keys: BTreeSet<&K> = before.keys().chain(after.keys()).collect();
    keys.into_iter().map(|key| (key, before.get(key), after.get(key)))
}

fn changes(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Vec<Change> {
    let differ = pairs(before, after).filter(|(_, before, after)| before != after);
    let mut found: Vec<Change> = differ
        .map(|(name, before, after)| Change { name: name.clone(), before: before.copied(), after: after.copied() })
        .collect();
    found.sort_by_key(|change| Reverse(change.delta().unsigned_abs()));
    found
}

fn text_changes(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<TextChange> {
    let differ = pairs(before, after).filter(|(_, before, after)| before != after);
    differ
        .map(|(name, before, after)| TextChange { name: name.clone(), before: before.cloned(), after: after.cloned() })
        .collect()
}

fn package_changes(before: &Side, after: &Side) -> Vec<PackageChange> {
    let differ = pairs(&before.packages, &after.packages).filter(|(_, before, after)| before != after);
    let joined = |versions: Option<&BTreeSet<String>>| {
        versions.map(|versions| versions.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
    };
    differ
        .map(|((component, name), before, after)| PackageChange {
            name: name.clone(),
            component: component.clone(),
            before: joined(before),
            after: joined(after),
        })
        .collect()
}

/// Each with whether it is a kernel module.
fn file_changes(before: &Side, after: &Side, weight: Weight) -> Vec<(bool, FileChange)> {
    let news = |before: Option<&SideFile>, after: Option<&SideFile>| match (before, after) {
        (None, _) => Some(FileNews::Added),
        (_, None) => Some(FileNews::Removed),
        (Some(before), Some(after)) if before.content != after.content => Some(FileNews::Content),
        (Some(before), Some(after)) if before.attributes != after.attributes => Some(FileNews::Attributes),
        // The share of a file that stays as it is moves by what else is in the image.
        _ => None,
    };
    let mut found = Vec::new();
    for (key, before, after) in pairs(&before.files, &after.files) {
        let Some(what) = news(before, after) else { continue };
        let Some(file) = after.or(before) else { continue };
        let weighed = |file: Option<&SideFile>| file.map(|file| file.weight(weight));
        let name = if file.is_module { key.clone() } else { file.path.clone() };
        let change = Change { name, before: weighed(before), after: weighed(after) };
        found.push((file.is_module, FileChange { change, component: file.component.clone(), what }));
    }
    found
}

/// Then by name.
fn largest_first(mut found: Vec<FileChange>) -> Vec<FileChange> {
    found.sort_by_key(|file| (Reverse(file.change.delta().unsigned_abs()), file.change.name.clone()));
    found
}
