//! The content-addressed cache, shared safely by builds that run at once.
//!
//! ```text
//! <cache>/blobs/sha256/ab/<hex>   bodies by hash, read-only once there
//! <cache>/derived/<kind>/<key>    what is computed from bodies (unpacked debs, built programs, packed segments)
//! <cache>/go/{mod,build}/          Go's module cache and build cache, for our builds only
//! <cache>/sums/<kind>/<key>       what the files of a derived thing hashed to when it was put there
//! <cache>/partial/<hex>           downloads that were cut short, by the hash of what they shall become; for a week
//! <cache>/tmp/<session>/          unfinished work; what a killed build left is removed by the next one
//! <cache>/locks/                  advisory locks, one a key
//! ```
//!
//! A blob or a derived thing appears by one rename after its bytes were synced: what is there is whole.
//! Reading needs no lock and works from a read-only folder. Nothing is hashed again as long as all goes well; when a build
//! fails, [`Cache::discard_damaged`] looks whether what it read has changed on the disk since.

pub mod damage;
mod error;
mod session;
#[cfg(test)]
mod tests;
pub mod unpacked;

pub use error::CacheError;
pub(crate) use error::help_for;
pub(crate) use session::remove_tree;

use crate::entry::Sha256;
use damage::CachedItem;
use session::CacheSession;
use sha2::{Digest, Sha256 as Hasher};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a download that was cut short is kept.
const PARTIAL_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The key under which a body is fetched, by its hash in hex.
pub fn fetch_key(sha256: &str) -> String {
    format!("fetch/{sha256}")
}

#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    /// Made when the first temporary file is asked for; shared by clones, ends with the last of them.
    session: Arc<Mutex<Option<CacheSession>>>,
    /// What was given out; shared by clones.
    used: Arc<Mutex<BTreeSet<CachedItem>>>,
}

