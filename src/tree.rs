//! The image's files: sorted, each with its component, the recipe line and the reason why it is there.

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

/// All entries by path. Parents are complete: every path's folder is there.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    pub entries: BTreeMap<String, TreeEntry>,
}
