//! Files of modaliases, as `bootwright-ctl hardware` prints them on a machine: one a line, `#` begins a comment.

use super::{ModuleRequest, Origin};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Longer than any modalias of the kernel's (`Documentation/admin-guide/sysfs-rules.rst`: a sysfs value is at most a page).
const MAX_LINE: usize = 4096;

/// A line that is no modalias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// 1-based.
    pub line: u32,
    pub text: String,
}

/// Reads one file; `shown` is its name in messages.
pub fn parse_modaliases(shown: &str, text: &str) -> Result<Vec<ModuleRequest>, BadLine> {
    let mut found = Vec::new();
    for (i, raw) in text.lines().enumerate() {
        let (line, text) = (i as u32 + 1, raw.split('#').next().unwrap_or_default().trim());
        if text.is_empty() {
            continue;
        }
        let is_modalias = text.contains(':') && text.len() <= MAX_LINE && !text.contains(char::is_control);
        if !is_modalias {
            return Err(BadLine { line, text: text.chars().take(80).collect() });
        }
        found.push(ModuleRequest { text: text.into(), origin: Origin { file: shown.into(), line } });
    }
    Ok(found)
}

/// The files that a pattern names, sorted. A path without wildcards names itself, whether it is there or not.
///
/// # Errors
/// A bad pattern.
pub fn find_files(pattern: &Path) -> Result<Vec<PathBuf>, globset::Error> {
    let is_plain = |part: &std::ffi::OsStr| !part.to_string_lossy().contains(['*', '?', '[', '{']);
    if pattern.iter().all(is_plain) {
        return Ok(vec![pattern.into()]);
    }
    let base: PathBuf = pattern.iter().take_while(|part| is_plain(part)).collect();
    let matcher =
        globset::GlobBuilder::new(&pattern.to_string_lossy()).literal_separator(true).build()?.compile_matcher();
    let files = WalkDir::new(base).sort_by_file_name().into_iter().flatten().filter(|e| !e.file_type().is_dir());
    Ok(files.map(walkdir::DirEntry::into_path).filter(|path| matcher.is_match(path)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_comments_and_what_is_no_modalias() {
        let found = parse_modaliases("f.txt", "# Board 7\npci:v1d2 # NIC\n\n  usb:v3\r\n").unwrap();
        let found: Vec<(&str, u32)> = found.iter().map(|m| (m.text.as_str(), m.origin.line)).collect();
        assert_eq!(found, [("pci:v1d2", 2), ("usb:v3", 4)]);
        assert_eq!(parse_modaliases("f.txt", "a:b\ne1000e\n"), Err(BadLine { line: 2, text: "e1000e".into() }));
        assert!(parse_modaliases("f.txt", "a:\u{7}b").is_err());
    }

    #[test]
    fn patterns_name_files_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.txt", "a.txt", "c.md", "deep/d.txt"] {
            std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let found = find_files(&dir.path().join(pattern)).unwrap();
            found.iter().map(|p| p.strip_prefix(dir.path()).unwrap().display().to_string()).collect()
        };
        assert_eq!(names("*.txt"), ["a.txt", "b.txt"]);
        assert_eq!(names("**/*.txt"), ["a.txt", "b.txt", "deep/d.txt"]);
        assert_eq!(names("none.txt"), ["none.txt"]);
        assert!(names("none*").is_empty());
        assert!(find_files(&dir.path().join("[")).is_err());
    }
}
