//! One file system object on its way into an image, whatever source it came from.

use sha2::{Digest, Sha256 as Sha256Hasher};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hasher;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use twox_hash::XxHash64;

/// SHA-256 of some bytes; prints as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256Hasher::digest(bytes).into())
    }

    /// Of a file, with its size in bytes.
    pub fn of_file(path: &std::path::Path) -> std::io::Result<(Self, u64)> {
        Self::of_reader(&mut std::fs::File::open(path)?)
    }

    /// Of all that is left in a reader, with its size in bytes.
    pub fn of_reader(reader: &mut impl Read) -> std::io::Result<(Self, u64)> {
        let (mut hasher, mut size, mut buffer) = (Sha256Hasher::new(), 0, vec![0; 1 << 16]);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok((Self(hasher.finalize().into()), size)),
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    size += n as u64;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Parses 64 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut out = [0; 32];
        hex::decode_to_slice(text, &mut out).ok()?;
        Some(Self(out))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Sha256 {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Sha256 {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        Sha256::parse(&text).ok_or_else(|| serde::de::Error::custom("expected 64 hex digits"))
    }
}

/// The bytes of a regular file: where they are, and what they hash to.
#[derive(Debug, Clone, PartialEq)]
pub struct Body {
    pub sha256: Sha256,
    /// Bytes.
    pub size: u64,
    pub at: BodyAt,
}

#[derive(Debug, Clone, PartialEq)]
pub enum BodyAt {
    Memory(Arc<[u8]>),
    /// `size` bytes of a (cache) file from `offset`.
    File {
        path: Arc<Path>,
        offset: u64,
    },
}

impl Body {
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self { sha256: Sha256::of(&bytes), size: bytes.len() as u64, at: BodyAt::Memory(bytes) }
    }

    /// A reader of the body's bytes, at most `size` of them.
    pub fn open(&self) -> std::io::Result<Box<dyn Read + Send + '_>> {
        Ok(match &self.at {
            BodyAt::Memory(bytes) => Box::new(&bytes[..]),
            BodyAt::File { path, offset } => {
                let mut file = std::fs::File::open(path)?;
                file.seek(SeekFrom::Start(*offset))?;
                Box::new(file.take(self.size))
            }
        })
    }

    /// The body's first bytes, at most `limit`.
    pub fn read_start(&self, limit: u64) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// XXH64 (seed 0) of the body's bytes, as 16 hex digits.
    pub fn xxh64(&self) -> std::io::Result<String> {
        let mut hasher = XxHash64::with_seed(0);
        self.feed(&mut hasher)?;
        Ok(format!("{:016x}", hasher.finish()))
    }

    /// Gives a hasher the body's bytes.
    pub fn feed(&self, hasher: &mut impl Hasher) -> std::io::Result<()> {
        let mut chunk = vec![0; self.size.min(1 << 20) as usize];
        let mut reader = self.open()?;
        loop {
            match reader.read(&mut chunk)? {
                0 => return Ok(()),
                n => hasher.write(&chunk[..n]),
            }
        }
    }

    /// The file that holds the body, for messages.
    pub fn place(&self) -> PathBuf {
        match &self.at {
            BodyAt::Memory(_) => "(memory)".into(),
            BodyAt::File { path, .. } => path.to_path_buf(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Dir,
    File(Body),
    /// A further name of the regular file at that path (no leading `/`) of the same source.
    Hardlink(String),
    Symlink(String),
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// A file system object. Times are not kept: every image file has time 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Path without a leading or trailing `/`, never with `.`, `..` or an empty component; UTF-8.
    pub path: String,
    pub kind: Kind,
    /// Permission bits, 0o7777 at most.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of a hard link: those of its file.
    pub xattrs: Xattrs,
}

/// Extended attributes (xattr(7)): full name, such as `security.capability`, and value. POSIX ACLs are here under the names
/// [`ACL_ACCESS`] and [`ACL_DEFAULT`].
pub type Xattrs = BTreeMap<String, Vec<u8>>;

/// The kernel's names of POSIX ACLs (linux/posix_acl_xattr.h).
pub const ACL_ACCESS: &str = "system.posix_acl_access";
pub const ACL_DEFAULT: &str = "system.posix_acl_default";

impl Entry {
    /// What belongs to root and has no extended attributes. `path` and `mode` as in the fields.
    pub fn of_root(path: impl Into<String>, kind: Kind, mode: u32) -> Self {
        Self { path: path.into(), kind, mode, uid: 0, gid: 0, xattrs: Xattrs::new() }
    }
}

/// A file's size is written as eight hex digits.
pub const MAX_FILE: u64 = u32::MAX as u64;

/// Checks a path of an archive or a recipe: relative after one leading `/` or `./` is dropped, no `..`, no NUL or newline.
/// Returns it in [`Entry::path`]'s form; the root itself is the empty string.
pub fn parse_entry_path(raw: &str) -> Result<String, PathProblem> {
    if raw.contains(['\0', '\n']) {
        return Err(PathProblem::ControlCharacter);
    }
    let mut parts = Vec::new();
    for part in raw.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(PathProblem::ParentDir),
            p => parts.push(p),
        }
    }
    Ok(parts.join("/"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    #[error("a path with `..`")]
    ParentDir,
    #[error("a path with a NUL or newline")]
    ControlCharacter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(parse_entry_path("./usr//bin/x/"), Ok("usr/bin/x".into()));
        assert_eq!(parse_entry_path("/etc"), Ok("etc".into()));
        assert_eq!(parse_entry_path("."), Ok(String::new()));
        assert_eq!(parse_entry_path("usr/../etc"), Err(PathProblem::ParentDir));
        assert_eq!(parse_entry_path("a\nb"), Err(PathProblem::ControlCharacter));
    }
}
