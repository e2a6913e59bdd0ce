//! What an add-on needs of a node, one thing a need.

use serde::Serialize;
use std::fmt;

/// What kind of thing is needed, and what its name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NeedKind {
    /// A kernel module that can be loaded, or is part of the kernel.
    Module,
    /// A program in one of the folders where programs are looked for, or at an absolute path.
    Program,
    /// Something at an absolute path. `${release}` stands for the kernel's release.
    Path,
    /// A kernel parameter: `vm.max_map_count >= 262144`, `net.ipv4.ip_forward = 1`.
    Sysctl,
    /// An option that the kernel is built with, `CONFIG_` left out: `DEBUG_INFO_BTF`.
    Option,
    /// A file system of its own at a path: `/sys/fs/bpf`.
    Mount,
    /// A path whose mounts reach pods and come back from them.
    Shared,
    /// What no image decides: it is told, and never taken for granted.
    Other,
}

impl NeedKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Program => "program",
            Self::Path => "path",
            Self::Sysctl => "sysctl",
            Self::Option => "option",
            Self::Mount => "mount",
            Self::Shared => "shared",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for NeedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Need {
    pub kind: NeedKind,
    /// Several with `|` between them: one of them is enough.
    pub name: String,
    pub why: String,
    /// Where that was read.
    pub source: String,
    /// The feature that needs it; `None` where the add-on does not run without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
}

impl Need {
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.name.split('|').map(str::trim)
    }
}
