//! The lock file: what every component was pinned to, beside the recipe as `<name>.lock` (TOML).

mod compare;
mod diff;
mod inherit;
#[cfg(test)]
mod tests;

pub use compare::{Stale, compare};
pub use diff::{Change, LockDiff, diff_locks};
pub use inherit::Inherited;

use crate::error::{Exit, Failure};
use crate::recipe::SourceSpec;
use crate::source::Pin;
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Layout of the file.
pub const LOCK_VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Layout of this file; [`LOCK_VERSION`].
    pub version: u32,
    /// Seconds since 1970 of the last renewal: the clock floor of images built from it.
    pub time: u64,
    /// Sorted by name.
    #[serde(default, rename = "component")]
    pub components: Vec<LockedComponent>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedComponent {
    pub name: String,
    /// The spec that the pins were made for: a difference to the recipe's names the key that changed.
    pub spec: SourceSpec,
    #[serde(default, rename = "pin")]
    pub pins: Vec<Pin>,
}

/// What is wrong with a lock file. Exit code 2; 1 when it cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("cannot read lock `{}`: {cause}", path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("lock `{}`, line {line}: {cause}", path.display())]
    Bad { path: PathBuf, line: usize, cause: String },
    #[error("lock `{}` has layout {found}, expected {LOCK_VERSION}", path.display())]
    Version { path: PathBuf, found: i64 },
    #[error("lock `{}` holds component `{name}` twice", path.display())]
    Twice { path: PathBuf, name: String },
    #[error("cannot write lock `{}`: {cause}", path.display())]
    Write { path: PathBuf, cause: std::io::Error },
    #[error("cannot write lock `{}`: {cause}", path.display())]
    Encode { path: PathBuf, cause: toml::ser::Error },
}

impl LockError {
    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::Read { .. } => "check its permissions".into(),
            Self::Bad { .. } | Self::Twice { .. } => {
                "a lock is not edited by hand: restore it from version control, or delete it and run `bootwright lock`"
                    .into()
            }
            Self::Version { found, .. } if *found > i64::from(LOCK_VERSION) => {
                "a newer bootwright wrote it: use that one, or delete the file and run `bootwright lock`".into()
            }
            Self::Version { .. } => "delete it and run `bootwright lock`".into(),
            Self::Write { .. } | Self::Encode { .. } => {
                "check the recipe folder's permissions and the free space".into()
            }
        }
    }
}

impl From<LockError> for Failure {
    fn from(e: LockError) -> Self {
        let exit = match e {
            LockError::Write { .. } | LockError::Encode { .. } => Exit::Other,
            _ => Exit::Usage,
        };
        Self { exit, message: e.to_string(), help: Some(e.help()) }
    }
}

/// Reads a lock file. `None` when there is none.
pub fn load_lock(path: &Path) -> Result<Option<Lock>, LockError> {
    let text = match crate::input_file::read_text(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(LockError::Read { path: path.into(), cause }),
    };
    parse_lock(path, &text).map(Some)
}

/// Parses the text of a lock file; `path` is for messages.
pub fn parse_lock(path: &Path, text: &str) -> Result<Lock, LockError> {
    let bad = |e: toml::de::Error| {
        let start = e.span().map_or(0, |s| s.start.min(text.len()));
        let line = text.as_bytes()[..start].iter().filter(|b| **b == b'\n').count() + 1;
        LockError::Bad { path: path.into(), line, cause: e.message().to_string() }
    };
    // The layout first: a newer file may hold what this version does not know.
    let table: toml::Table = text.parse().map_err(bad)?;
    if let Some(found) = table.get("version").and_then(toml::Value::as_integer)
        && found != i64::from(LOCK_VERSION)
    {
        return Err(LockError::Version { path: path.into(), found });
    }
    let lock: Lock = toml::from_str(text).map_err(bad)?;
    let mut names: Vec<&str> = lock.components.iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(LockError::Twice { path: path.into(), name: pair[0].into() }),
        None => Ok(lock),
    }
}

/// The text of a lock file: sorted by component and pin, the same for the same lock.
pub fn format_lock(lock: &Lock) -> Result<String, toml::ser::Error> {
    let mut lock = lock.clone();
    lock.components.sort_by(|a, b| a.name.cmp(&b.name));
    for component in &mut lock.components {
        component.pins.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let text = toml::to_string(&lock)?;
    Ok(format!("# Written by `bootwright lock`: what each component is pinned to. Commit it; do not edit it.\n{text}"))
}

/// Writes the file whole or not at all: temporary file beside it, fsync, rename.
pub fn save_lock(path: &Path, lock: &Lock) -> Result<(), LockError> {
    let text = format_lock(lock).map_err(|cause| LockError::Encode { path: path.into(), cause })?;
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    write_whole(dir, path, text.as_bytes()).map_err(|cause| LockError::Write { path: path.into(), cause })
}

fn write_whole(dir: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = dir.join(format!(".{name}.new"));
    let mut file = open_alone(&new)?;
    let mut write = || {
        file.set_len(0)?;
        file.write_all(bytes)?;
        // The umask does not count: a lock is read by everybody who reads the recipe.
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    if let Err(cause) = write() {
        // The cause is what counts; the next lock is written over what cannot be removed now.
        let _ = std::fs::remove_file(&new);
        return Err(cause);
    }
    std::fs::File::open(dir)?.sync_all()
}

/// Opens the file for this process alone. Its name is fixed: what a killed process left is used again.
fn open_alone(path: &Path) -> std::io::Result<std::fs::File> {
    loop {
        let file = std::fs::File::options().create(true).truncate(false).write(true).open(path)?;
        file.lock()?;
        let ours = file.metadata()?;
        // While this one waited, another process may have renamed the file to the lock.
        match path.metadata() {
            Ok(found) if (found.dev(), found.ino()) == (ours.dev(), ours.ino()) => return Ok(file),
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
}
