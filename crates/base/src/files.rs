//! Files that others read while they are written.

use std::fs;
use std::path::Path;

/// Writes beside the file, then renames: a reader sees the old or the new one, whole.
pub fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temp = path.with_extension("new");
    fs::write(&temp, bytes)?;
    fs::rename(&temp, path)
}
