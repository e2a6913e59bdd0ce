//! Archives that were unpacked once: all bodies in one file, all entries in one index.
//!
//! ```text
//! derived/unpacked/<key>/bodies   the bodies of all regular files, one after the other, each at a multiple of 16
//! derived/unpacked/<key>/index    JSON: [path, kind, mode, uid, gid, extended attributes] for each entry
//! ```
//!
//! A later build parses the index and reads bodies in place: nothing is unpacked again, and no thousands of small files are made.

use super::{Cache, CacheError};
use crate::entry::{Body, BodyAt, Entry, Kind, Sha256, Xattrs};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256 as Hasher};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Part of every key: what is stored here was written by this layout and these rules for archives.
const FORMAT: u32 = 2;
const ALIGN: u64 = 16;
const KIND: &str = "unpacked";

/// The entries of an archive, sorted by path, no path twice. `key` names the archive (its SHA-256 and how it is read);
/// `unpack` is called when the cache does not hold them yet.
pub fn open_unpacked<E: From<CacheError>>(
    cache: &Cache,
    key: &str,
    unpack: impl FnOnce(&mut Unpacker) -> Result<(), E>,
) -> Result<Vec<Entry>, E> {
    let key = format!("{key}-v{FORMAT}");
    if let Some(entries) = cache.derived(KIND, &key).and_then(|dir| load_index(&dir).ok()) {
        return Ok(entries);
    }
    let _lock = cache.lock(&format!("{KIND}/{key}"))?;
    if let Some(entries) = cache.derived(KIND, &key).and_then(|dir| load_index(&dir).ok()) {
        return Ok(entries);
    }
    // What is there and could not be loaded is damaged.
    cache.discard_derived(KIND, &key)?;
    let work = cache.temp_dir()?;
    let dir = work.path().join("archive");
    let mut unpacker = Unpacker::create(&dir)?;
    unpack(&mut unpacker)?;
    unpacker.finish()?;
    let dir = cache.adopt_derived(KIND, &key, &dir)?;
    Ok(load_index(&dir)?)
}

/// Takes the entries of an archive in its order. A path that comes twice: the last one counts, as tar does.
#[derive(Debug)]
pub struct Unpacker {
    dir: PathBuf,
    bodies: BufWriter<File>,
    offset: u64,
    entries: Vec<Entry>,
    latest: HashMap<String, usize>,
    /// Hard link -> the regular file that it was made for, which a later entry of the same path may hide.
    links: Vec<(usize, usize)>,
}

/// What an [`Unpacker`] is told of an entry beside its kind.
#[derive(Debug, Clone, Copy)]
pub struct FileHead<'a> {
    pub path: &'a str,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub xattrs: &'a Xattrs,
}

impl FileHead<'_> {
    /// An entry of that kind.
    pub fn entry(&self, kind: Kind) -> Entry {
        let (path, xattrs) = (self.path.into(), self.xattrs.clone());
        Entry { path, kind, mode: self.mode, uid: self.uid, gid: self.gid, xattrs }
    }
}

impl Unpacker {
    /// Starts an archive in a new folder; what is put there counts once `open_unpacked` has finished it.
    pub fn create(dir: &Path) -> Result<Self, CacheError> {
        std::fs::create_dir(dir).map_err(CacheError::io("make", dir))?;
        let path = dir.join("bodies");
        let bodies = BufWriter::with_capacity(1 << 18, File::create(&path).map_err(CacheError::io("make", &path))?);
        let dir = dir.to_path_buf();
        Ok(Self { dir, bodies, offset: 0, entries: Vec::new(), latest: HashMap::new(), links: Vec::new() })
    }

