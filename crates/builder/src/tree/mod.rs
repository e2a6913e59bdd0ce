//! The image's files: sorted, each with its component, the recipe line and the reason why it is there.

mod draft;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod links;
mod overlay;
mod precedence;
mod select;
mod supply;
#[cfg(test)]
mod tests;

pub(crate) use draft::Draft;
pub use error::{Owner, TreeError};
pub use links::{Resolved, resolve};
pub use overlay::Render;
pub(crate) use overlay::{add_overlay, add_written};
pub(crate) use select::add_wanted;
pub(crate) use supply::Supply;

use crate::entry::Entry;
use crate::recipe::{Origin, SegmentName};
use std::collections::BTreeMap;

/// Why a file is in the image.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum Reason {
    /// Matched a `paths` glob of its component (or the component takes everything).
    Wanted {
        pattern: String,
    },
    /// A program or library needs it: interpreter, DT_NEEDED, or `libraries` of the recipe (`by` is then the recipe).
    Library {
        by: String,
        soname: String,
    },
    /// A kernel module: asked for, or drawn in by another one.
    Module {
        by: String,
        relation: String,
    },
    Firmware {
        by: String,
    },
    Overlay,
    Inline,
    /// PID1 itself or another name of it.
    Init,
    /// Computed by the builder (`modules.dep`, ...).
    Computed,
    /// A container image of the recipe.
    Image {
        digest: String,
    },
    /// A folder that a file needs.
    Parent,
    /// The target that a symlink in the image points to.
    LinkTarget {
        by: String,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct TreeEntry {
    pub entry: Entry,
    /// Component name; `recipe` for inline files, `overlay:<dir>`, `init`, `kernel` for computed module lists.
    pub component: String,
    pub origin: Origin,
    pub reason: Reason,
    pub segment: SegmentName,
}

/// All entries by segment and path: a path of the config segment may hide the same path of the root.
/// Parents are complete: every path's folder is there, in its segment.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    pub entries: BTreeMap<(SegmentName, String), TreeEntry>,
    /// Who had an entry there in a recipe that the entry's own extends: it gave way. The nearest recipe first.
    pub gave_way: BTreeMap<(SegmentName, String), Vec<Owner>>,
}

impl Tree {
    /// The entries of one segment, sorted by path.
    pub fn segment(&self, name: SegmentName) -> impl Iterator<Item = &TreeEntry> {
        self.entries
            .range((name, String::new())..)
            .take_while(move |((segment, _), _)| *segment == name)
            .map(|(_, entry)| entry)
    }

    /// The entries of that path (no leading `/`): at most one a segment.
    pub fn find(&self, path: &str) -> impl Iterator<Item = &TreeEntry> {
        [SegmentName::Boot, SegmentName::Root, SegmentName::Config]
            .into_iter()
            .filter_map(move |segment| self.entries.get(&(segment, path.to_string())))
    }
}
