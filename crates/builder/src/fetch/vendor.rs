//! A folder with all bodies that a lock pins: `bootwright vendor` fills it, and a build takes from it what its cache lacks, without a
//! network.
//!
//! ```text
//! <folder>/blobs/sha256/ab/<hex>       bodies by hash
//! <folder>/go/proxy/                   Go modules, laid out as a module proxy serves them (https://go.dev/ref/mod#goproxy-protocol)
//! <folder>/go/toolchains/<version>/    Go itself, with <version>.sum beside it
//! ```
//!
//! All of it appears by a rename after its bytes were synced: what is there is whole, as far as the disk can be trusted. So a
//! build compares everything that it takes.

use super::FetchError;
use crate::cache::{Cache, CacheError, Hashed};
use crate::entry::Sha256;
use crate::input_file::open_regular;
use crate::ui::Ui;
use std::fs::{File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Marks a folder as one that `vendor` made.
const MARKER: &str = ".bootwright-vendor";
/// Unfinished work, below the folder.
const UNFINISHED: &str = "unfinished";

/// A vendor folder, absolute.
#[derive(Debug, Clone)]
pub struct VendorDir {
    root: PathBuf,
}

impl VendorDir {
    /// A folder that is there.
    ///
    /// # Errors
    /// [`FetchError::Unusable`]
    pub fn open(path: &Path) -> Result<Self, FetchError> {
        let unusable = |cause: std::io::Error| FetchError::Unusable {
            subject: path.display().to_string(),
            problem: format!("is no vendor folder: {cause}"),
            help: "fill one with `bootwright vendor --recipe NAME DIR`".into(),
        };
        let root = path.canonicalize().map_err(unusable)?;
        std::fs::read_dir(&root).map_err(unusable)?;
        Ok(Self { root })
    }

    fn blob(&self, sha256: &Sha256) -> PathBuf {
        let hex = sha256.to_string();
        self.root.join("blobs/sha256").join(&hex[..2]).join(hex)
    }

    /// Where Go modules are.
    pub fn go_proxy(&self) -> PathBuf {
        self.root.join("go/proxy")
    }

    /// Where a version of Go is: `go1.26.8`.
    pub fn toolchain(&self, version: &str) -> PathBuf {
        self.root.join("go/toolchains").join(version)
    }

    /// Copies a body into the cache.
    ///
    /// # Errors
    /// [`FetchError::NotVendored`], [`FetchError::VendorDamaged`], [`FetchError::WrongSize`].
    pub fn bring(&self, name: &str, sha256: &Sha256, size: u64, cache: &Cache) -> Result<PathBuf, FetchError> {
        let path = self.blob(sha256);
        let file = open_regular(&path).map_err(|cause| match cause.kind() {
            ErrorKind::NotFound => FetchError::NotVendored { name: name.into(), path: path.clone() },
            ErrorKind::InvalidInput => {
                FetchError::VendorDamaged { name: name.into(), path: path.clone(), problem: cause.to_string() }
            }
            _ => FetchError::vendor("open", &path)(cause),
        })?;
        let mut copy = cache.temp_file()?;
        // One byte more shows that it is too long, however long it is.
        let mut body = Hashed::new(file.take(size.saturating_add(1)));
        let got = std::io::copy(&mut body, &mut copy).map_err(CacheError::io("copy", &path))?;
        if body.sha256() != *sha256 {
            return Err(FetchError::VendorDamaged { name: name.into(), path, problem: "its hash is another".into() });
        }
        if got != size {
            return Err(FetchError::WrongSize { name: name.into(), expected: size, got });
        }
        Ok(cache.adopt_blob(copy, sha256)?)
    }
}

/// A vendor folder that is being filled, by nobody else at the same time.
#[derive(Debug)]
pub struct VendorFiller<'a> {
    pub dir: VendorDir,
    ui: &'a Ui,
    added: AtomicUsize,
    held: AtomicUsize,
    /// Locked.
    _folder: Arc<File>,
}

impl<'a> VendorFiller<'a> {
    /// Makes the folder, waits for others that fill it, and removes what a killed one left unfinished. A folder of somebody else's
    /// is not touched.
    pub fn open(path: &Path, ui: &'a Ui) -> Result<Self, FetchError> {
        std::fs::create_dir_all(path).map_err(FetchError::vendor("make", path))?;
        let dir = VendorDir::open(path)?;
        let folder = File::open(&dir.root).map_err(FetchError::vendor("open", &dir.root))?;
        if folder.try_lock().is_err() {
            ui.say(format_args!("waiting for another one that fills `{}`", dir.root.display()));
            folder.lock().map_err(FetchError::vendor("lock", &dir.root))?;
        }
        claim(&dir.root)?;
        let unfinished = dir.root.join(UNFINISHED);
        remove(&unfinished)?;
        make(&unfinished)?;
        Ok(Self { dir, ui, added: AtomicUsize::new(0), held: AtomicUsize::new(0), _folder: Arc::new(folder) })
    }

    /// Things that were added, and those that were there already.
    pub fn finish(self) -> Result<(usize, usize), FetchError> {
        remove(&self.dir.root.join(UNFINISHED))?;
        Ok((self.added.into_inner(), self.held.into_inner()))
    }

