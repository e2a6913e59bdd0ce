//! Where in the files of a recipe something stands.

use std::sync::Arc;

/// Bytes `start..end` of a file; `file` is its number in [`super::sources::Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    pub file: usize,
    pub start: usize,
    pub end: usize,
}

/// Where something was written: shown by `explain` and in conflicts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// Recipe file, relative to the project folder where it lies below it.
    pub file: Arc<str>,
    /// 1-based.
    pub line: u32,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
