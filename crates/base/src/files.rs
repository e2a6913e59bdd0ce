//! Replaces files that other processes read at any time.

use std::fs;
use std::path::Path;

/// Writes a temporary file beside `path` and renames it. A reader sees the old file or the new one, never a part.
pub fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temp = path.with_extension("new");
    fs::write(&temp, bytes)?;
    fs::rename(&temp, path)
}