    /// A regular file: reads `body` to its end. A failure of `body` itself is the inner error.
    pub fn add_file(
        &mut self,
        head: FileHead<'_>,
        body: &mut dyn Read,
    ) -> Result<Result<u64, std::io::Error>, CacheError> {
        let path = self.dir.join("bodies");
        let pad = self.offset.next_multiple_of(ALIGN) - self.offset;
        self.bodies.write_all(&[0; ALIGN as usize][..pad as usize]).map_err(CacheError::io("write", &path))?;
        self.offset += pad;
        let (mut hasher, mut size, mut buffer) = (Hasher::new(), 0, vec![0; 1 << 16]);
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Ok(Err(e)),
            };
            hasher.update(&buffer[..n]);
            self.bodies.write_all(&buffer[..n]).map_err(CacheError::io("write", &path))?;
            size += n as u64;
        }
        let at = BodyAt::File { path: Arc::from(path), offset: self.offset };
        let kind = Kind::File(Body { sha256: Sha256(hasher.finalize().into()), size, at });
        self.offset += size;
        self.add(head.entry(kind));
        Ok(Ok(size))
    }

    /// Anything that is neither a regular file nor a hard link.
    pub fn add(&mut self, entry: Entry) {
        self.latest.insert(entry.path.clone(), self.entries.len());
        self.entries.push(entry);
    }

    /// A hard link to `target`; false when there is no such regular file so far.
    pub fn add_link(&mut self, head: FileHead<'_>, target: &str) -> bool {
        let Some(&at) = self.latest.get(target) else { return false };
        let at = self.links.iter().find(|(link, _)| *link == at).map_or(at, |(_, file)| *file);
        let Kind::File(_) = &self.entries[at].kind else { return false };
        self.links.push((self.entries.len(), at));
        self.add(head.entry(Kind::Hardlink(target.into())));
        true
    }

    /// What a path is so far.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.latest.get(path).map(|&i| &self.entries[i])
    }

    fn finish(mut self) -> Result<(), CacheError> {
        for &(link, file) in &self.links {
            let target = &self.entries[file];
            let xattrs = target.xattrs.clone();
            let kind = match self.latest.get(&target.path) {
                Some(&i) if i == file && self.entries[link].path != target.path => Kind::Hardlink(target.path.clone()),
                _ => target.kind.clone(),
            };
            self.entries[link] = Entry { kind, xattrs, ..self.entries[link].clone() };
        }
        let mut kept: Vec<&Entry> = self.latest.values().map(|&i| &self.entries[i]).collect();
        kept.sort_by(|a, b| a.path.cmp(&b.path));
        let rows: Vec<Row<'_>> = kept.into_iter().map(Row::of).collect();
        let path = self.dir.join("index");
        let json = serde_json::to_vec(&rows).expect("rows are plain data");
        std::fs::write(&path, json).map_err(CacheError::io("write", &path))?;
        let path = self.dir.join("bodies");
        self.bodies.flush().map_err(CacheError::io("write", &path))
    }
}

/// One entry in the index, as a JSON array.
#[derive(Serialize, Deserialize)]
struct Row<'a>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] RowKind<'a>, u32, u32, u32, Xattrs);

#[derive(Serialize, Deserialize)]
enum RowKind<'a> {
    #[serde(rename = "d")]
    Dir,
    /// Offset, size, SHA-256.
    #[serde(rename = "f")]
    File(u64, u64, Sha256),
    #[serde(rename = "h")]
    Hardlink(#[serde(borrow)] Cow<'a, str>),
    #[serde(rename = "l")]
    Symlink(#[serde(borrow)] Cow<'a, str>),
    #[serde(rename = "c")]
    CharDevice(u32, u32),
    #[serde(rename = "b")]
    BlockDevice(u32, u32),
    #[serde(rename = "p")]
    Fifo,
}

impl<'a> Row<'a> {
    fn of(entry: &'a Entry) -> Self {
        let kind = match &entry.kind {
            Kind::Dir => RowKind::Dir,
            Kind::File(Body { sha256, size, at: BodyAt::File { offset, .. } }) => {
                RowKind::File(*offset, *size, *sha256)
            }
            Kind::File(Body { at: BodyAt::Memory(_), .. }) => {
                unreachable!("the unpacker writes every body to its file")
            }
            Kind::Hardlink(target) => RowKind::Hardlink(target.into()),
            Kind::Symlink(target) => RowKind::Symlink(target.into()),
            Kind::CharDevice { major, minor } => RowKind::CharDevice(*major, *minor),
            Kind::BlockDevice { major, minor } => RowKind::BlockDevice(*major, *minor),
            Kind::Fifo => RowKind::Fifo,
        };
        Self((&entry.path).into(), kind, entry.mode, entry.uid, entry.gid, entry.xattrs.clone())
    }

    /// `None` when the body lies beyond the end of the bodies file.
    fn into_entry(self, bodies: &Arc<Path>, bodies_size: u64) -> Option<Entry> {
        let Self(path, kind, mode, uid, gid, xattrs) = self;
        let kind = match kind {
            RowKind::Dir => Kind::Dir,
            RowKind::File(offset, size, sha256) => {
                offset.checked_add(size).filter(|&end| end <= bodies_size)?;
                Kind::File(Body { sha256, size, at: BodyAt::File { path: bodies.clone(), offset } })
            }
            RowKind::Hardlink(target) => Kind::Hardlink(target.into_owned()),
            RowKind::Symlink(target) => Kind::Symlink(target.into_owned()),
            RowKind::CharDevice(major, minor) => Kind::CharDevice { major, minor },
            RowKind::BlockDevice(major, minor) => Kind::BlockDevice { major, minor },
            RowKind::Fifo => Kind::Fifo,
        };
        Some(Entry { path: path.into_owned(), kind, mode, uid, gid, xattrs })
    }
}

fn load_index(dir: &Path) -> Result<Vec<Entry>, CacheError> {
    let index = dir.join("index");
    let bodies: Arc<Path> = dir.join("bodies").into();
    let bytes = std::fs::read(&index).map_err(CacheError::io("read", &index))?;
    let size = bodies.metadata().map_err(CacheError::io("read", &bodies))?.len();
    let damaged = |problem: String| CacheError::Damaged { path: dir.into(), problem };
    let rows: Vec<Row<'_>> = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    rows.into_iter()
        .map(|row| row.into_entry(&bodies, size).ok_or_else(|| damaged("its bodies are truncated".into())))
        .collect()
}
