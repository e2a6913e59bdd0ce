//! The texts of the recipe files that were read: for positions and snippets.

use super::place::{At, Origin};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq)]
pub struct SourceFile {
    /// Absolute, or just a name for a text that is no file.
    pub path: PathBuf,
    /// As messages show it: relative to the current folder where it lies below it.
    pub shown: Arc<str>,
    pub text: String,
}

/// All files of one recipe, in the order in which they were read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sources {
    pub files: Vec<SourceFile>,
}

impl Sources {
    pub fn file(&self, at: At) -> &SourceFile {
        &self.files[at.file]
    }

    /// Folder of the file, where relative paths written in it start.
    pub fn dir(&self, at: At) -> &Path {
        self.file(at).path.parent().unwrap_or(Path::new(""))
    }

    pub fn origin(&self, at: At) -> Origin {
        Origin { file: self.file(at).shown.clone(), line: self.line(at) }
    }

    /// 1-based.
    pub fn line(&self, at: At) -> u32 {
        let text = self.file(at).text.as_bytes();
        let lines = text[..at.start.min(text.len())].iter().filter(|b| **b == b'\n').count();
        u32::try_from(lines + 1).unwrap_or(u32::MAX)
    }

    /// The place of `needle` inside a value; the whole value when it is written differently (escapes).
    pub fn inside(&self, at: At, needle: &str) -> At {
        let written = self.file(at).text.get(at.start..at.end).unwrap_or_default();
        match written.find(needle) {
            Some(i) => At { file: at.file, start: at.start + i, end: at.start + i + needle.len() },
            None => at,
        }
    }
}

/// Takes `.` and `x/..` out of a path, by its text alone.
pub fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir if out.file_name().is_some() => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

/// The way from a folder to a path, both plain.
pub fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| std::path::Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}
