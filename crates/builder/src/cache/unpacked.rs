//! Archives that were unpacked once: all bodies in one file, all members in one index.
//!
//! ```text
//! derived/unpacked/<key>/bodies   the bodies of all regular files, one after the other, each at a multiple of 16
//! derived/unpacked/<key>/index    SHA-256 of what follows, newline, JSON: what the whole stream hashes to, and
//!                                 [name, kind, mode, uid, gid, extended attributes, time] for each member, in the archive's order
//! ```
//!
//! A later build parses the index and reads bodies in place: nothing is unpacked again, and no thousands of small files are made.

use super::{Cache, CacheError};
use crate::entry::{Body, BodyAt, Kind, Sha256, Xattrs};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256 as Hasher};
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Part of every key: what is stored here was written by this layout and these rules for archives.
const FORMAT: u32 = 4;
const ALIGN: u64 = 16;
const KIND: &str = "unpacked";

/// What an archive holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Unpacked {
    /// In the archive's order; a name may come more than once.
    pub members: Vec<Member>,
    /// Of the whole decompressed stream, where that could be read to its end.
    pub stream_sha256: Option<Sha256>,
}

/// One member of an archive, as it stands there: nothing is resolved yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// As it is in the archive, perhaps with `./`, `/` or `..` in it; bytes that are not UTF-8 are shown as `\xNN`.
    pub name: String,
    pub kind: MemberKind,
    /// Permission bits, 0o7777 at most.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub xattrs: Xattrs,
    /// When its content was changed last, seconds since 1970: the layers of baked images alone keep it.
    pub mtime: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum MemberKind {
    Dir,
    File(Body),
    /// A further name of what the archive (or one below it) calls so.
    Hardlink(String),
    Symlink(String),
    /// A device node or fifo: a [`Kind`] of those.
    Node(Kind),
    /// Something that no image can hold, and why.
    Unusable(String),
}

/// The members of an archive. `key` names the archive (its SHA-256 and how it is read); `unpack` is called when the cache
/// does not hold them yet. Damage is an error: [`Cache::discard_damaged`] takes it away.
pub fn open_unpacked<E: From<CacheError>>(
    cache: &Cache,
    key: &str,
    unpack: impl FnOnce(&mut Unpacker) -> Result<(), E>,
) -> Result<Unpacked, E> {
    let key = format!("{key}-v{FORMAT}");
    if let Some(dir) = cache.derived(KIND, &key) {
        return Ok(load_index(&dir)?);
    }
    let _lock = cache.lock(&format!("{KIND}/{key}"))?;
    if let Some(dir) = cache.derived(KIND, &key) {
        return Ok(load_index(&dir)?);
    }
    let work = cache.temp_dir()?;
    let dir = work.path().join("archive");
    let mut unpacker = Unpacker::create(&dir)?;
    unpack(&mut unpacker)?;
    unpacker.finish()?;
    let dir = cache.adopt_derived(KIND, &key, &dir)?;
    Ok(load_index(&dir)?)
}

/// Takes the members of an archive in its order.
#[derive(Debug)]
pub struct Unpacker {
    dir: PathBuf,
    bodies: BufWriter<File>,
    offset: u64,
    members: Vec<Member>,
    stream_sha256: Option<Sha256>,
}

/// What an [`Unpacker`] is told of a member beside its kind.
#[derive(Debug, Clone, Copy)]
pub struct MemberHead<'a> {
    pub name: &'a str,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub xattrs: &'a Xattrs,
    pub mtime: i64,
}

impl Unpacker {
    /// Starts an archive in a new folder; what is put there counts once `open_unpacked` has finished it.
    pub fn create(dir: &Path) -> Result<Self, CacheError> {
        std::fs::create_dir(dir).map_err(CacheError::io("make", dir))?;
        let path = dir.join("bodies");
        let bodies = BufWriter::with_capacity(1 << 18, File::create(&path).map_err(CacheError::io("make", &path))?);
        Ok(Self { dir: dir.to_path_buf(), bodies, offset: 0, members: Vec::new(), stream_sha256: None })
    }

    /// A regular file: reads `body` to its end. A failure of `body` itself is the inner error.
    pub fn add_file(
        &mut self,
        head: MemberHead<'_>,
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
        self.offset += size;
        self.add(head, MemberKind::File(Body { sha256: Sha256(hasher.finalize().into()), size, at }));
        Ok(Ok(size))
    }

    /// Anything that has no body.
    pub fn add(&mut self, head: MemberHead<'_>, kind: MemberKind) {
        let MemberHead { name, mode, uid, gid, xattrs, mtime } = head;
        self.members.push(Member { name: name.into(), kind, mode, uid, gid, xattrs: xattrs.clone(), mtime });
    }