    fn is_held(&self) -> Result<(), FetchError> {
        self.held.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn say_added(&self, name: &str, path: &Path) {
        self.added.fetch_add(1, Ordering::Relaxed);
        match path.exists() {
            true => self.ui.say(format_args!("vendor {name}: it was damaged, and is replaced")),
            false => self.ui.say(format_args!("vendor {name}")),
        }
    }

    /// Adds a body of the cache, unless it is there and whole.
    pub fn add_blob(&self, name: &str, sha256: &Sha256, cache: &Cache) -> Result<(), FetchError> {
        let to = self.dir.blob(sha256);
        let from = cache.blob(sha256).ok_or_else(|| FetchError::Offline { name: name.into() })?;
        let size = from.metadata().map_err(CacheError::io("read", &from))?.len();
        let held = open_regular(&to).and_then(|file| Sha256::of_reader(&mut file.take(size.saturating_add(1))));
        if held.is_ok_and(|(found, _)| found == *sha256) {
            return self.is_held();
        }
        self.say_added(name, &to);
        if to.is_dir() {
            remove(&to)?;
        }
        let mut body = Hashed::new(File::open(&from).map_err(CacheError::io("open", &from))?);
        let mut copy = self.unfinished_file()?;
        std::io::copy(&mut body, &mut copy).map_err(FetchError::vendor("copy to", &to))?;
        if body.sha256() != *sha256 {
            return Err(CacheError::Changed { path: from, found: body.sha256() }.into());
        }
        persist(copy, &to)
    }

    /// Adds a file of a module proxy, `path` below it, unless it is there and the same.
    pub fn add_to_proxy(&self, path: &Path, bytes: &[u8]) -> Result<(), FetchError> {
        let to = self.dir.go_proxy().join(path);
        if std::fs::read(&to).is_ok_and(|there| there == bytes) {
            return self.is_held();
        }
        self.say_added(&path.display().to_string(), &to);
        let mut copy = self.unfinished_file()?;
        copy.write_all(bytes).map_err(FetchError::vendor("write", copy.path()))?;
        persist(copy, &to)
    }

    /// Adds a version of Go by a copy of its folder, unless it is there and whole. `sum`: of the files of a folder.
    pub fn add_toolchain<E: From<FetchError>>(
        &self,
        version: &str,
        copy: impl FnOnce(&Path) -> Result<(), E>,
        sum: impl Fn(&Path) -> Result<Sha256, E>,
    ) -> Result<(), E> {
        let to = self.dir.toolchain(version);
        if let Some(expected) = toolchain_sum(&to)
            && sum(&to).is_ok_and(|found| found == expected)
        {
            return Ok(self.is_held()?);
        }
        self.say_added(version, &to);
        let from = self.dir.root.join(UNFINISHED).join(version);
        copy(&from)?;
        let sum = sum(&from)?;
        remove(&to).map_err(E::from)?;
        let mut file = self.unfinished_file()?;
        file.write_all(format!("{sum}\n").as_bytes()).map_err(FetchError::vendor("write", file.path()))?;
        // One call for thousands of files (syncfs(2)).
        let synced = File::open(&from).and_then(|folder| Ok(nix::unistd::syncfs(&folder)?));
        synced.map_err(FetchError::vendor("write", &from))?;
        persist(file, &sum_path(&to))?;
        std::fs::rename(&from, &to).map_err(FetchError::vendor("make", &to))?;
        Ok(())
    }

    fn unfinished_file(&self) -> Result<tempfile::NamedTempFile, FetchError> {
        let dir = self.dir.root.join(UNFINISHED);
        tempfile::NamedTempFile::new_in(&dir).map_err(FetchError::vendor("write in", &dir))
    }
}

/// Takes a new or empty folder, or one that `vendor` has made.
fn claim(folder: &Path) -> Result<(), FetchError> {
    let marker = folder.join(MARKER);
    if marker.symlink_metadata().is_ok() {
        return Ok(());
    }
    if std::fs::read_dir(folder).map_err(FetchError::vendor("list", folder))?.next().is_some() {
        return Err(FetchError::Unusable {
            subject: folder.display().to_string(),
            problem: "holds what `vendor` did not put there".into(),
            help: "name a new or an empty folder".into(),
        });
    }
    std::fs::write(&marker, "").map_err(FetchError::vendor("write", &marker))
}

/// What the files of a version of Go hashed to when it was added.
pub fn toolchain_sum(toolchain: &Path) -> Option<Sha256> {
    Sha256::parse(std::fs::read_to_string(sum_path(toolchain)).ok()?.trim())
}

fn sum_path(toolchain: &Path) -> PathBuf {
    let mut name = toolchain.as_os_str().to_owned();
    name.push(".sum");
    name.into()
}

/// Syncs a file and gives it its name, which may have been another file's.
fn persist(file: tempfile::NamedTempFile, to: &Path) -> Result<(), FetchError> {
    let parent = to.parent().expect("it lies below the vendor folder");
    make(parent)?;
    let everybody = Permissions::from_mode(0o644);
    file.as_file().set_permissions(everybody).map_err(FetchError::vendor("protect", file.path()))?;
    file.as_file().sync_all().map_err(FetchError::vendor("write", file.path()))?;
    file.persist(to).map_err(|e| FetchError::vendor("make", to)(e.error))?;
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(FetchError::vendor("write", parent))?;
    Ok(())
}

fn make(path: &Path) -> Result<(), FetchError> {
    std::fs::create_dir_all(path).map_err(FetchError::vendor("make", path))
}

fn remove(path: &Path) -> Result<(), FetchError> {
    match crate::cache::remove_tree(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(FetchError::vendor("remove", path)(e)),
        _ => Ok(()),
    }
}