impl Cache {
    /// Opens (and makes) the cache folder and removes what killed builds left in it.
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        std::fs::create_dir_all(root).map_err(CacheError::io("make", root))?;
        let root = root.canonicalize().map_err(CacheError::io("open", root))?;
        let cache = Self { root, session: Arc::default(), used: Arc::default() };
        match session::remove_leftovers(&cache.root).and_then(|()| cache.remove_old_partials()) {
            // A cache that can only be read still serves what it holds.
            Err(e) if e.is_read_only() => {}
            done => done?,
        }
        Ok(cache)
    }

    /// The cache folder, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the body with that hash is, if the cache holds it.
    pub fn blob(&self, sha256: &Sha256) -> Option<PathBuf> {
        let path = Some(self.blob_path(sha256)).filter(|path| path.is_file())?;
        self.note(CachedItem::Blob(*sha256));
        Some(path)
    }

    /// Stores bytes by their hash; nothing happens when they are there already.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<(Sha256, PathBuf), CacheError> {
        let sha256 = Sha256::of(bytes);
        if let Some(path) = self.blob(&sha256) {
            return Ok((sha256, path));
        }
        let mut file = self.temp_file()?;
        file.write_all(bytes).map_err(CacheError::io("write", file.path()))?;
        let path = self.adopt_blob(file, &sha256)?;
        Ok((sha256, path))
    }

    /// Moves a finished temporary file (made with [`Cache::temp_file`]) in as a blob. The caller has computed `sha256`
    /// from what it wrote. A blob that is there already stays.
    pub fn adopt_blob(&self, file: tempfile::NamedTempFile, sha256: &Sha256) -> Result<PathBuf, CacheError> {
        let path = self.blob_path(sha256);
        if path.is_file() {
            return Ok(path);
        }
        self.adopt_file(&file.into_temp_path(), &path)?;
        Ok(path)
    }

    /// A new file below `tmp/`.
    pub fn temp_file(&self) -> Result<tempfile::NamedTempFile, CacheError> {
        let dir = self.session_dir()?;
        tempfile::Builder::new().tempfile_in(&dir).map_err(CacheError::io("write in", &dir))
    }

    /// A new folder below `tmp/`.
    pub fn temp_dir(&self) -> Result<tempfile::TempDir, CacheError> {
        let dir = self.session_dir()?;
        tempfile::Builder::new().tempdir_in(&dir).map_err(CacheError::io("write in", &dir))
    }

    /// Where a derived thing is: a file or folder, present only when whole.
    /// `kind` and `key` are single path components.
    pub fn derived(&self, kind: &str, key: &str) -> Option<PathBuf> {
        let path = Some(self.derived_path(kind, key)).filter(|path| path.exists())?;
        self.note(CachedItem::Derived { kind: kind.into(), key: key.into() });
        Some(path)
    }

    /// Moves a finished file or folder in as a derived thing, atomically; an equal one that another build put there
    /// first wins and is returned. `from` lies below `tmp/` and is gone afterwards; its files lose their write bits.
    pub fn adopt_derived(&self, kind: &str, key: &str, from: &Path) -> Result<PathBuf, CacheError> {
        let to = self.derived_path(kind, key);
        if to.exists() {
            session::remove_tree(from).map_err(CacheError::io("remove", from))?;
        } else {
            self.remember_sums(kind, key, from)?;
            if from.is_dir() { self.adopt_dir(from, &to)? } else { self.adopt_file(from, &to)? }
        }
        self.note(CachedItem::Derived { kind: kind.into(), key: key.into() });
        Ok(to)
    }

    /// Takes a damaged derived thing out of the way, so that it can be made anew. The caller holds its lock.
    pub fn discard_derived(&self, kind: &str, key: &str) -> Result<(), CacheError> {
        self.discard(&self.derived_path(kind, key))
    }

    /// Takes something away at once, even while others read it.
    fn discard(&self, path: &Path) -> Result<(), CacheError> {
        let aside = tempfile::Builder::new().tempdir_in(self.session_dir()?).map_err(CacheError::io("move", path))?;
        match std::fs::rename(path, aside.path().join("discarded")) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            done => done.map_err(CacheError::io("move", path)),
        }?;
        let aside = aside.keep();
        session::remove_tree(&aside).map_err(CacheError::io("remove", &aside))
    }

    /// Waits for the exclusive lock of a key; released on drop, and by the kernel when the process dies.
    pub fn lock(&self, key: &str) -> Result<CacheLock, CacheError> {
        self.lock_or_wait(key, || {})
    }

    /// [`Cache::lock`] that calls `on_wait` once when somebody else holds the lock.
    pub fn lock_or_wait(&self, key: &str, on_wait: impl FnOnce()) -> Result<CacheLock, CacheError> {
        let (file, path) = session::open_lock(&self.root.join("locks"), &lock_name(key))?;
        if file.try_lock().is_err() {
            on_wait();
            file.lock().map_err(CacheError::io("lock", &path))?;
        }
        Ok(CacheLock { _file: file })
    }

    /// Where a download that shall have that hash is kept until it is whole; its folder is made.
    pub fn partial(&self, sha256: &Sha256) -> Result<PathBuf, CacheError> {
        let dir = self.root.join("partial");
        std::fs::create_dir_all(&dir).map_err(CacheError::io("make", &dir))?;
        Ok(dir.join(sha256.to_string()))
    }

    /// Moves a finished [`Cache::partial`] in as a blob, as [`Cache::adopt_blob`] does.
    pub fn adopt_partial(&self, sha256: &Sha256) -> Result<PathBuf, CacheError> {
        let (from, to) = (self.partial(sha256)?, self.blob_path(sha256));
        self.adopt_file(&from, &to)?;
        Ok(to)
    }

    /// Removes downloads that nobody went on with for a week. Whoever is at one of them holds its lock.
    fn remove_old_partials(&self) -> Result<(), CacheError> {
        let dir = self.root.join("partial");
        for found in std::fs::read_dir(&dir).into_iter().flatten().filter_map(Result::ok) {
            let age = found.metadata().ok().and_then(|meta| meta.modified().ok()?.elapsed().ok());
            if age.is_none_or(|age| age < PARTIAL_AGE) {
                continue;
            }
            let key = fetch_key(&found.file_name().to_string_lossy());
            let (lock, _) = session::open_lock(&self.root.join("locks"), &lock_name(&key))?;
            if lock.try_lock().is_ok() {
                let path = found.path();
                session::unless_gone(std::fs::remove_file(&path)).map_err(CacheError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    fn blob_path(&self, sha256: &Sha256) -> PathBuf {
        let hex = sha256.to_string();
        self.root.join("blobs/sha256").join(&hex[..2]).join(hex)
    }

    fn derived_path(&self, kind: &str, key: &str) -> PathBuf {
        let plain = |text: &str| !text.is_empty() && !text.starts_with('.') && !text.contains('/');
        assert!(plain(kind) && plain(key), "`{kind}` and `{key}` are written in the code as single path components");
        self.root.join("derived").join(kind).join(key)
    }

    fn session_dir(&self) -> Result<PathBuf, CacheError> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if session.is_none() {
            *session = Some(CacheSession::start(&self.root)?);
        }
        Ok(session.as_ref().expect("it was set above").dir().to_path_buf())
    }

    /// Syncs, takes the write bits away, and links `from` to `to` (which fails where a rename would replace), then
    /// removes the old name.
    fn adopt_file(&self, from: &Path, to: &Path) -> Result<(), CacheError> {
        let parent = make_parent(to)?;
        seal_file(from)?;
        match std::fs::hard_link(from, to) {
            // A file system without hard links; what a rename could replace there is equal.
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                std::fs::rename(from, to).map_err(CacheError::io("make", to))?;
            }
            _ => std::fs::remove_file(from).map_err(CacheError::io("remove", from))?,
        }
        sync_dir(&parent)
    }

    fn adopt_dir(&self, from: &Path, to: &Path) -> Result<(), CacheError> {
        let parent = make_parent(to)?;
        for found in walkdir::WalkDir::new(from).contents_first(true) {
            let found = found.map_err(|e| CacheError::io("read", from)(e.into()))?;
            if found.file_type().is_file() {
                seal_file(found.path())?;
            } else if found.file_type().is_dir() {
                sync_dir(found.path())?;
            }
        }
        match std::fs::rename(from, to) {
            // Another build was faster.
            Err(_) if to.exists() => session::remove_tree(from).map_err(CacheError::io("remove", from))?,
            done => done.map_err(CacheError::io("make", to))?,
        }
        sync_dir(&parent)
    }
}

/// Reads a blob to its end and compares it with its hash. One that was changed is removed, and what was made of it thrown away.
///
/// # Errors
/// [`CacheError::Damaged`] before any error of `read`, which may be a consequence.
pub fn read_blob<T, E: From<CacheError>>(
    path: &Path,
    sha256: &Sha256,
    read: impl FnOnce(&mut dyn Read) -> Result<T, E>,
) -> Result<T, E> {
    let mut blob = Hashed::new(File::open(path).map_err(CacheError::io("open", path))?);
    let made = read(&mut blob);
    std::io::copy(&mut blob, &mut std::io::sink()).map_err(CacheError::io("read", path))?;
    let found = blob.sha256();
    match found == *sha256 {
        true => made,
        false => {
            std::fs::remove_file(path).map_err(CacheError::io("remove", path))?;
            Err(CacheError::Changed { path: path.into(), found }.into())
        }
    }
}

/// What is hashed while it is read.
pub(crate) struct Hashed<R> {
    reader: R,
    hasher: Hasher,
}

impl<R> Hashed<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, hasher: Hasher::new() }
    }

    /// Of what was read so far.
    pub(crate) fn sha256(&self) -> Sha256 {
        Sha256(self.hasher.clone().finalize().into())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// Held lock of a key.
#[derive(Debug)]
pub struct CacheLock {
    _file: File,
}

/// A file name that says what the key is and is another one for every other key.
fn lock_name(key: &str) -> String {
    let readable: String =
        key.chars().take(60).map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    format!("k-{readable}-{}", &Sha256::of(key.as_bytes()).to_string()[..12])
}

fn make_parent(path: &Path) -> Result<PathBuf, CacheError> {
    let parent = path.parent().expect("a path in the cache has the cache folder above it").to_path_buf();
    std::fs::create_dir_all(&parent).map_err(CacheError::io("make", &parent))?;
    Ok(parent)
}

fn seal_file(path: &Path) -> Result<(), CacheError> {
    let file = File::open(path).map_err(CacheError::io("open", path))?;
    let meta = file.metadata().map_err(CacheError::io("read", path))?;
    // Readable for all: umask does not matter, and two users may share a cache.
    let mode = (meta.permissions().mode() & 0o555) | 0o444;
    file.set_permissions(std::fs::Permissions::from_mode(mode)).map_err(CacheError::io("protect", path))?;
    file.sync_all().map_err(CacheError::io("write", path))
}

fn sync_dir(path: &Path) -> Result<(), CacheError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(CacheError::io("write", path))
}
