//! What an add-on needs of a node, one thing a need.

use serde::Serialize;
use std::fmt;

/// What kind of thing is needed, and what its name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
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

impl Kind {
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

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Need {
    pub kind: Kind,
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

/// What a kernel parameter has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SysctlNeed<'a> {
    /// Dotted, as in sysctl(8).
    pub key: &'a str,
    /// A larger value does as well.
    pub at_least: bool,
    pub value: &'a str,
}

impl<'a> SysctlNeed<'a> {
    /// `key >= number` or `key = value`.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (left, value) = text.split_once('=')?;
        let (key, at_least) = match left.strip_suffix('>') {
            Some(key) => (key.trim(), true),
            None => (left.trim(), false),
        };
        let value = value.trim();
        let is_good = !key.is_empty() && !value.is_empty() && (!at_least || value.parse::<i64>().is_ok());
        is_good.then_some(Self { key, at_least, value })
    }

    pub fn is_met_by(&self, found: &str) -> bool {
        let found = found.trim();
        match (self.at_least, found.parse::<i64>(), self.value.parse::<i64>()) {
            (true, Ok(found), Ok(least)) => found >= least,
            _ => found == self.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_parameters_are_compared_as_numbers_where_more_will_do() {
        let need = SysctlNeed::parse("vm.max_map_count >= 262144").unwrap();
        for (found, met) in [("262144\n", true), ("1048576", true), ("65530", false), ("", false), ("much", false)] {
            assert_eq!(need.is_met_by(found), met, "{found}");
        }
        let need = SysctlNeed::parse("net.ipv4.ip_forward=1").unwrap();
        assert_eq!((need.is_met_by("1"), need.is_met_by("2"), need.is_met_by("0")), (true, false, false));
        for bad in ["vm.x", "= 1", "vm.x =", "vm.x >= many"] {
            assert_eq!(SysctlNeed::parse(bad), None, "{bad}");
        }
    }
}
