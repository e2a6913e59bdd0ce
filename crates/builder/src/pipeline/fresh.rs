//! "Nothing changed": a build with the same inputs whose output is still there is not repeated.
//!
//! The inputs are hashed by content where they are small (recipes, lock, overlays) and by size and time where they are
//! large (local paths). `out/<recipe>/.build.json` holds the hash and, of every file written, size and time.

use crate::budget::BudgetReport;
use crate::emit::SbomFormats;
use crate::entry::{Body, Sha256};
use crate::error::{Exit, Failure};
use crate::kmod::Unserved;
use crate::loader_limits::Lint;
use crate::lock::Lock;
use crate::recipe::{Allowance, CheckedRecipe};
use crate::report::REPORT;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256 as Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Name of the record in an image's folder.
pub const RECORD: &str = ".build.json";

/// The record of a finished build.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    inputs: Sha256,
    image_id: String,
    files: Vec<FileStamp>,
    budget: BudgetReport,
    unserved: Vec<Unserved>,
    secrets: Vec<Allowance>,
    lints: Vec<Lint>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FileStamp {
    path: PathBuf,
    size: u64,
    mtime_s: i64,
    mtime_ns: i64,
}

/// What an earlier build left.
#[derive(Clone)]
pub struct EarlierBuild {
    pub image_id: String,
    pub budget: BudgetReport,
    pub unserved: Vec<Unserved>,
    pub secrets: Vec<Allowance>,
    pub lints: Vec<Lint>,
}

/// Exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum FreshError {
    #[error("cannot read `{}`: {cause}", path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("cannot write `{}`: {cause}", path.display())]
    Write { path: PathBuf, cause: std::io::Error },
}

impl From<FreshError> for Failure {
    fn from(e: FreshError) -> Self {
        Failure {
            exit: Exit::Other,
            message: e.to_string(),
            help: Some("check that the path exists and its permissions".into()),
        }
    }
}

/// Hash of all that decides what a build makes, but for the lock: this program, PID1, recipe files and variables, formats, overlays,
/// local sources. Taken before a build begins: what is edited while it runs differs from it.
pub fn inputs(recipe: &CheckedRecipe, pid1: &Body, sbom: SbomFormats) -> Result<Sha256, FreshError> {
    let mut hasher = Hasher::new();
    let mut add = |label: &str, bytes: &[u8]| {
        hasher.update((label.len() as u64).to_le_bytes());
        hasher.update(label);
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    if let Ok(exe) = std::env::current_exe() {
        add("program", stamp(&exe)?.as_bytes());
    }
    add("pid1", &pid1.sha256.0);
    let vars: Vec<String> = recipe.vars.iter().map(|(name, value)| format!("{name}={value:?}\n")).collect();
    add("vars", vars.concat().as_bytes());
    add("sbom", format!("{sbom:?}").as_bytes());
    add("root", recipe.root.mode.as_str().as_bytes());
    for path in &recipe.files_read {
        add("recipe", &read(path)?);
    }
    for path in recipe.inherited_locks.iter().filter(|path| path.exists()) {
        add(&path.to_string_lossy(), &read(path)?);
    }
    for overlay in &recipe.overlays {
        add("overlay", overlay.to.as_bytes());
        for path in files_below(&overlay.dir)? {
            add(&path.to_string_lossy(), stamp(&path)?.as_bytes());
            if path.is_file() {
                add("content", &read(&path)?);
            }
        }
    }
    let recipe_dir = recipe.path.parent().expect("a recipe file lies in a folder");
    for component in recipe.components.iter().filter(|c| c.enabled) {
        for local in component.source.local() {
            for path in files_below(&recipe_dir.join(local))? {
                add(&path.to_string_lossy(), stamp(&path)?.as_bytes());
            }
        }
    }
    Ok(Sha256(hasher.finalize().into()))
}

/// The same with the lock that is built from.
pub fn with_lock(inputs: &Sha256, lock: &Lock) -> Sha256 {
    let lock = serde_json::to_vec(lock).expect("a lock is plain data");
    Sha256::of(&[&inputs.0, lock.as_slice()].concat())
}

/// What the earlier build with these inputs left, if all of it is still as it was written.
pub fn unchanged(dir: &Path, inputs: &Sha256) -> Option<EarlierBuild> {
    let record: Record = serde_json::from_slice(&std::fs::read(dir.join(RECORD)).ok()?).ok()?;
    let same = record.inputs == *inputs && stamps(dir).ok()? == record.files;
    let Record { image_id, budget, unserved, secrets, lints, .. } = record;
    same.then_some(EarlierBuild { image_id, budget, unserved, secrets, lints })
}

/// Records a finished build; nobody else may replace the image meanwhile.
pub fn remember(dir: &Path, inputs: &Sha256, found: &EarlierBuild) -> Result<(), FreshError> {
    let EarlierBuild { image_id, budget, unserved, secrets, lints } = found.clone();
    let record = Record { inputs: *inputs, image_id, files: stamps(dir)?, budget, unserved, secrets, lints };
    let path = dir.join(RECORD);
    let failed = |cause| FreshError::Write { path: path.clone(), cause };
    let text = serde_json::to_vec(&record).map_err(|e| failed(e.into()))?;
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    std::io::Write::write_all(&mut file, &text).map_err(failed)?;
    file.persist(&path).map_err(|e| failed(e.error))?;
    Ok(())
}

/// The image's files, without the record, the logs of smoke tests and the page that tells of them.
fn stamps(dir: &Path) -> Result<Vec<FileStamp>, FreshError> {
    let mut stamps = Vec::new();
    for path in files_below(dir)? {
        let relative = path.strip_prefix(dir).expect("walked below it");
        if relative.as_os_str() == RECORD
            || relative.as_os_str() == REPORT
            || relative.starts_with("smoke")
            || path.is_dir()
        {
            continue;
        }
        let meta = metadata(&path)?;
        stamps.push(FileStamp {
            path: relative.into(),
            size: meta.size(),
            mtime_s: meta.mtime(),
            mtime_ns: meta.mtime_nsec(),
        });
    }
    Ok(stamps)
}

fn files_below(dir: &Path) -> Result<Vec<PathBuf>, FreshError> {
    WalkDir::new(dir)
        .sort_by_file_name()
        .into_iter()
        .map(|entry| match entry {
            Ok(entry) => Ok(entry.into_path()),
            Err(e) => Err(FreshError::Read { path: e.path().unwrap_or(dir).into(), cause: e.into() }),
        })
        .collect()
}

/// Type, permissions, owner, size and times of a file. Its inode changes (ctime) with extended attributes, and when a time is set back.
fn stamp(path: &Path) -> Result<String, FreshError> {
    let meta = metadata(path)?;
    let (mtime, ctime) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
    Ok(format!("{:o} {}:{} {} {mtime:?} {ctime:?}", meta.mode(), meta.uid(), meta.gid(), meta.size()))
}

fn metadata(path: &Path) -> Result<std::fs::Metadata, FreshError> {
    std::fs::symlink_metadata(path).map_err(|cause| FreshError::Read { path: path.into(), cause })
}

fn read(path: &Path) -> Result<Vec<u8>, FreshError> {
    std::fs::read(path).map_err(|cause| FreshError::Read { path: path.into(), cause })
}