    /// What the whole decompressed stream hashes to.
    pub fn set_stream_sha256(&mut self, sha256: Sha256) {
        self.stream_sha256 = Some(sha256);
    }

    /// What was put there so far. The bodies may not be on the disk yet.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    fn finish(mut self) -> Result<(), CacheError> {
        let rows: Vec<MemberRow<'_>> = self.members.iter().map(MemberRow::of).collect();
        let json = serde_json::to_vec(&(self.stream_sha256, rows)).expect("rows are plain data");
        let path = self.dir.join("index");
        let mut index = format!("{}\n", Sha256::of(&json)).into_bytes();
        index.extend(json);
        std::fs::write(&path, index).map_err(CacheError::io("write", &path))?;
        let path = self.dir.join("bodies");
        self.bodies.flush().map_err(CacheError::io("write", &path))
    }
}

/// One member in the index, as a JSON array.
#[derive(Serialize, Deserialize)]
struct MemberRow<'a>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] RowKind<'a>, u32, u32, u32, Xattrs, i64);

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
    /// `c`, `b` or `p`, and a device's numbers.
    #[serde(rename = "n")]
    Node(char, u32, u32),
    #[serde(rename = "u")]
    Unusable(#[serde(borrow)] Cow<'a, str>),
}

impl<'a> MemberRow<'a> {
    fn of(member: &'a Member) -> Self {
        let kind = match &member.kind {
            MemberKind::Dir => RowKind::Dir,
            MemberKind::File(Body { sha256, size, at: BodyAt::File { offset, .. } }) => {
                RowKind::File(*offset, *size, *sha256)
            }
            MemberKind::File(Body { at: BodyAt::Memory(_), .. }) => {
                unreachable!("the unpacker writes every body to its file")
            }
            MemberKind::Hardlink(target) => RowKind::Hardlink(target.into()),
            MemberKind::Symlink(target) => RowKind::Symlink(target.into()),
            MemberKind::Node(Kind::CharDevice { major, minor }) => RowKind::Node('c', *major, *minor),
            MemberKind::Node(Kind::BlockDevice { major, minor }) => RowKind::Node('b', *major, *minor),
            MemberKind::Node(_) => RowKind::Node('p', 0, 0),
            MemberKind::Unusable(problem) => RowKind::Unusable(problem.into()),
        };
        Self((&member.name).into(), kind, member.mode, member.uid, member.gid, member.xattrs.clone(), member.mtime)
    }

    /// `None` when the body lies beyond the end of the bodies file.
    fn into_member(self, bodies: &Arc<Path>, bodies_size: u64) -> Option<Member> {
        let Self(name, kind, mode, uid, gid, xattrs, mtime) = self;
        let kind = match kind {
            RowKind::Dir => MemberKind::Dir,
            RowKind::File(offset, size, sha256) => {
                offset.checked_add(size).filter(|&end| end <= bodies_size)?;
                MemberKind::File(Body { sha256, size, at: BodyAt::File { path: bodies.clone(), offset } })
            }
            RowKind::Hardlink(target) => MemberKind::Hardlink(target.into_owned()),
            RowKind::Symlink(target) => MemberKind::Symlink(target.into_owned()),
            RowKind::Node('c', major, minor) => MemberKind::Node(Kind::CharDevice { major, minor }),
            RowKind::Node('b', major, minor) => MemberKind::Node(Kind::BlockDevice { major, minor }),
            RowKind::Node(..) => MemberKind::Node(Kind::Fifo),
            RowKind::Unusable(problem) => MemberKind::Unusable(problem.into_owned()),
        };
        Some(Member { name: name.into_owned(), kind, mode, uid, gid, xattrs, mtime })
    }
}

fn load_index(dir: &Path) -> Result<Unpacked, CacheError> {
    let index = dir.join("index");
    let bodies: Arc<Path> = dir.join("bodies").into();
    let bytes = std::fs::read(&index).map_err(CacheError::io("read", &index))?;
    let size = bodies.metadata().map_err(CacheError::io("read", &bodies))?.len();
    let damaged = |problem: &str| CacheError::Damaged { path: dir.into(), problem: problem.into() };
    let json = bytes.iter().position(|b| *b == b'\n').map(|end| (&bytes[..end], &bytes[end + 1..]));
    let (_, json) = json
        .filter(|(sum, json)| Sha256::of(json).to_string().as_bytes() == *sum)
        .ok_or_else(|| damaged("its index is not what was written"))?;
    let (stream_sha256, rows): (_, Vec<MemberRow<'_>>) =
        serde_json::from_slice(json).map_err(|e| damaged(&e.to_string()))?;
    let members: Option<_> = rows.into_iter().map(|row| row.into_member(&bodies, size)).collect();
    Ok(Unpacked { members: members.ok_or_else(|| damaged("its bodies are truncated"))?, stream_sha256 })
}
