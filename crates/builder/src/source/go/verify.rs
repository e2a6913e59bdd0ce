//! Whether the unpacked modules of the cache are those of `go.sum`. `go` compares archives as it fetches them, and trusts what is
//! unpacked from then on.

use super::super::SourceError;
use super::workspace::Workspace;
use crate::cache::CacheError;
use crate::entry::Sha256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::path::{Path, PathBuf};

/// An unpacked module that is not what its checksum says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// `PATH@VERSION`
    pub module: String,
    pub dir: PathBuf,
    expected: String,
    found: String,
}

impl Changed {
    pub fn into_error(self) -> SourceError {
        let Self { module, dir, expected, found } = self;
        SourceError::BadInput {
            subject: dir.display().to_string(),
            problem: format!("module `{module}` was changed in the cache: expected {expected}, found {found}"),
            help: "let nothing write to the cache folder and build again".into(),
        }
    }

    /// Takes the module out of the cache, its archive too, so that `go` fetches it anew.
    pub fn discard(&self, cache: &Path) -> Result<(), SourceError> {
        let remove = |path: &Path| match crate::cache::remove_tree(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(CacheError::io("remove", path)(e)),
            _ => Ok(()),
        };
        remove(&self.dir)?;
        let (path, version) = self.module.rsplit_once('@').unwrap_or((&self.module, ""));
        let download = cache.join("cache/download").join(escape(path)).join("@v");
        for end in ["zip", "ziphash", "mod", "info", "lock"] {
            remove(&download.join(format!("{}.{end}", escape(version))))?;
        }
        Ok(())
    }
}

/// Compares each unpacked module that the workspace's `go.sum` names. `cache`: GOMODCACHE.
pub fn changed_modules(workspace: &Workspace, cache: &Path) -> Result<Vec<Changed>, SourceError> {
    let path = workspace.module().join("go.sum");
    let sums = std::fs::read_to_string(&path).unwrap_or_default();
    let mut changed = Vec::new();
    for line in sums.lines() {
        let [path, version, expected] = line.split_whitespace().collect::<Vec<_>>()[..] else { continue };
        let dir = cache.join(format!("{}@{}", escape(path), escape(version)));
        if version.ends_with("/go.mod") || !dir.is_dir() {
            continue;
        }
        let module = format!("{path}@{version}");
        let found = hash_module(&dir, &module)?;
        if found != expected && changed.iter().all(|c: &Changed| c.module != module) {
            changed.push(Changed { module, dir, expected: expected.into(), found });
        }
    }
    Ok(changed)
}

/// Hash1 of golang.org/x/mod/sumdb/dirhash: SHA-256, as base64, of the sorted lines `<sha256>  <module>/<path>`.
fn hash_module(dir: &Path, module: &str) -> Result<String, SourceError> {
    let read = |path: PathBuf| move |cause| SourceError::Io { action: "read", path, cause };
    let mut files = Vec::new();
    for found in walkdir::WalkDir::new(dir) {
        let found = found.map_err(|e| read(dir.into())(e.into()))?;
        if !found.file_type().is_dir() {
            let below = found.path().strip_prefix(dir).expect("the walk stays below its root").to_string_lossy();
            let bytes = std::fs::read(found.path()).map_err(read(found.path().into()))?;
            files.push((format!("{module}/{below}"), Sha256::of(&bytes)));
        }
    }
    files.sort();
    let list: String = files.iter().map(|(name, sha256)| format!("{sha256}  {name}\n")).collect();
    Ok(format!("h1:{}", BASE64.encode(Sha256::of(list.as_bytes()).0)))
}

/// Upper-case letters as `!` and the lower-case one (https://go.dev/ref/mod, "Module proxy").
fn escape(text: &str) -> String {
    let escaped = text.chars().flat_map(|c| {
        let mark = c.is_ascii_uppercase().then_some('!');
        mark.into_iter().chain([c.to_ascii_lowercase()])
    });
    escaped.collect()
}
