//! Reads tar archives, compressed or not. An archive is refused as a whole when it is damaged or could fill the disk; a
//! member that no image can hold is kept as such, and refused where it is wanted.

pub mod rootfs;
mod sparse;

use super::SourceError;
use crate::cache::unpacked::{MemberHead, MemberKind, Unpacked, Unpacker, open_unpacked};
use crate::cache::{Cache, Hashed, read_blob};
use crate::entry::{ACL_ACCESS, ACL_DEFAULT, Kind, Sha256, Xattrs};
use crate::fetch::FetchError;
use sparse::Sparse;
use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;
use tar::EntryType;

/// Bytes that headers (long names, pax records) of one entry may have: they are read into memory.
const HEADER_BYTES: u64 = 4 << 20;
/// Memory for decoding .xz: dictionaries of up to 512 MiB, and several blocks at once where they fit.
const XZ_MEMORY: u64 = 1 << 30;

/// Bytes that a name or a link's target may have (`PATH_MAX` with its NUL; linux/limits.h).
const MAX_NAME: usize = 4095;

/// How large an archive may become, and what it may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one file; a larger one cannot be in an image.
    pub file_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: 4 << 30, total_bytes: 16 << 30, entries: 1 << 19 }
    }
}

/// The members of the archive that the cache holds under that hash, unpacked into the cache once. `name` is for messages.
pub fn open_tar(
    cache: &Cache,
    sha256: &Sha256,
    name: &str,
    limits: Limits,
    jobs: usize,
) -> Result<Unpacked, SourceError> {
    open_unpacked(cache, &format!("tar-{sha256}"), |into| {
        let path = cache.blob(sha256).ok_or_else(|| SourceError::Fetch(FetchError::Offline { name: name.into() }))?;
        read_blob(&path, sha256, |blob| {
            let cut = |cause: io::Error| bad(name, "", format!("cannot be read: {cause}"));
            let mut stream = Hashed::new(decompress(blob, jobs).map_err(cut)?);
            read_tar(&mut stream, name, limits, into)?;
            // Padding, or what follows the end: no part of the archive, but of its hash.
            if io::copy(&mut (&mut stream).take(limits.total_bytes), &mut io::sink()).is_ok() {
                into.set_stream_sha256(stream.sha256());
            }
            Ok(())
        })
    })
}

/// Decompresses by magic: gzip (RFC 1952), xz (xz-file-format.txt section 2.1.1.1), zstd (RFC 8878 section 3.1.1), else plain.
/// An .xz file of several blocks is decoded by `jobs` threads.
pub fn decompress<'a>(mut reader: impl Read + 'a, jobs: usize) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::with_capacity(6);
    reader.by_ref().take(6).read_to_end(&mut magic)?;
    let kind = magic.clone();
    let reader = BufReader::with_capacity(1 << 16, io::Cursor::new(magic).chain(reader));
    Ok(match kind.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            let stream = liblzma::stream::MtStreamBuilder::new()
                .threads(jobs.max(1) as u32)
                .memlimit_threading(XZ_MEMORY)
                .memlimit_stop(XZ_MEMORY)
                .decoder()?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(reader, stream))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(reader)?),
        _ => Box::new(reader),
    })
}

/// Hands every member of a plain tar stream to `into`, in its order and under its own name. `archive` is for messages.
///
/// # Errors
/// [`SourceError::BadArchive`] when it is no tar, is cut short, has more or larger members than the limits allow (which is
/// checked before a body is read), or a global header that would rename or resize what follows.
pub fn read_tar(reader: impl Read, archive: &str, limits: Limits, into: &mut Unpacker) -> Result<(), SourceError> {
    let allowance = Rc::new(Cell::new(HEADER_BYTES));
    let mut tar = tar::Archive::new(HeaderGuard { reader, allowance: allowance.clone() });
    let broken = |cause: io::Error| bad(archive, "", format!("cannot be read: {cause}"));
    let mut members = Members { archive, limits, total: 0, count: 0 };
    let mut entries = tar.entries().map_err(broken)?;
    let mut unread = 0;
    loop {
        allowance.set(HEADER_BYTES.saturating_add(unread));
        let Some(entry) = entries.next() else { return Ok(()) };
        allowance.set(u64::MAX);
        unread = members.add(entry.map_err(broken)?, into)?;
    }
}

fn bad(archive: &str, entry: &str, problem: impl Into<String>) -> SourceError {
    SourceError::BadArchive { archive: archive.into(), entry: entry.into(), problem: problem.into() }
}

/// Bounds what the tar reader takes in between two bodies.
struct HeaderGuard<R> {
    reader: R,
    allowance: Rc<Cell<u64>>,
}

impl<R: Read> Read for HeaderGuard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.allowance.get();
        if left == 0 {
            return Err(io::Error::other(format!("headers of more than {HEADER_BYTES} bytes")));
        }
        let n = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = self.reader.read(&mut buffer[..n])?;
        self.allowance.set(left - n as u64);
        Ok(n)
    }
}

struct Members<'a> {
    archive: &'a str,
    limits: Limits,
    total: u64,
    count: usize,
}

impl Members<'_> {
    /// Returns how many bytes of the member's body were left unread.
    fn add(&mut self, mut entry: tar::Entry<'_, impl Read>, into: &mut Unpacker) -> Result<u64, SourceError> {
        self.count += 1;
        let raw = entry.path_bytes().into_owned();
        if self.count > self.limits.entries {
            return Err(bad(self.archive, &shown(&raw), format!("more than {} entries", self.limits.entries)));
        }
        let refuse = |problem: String| bad(self.archive, &shown(&raw), problem);
        match entry.header().entry_type() {
            EntryType::XGlobalHeader => return check_global_header(&mut entry).map(|()| 0).map_err(refuse),
            // The volume's label, which GNU tar passes over too.
            kind if kind.as_byte() == LABEL => return Ok(entry.size()),
            _ => {}
        }
        let sparse = match Sparse::of(&mut entry) {
            Ok(sparse) => sparse,
            Err(problem) => return Ok(self.unusable(&entry, &raw, problem, into)),
        };
        let (xattrs, mtime) = match read_records(&mut entry) {
            Ok((xattrs, mtime)) => (xattrs, mtime),
            Err(problem) => return Ok(self.unusable(&entry, &raw, problem, into)),
        };
        let raw = sparse.as_ref().and_then(|sparse| sparse.name.clone()).unwrap_or(raw);
        let (name, mode, uid, gid) = match head(&raw, entry.header()) {
            Ok(head) => head,
            Err(problem) => return Ok(self.unusable(&entry, &raw, problem, into)),
        };
        let mtime = mtime.unwrap_or_else(|| read_mtime(entry.header()));
        let head = MemberHead { name: &name, mode, uid, gid, xattrs: &xattrs, mtime };
        let is_file =
            matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse);
        // Before POSIX a name that ends with a slash was how a tar told a folder.
        if is_file && !raw.ends_with(b"/") {
            return self.add_file(entry, sparse, head, into);
        }
        let kind = if is_file { Ok(MemberKind::Dir) } else { plain_kind(&entry) };
        into.add(head, kind.unwrap_or_else(MemberKind::Unusable));
        Ok(unread(&entry))
    }

    fn unusable<R: Read>(&self, entry: &tar::Entry<'_, R>, raw: &[u8], problem: String, into: &mut Unpacker) -> u64 {
        let head = MemberHead { name: &shown(raw), mode: 0, uid: 0, gid: 0, xattrs: &Xattrs::new(), mtime: 0 };
        into.add(head, MemberKind::Unusable(problem));
        unread(entry)
    }

    fn add_file<R: Read>(
        &mut self,
        mut entry: tar::Entry<'_, R>,
        sparse: Option<Sparse>,
        head: MemberHead<'_>,
        into: &mut Unpacker,
    ) -> Result<u64, SourceError> {
        let (archive, name) = (self.archive, head.name);
        let size = sparse.as_ref().map_or(entry.size(), |sparse| sparse.size);
        if size > self.limits.file_bytes {
            let problem = format!("a file of {size} bytes, over the limit of {}", self.limits.file_bytes);
            return Ok(self.unusable(&entry, name.as_bytes(), problem, into));
        }
        self.total += size;
        if self.total > self.limits.total_bytes {
            return Err(bad(archive, name, format!("more than {} bytes of files", self.limits.total_bytes)));
        }
        let added = match sparse {
            Some(sparse) => into.add_file(head, &mut sparse.expand(&mut entry))?,
            None => into.add_file(head, &mut entry)?,
        };
        match added {
            Ok(found) if found == size => Ok(0),
            Ok(found) => Err(bad(archive, name, format!("truncated: found {found} of {size} bytes"))),
            Err(cause) => Err(bad(archive, name, format!("cannot be read: {cause}"))),
        }
    }
}

/// GNU tar's volume label (tar(5), "GNU tar Archives").
const LABEL: u8 = b'V';
/// GNU tar's folder with the names in it, of an incremental archive.
const DUMP_DIR: u8 = b'D';

/// Bytes that the archive holds of the member's body.
fn unread<R: Read>(entry: &tar::Entry<'_, R>) -> u64 {
    match entry.header().entry_type() {
        EntryType::GNUSparse => entry.header().entry_size().unwrap_or(u64::MAX),
        _ => entry.size(),
    }
}

/// A name for messages and for what only counts when it is wanted.
fn shown(raw: &[u8]) -> String {
    let mut text = String::new();
    for chunk in raw[..raw.len().min(MAX_NAME)].utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

/// Name, mode, owner and group; an error is why they cannot be in an image.
fn head(raw: &[u8], header: &tar::Header) -> Result<(String, u32, u32, u32), String> {
    let name = std::str::from_utf8(raw).map_err(|_| "a path that is not UTF-8")?;
    if name.len() > MAX_NAME {
        return Err(format!("a path of more than {MAX_NAME} bytes"));
    }
    // An empty field is 0, as GNU tar and Go read it.
    let number = |field: &str, raw: &[u8], value: io::Result<u64>| match value.map(u32::try_from) {
        Ok(Ok(n)) => Ok(n),
        _ if raw.iter().all(|byte| [0, b' '].contains(byte)) => Ok(0),
        _ => Err(format!("a bad {field}")),
    };
    let raw = header.as_old();
    let mode = number("mode", &raw.mode, header.mode().map(u64::from))? & 0o7777;
    let owner = number("owner", &raw.uid, header.uid())?;
    Ok((name.into(), mode, owner, number("group", &raw.gid, header.gid())?))
}

fn plain_kind(entry: &tar::Entry<'_, impl Read>) -> Result<MemberKind, String> {
    match entry.header().entry_type() {
        EntryType::Directory => Ok(MemberKind::Dir),
        kind if kind.as_byte() == DUMP_DIR => Ok(MemberKind::Dir),
        EntryType::Symlink => link_target(entry).map(MemberKind::Symlink),
        EntryType::Link => link_target(entry).map(MemberKind::Hardlink),
        EntryType::Fifo => Ok(MemberKind::Node(Kind::Fifo)),
        kind @ (EntryType::Char | EntryType::Block) => {
            // An empty field is 0, as Go reads it.
            let number = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or_default();
            let (major, minor) = (number(entry.header().device_major()), number(entry.header().device_minor()));
            let is_char = kind == EntryType::Char;
            Ok(MemberKind::Node(match is_char {
                true => Kind::CharDevice { major, minor },
                false => Kind::BlockDevice { major, minor },
            }))
        }
        other => Err(format!("an entry of type `{}`", char::from(other.as_byte()).escape_default())),
    }
}

fn link_target(entry: &tar::Entry<'_, impl Read>) -> Result<String, String> {
    let target = entry.link_name_bytes().ok_or("a link without a target")?;
    let target = std::str::from_utf8(&target).map_err(|_| "a link target that is not UTF-8")?;
    if target.is_empty() || target.len() > MAX_NAME || target.contains(['\0', '\n']) {
        return Err("a link target that is empty, too long, or holds a NUL or newline".into());
    }
    Ok(target.into())
}

/// A pax header for all entries that follow (POSIX pax, "g"): git writes its commit there. GNU tar heeds what it says of
/// names, sizes and owners, containerd and umoci pass over it: such an archive would mean different things to them.
fn check_global_header(entry: &mut tar::Entry<'_, impl Read>) -> Result<(), String> {
    const DISPUTED: [&[u8]; 5] = [b"path", b"linkpath", b"size", b"uid", b"gid"];
    let mut text = Vec::new();
    entry.take(HEADER_BYTES).read_to_end(&mut text).map_err(|e| format!("cannot be read: {e}"))?;
    for record in tar::PaxExtensions::new(&text) {
        let record = record.map_err(|_| "a bad global pax header")?;
        let key = record.key_bytes();
        if DISPUTED.contains(&key) || key.starts_with(b"GNU.sparse.") {
            return Err(format!("a global pax header with `{}`", shown(key)));
        }
    }
    Ok(())
}

/// The time of a header, seconds since 1970; GNU tar writes those before as negative numbers.
fn read_mtime(header: &tar::Header) -> i64 {
    header.mtime().map_or(0, |mtime| mtime.cast_signed())
}

/// The extended attributes and ACLs in an entry's pax records, as GNU tar, bsdtar and container builders write them; and the time
/// of its last change in whole seconds, where a record says it.
fn read_records(entry: &mut tar::Entry<'_, impl Read>) -> Result<(Xattrs, Option<i64>), String> {
    let records = entry.pax_extensions().map_err(|e| format!("cannot be read: {e}"))?;
    let (mut xattrs, mut mtime) = (Xattrs::new(), None);
    for record in records.into_iter().flatten() {
        let record = record.map_err(|_| "a bad pax header")?;
        let key = String::from_utf8_lossy(record.key_bytes());
        if key == "mtime" {
            let seconds = record.value().ok().and_then(|text| text.parse::<f64>().ok());
            mtime = Some(seconds.ok_or("a bad time")?.floor() as i64);
        }
        let name = match &*key {
            "SCHILY.acl.access" => ACL_ACCESS,
            "SCHILY.acl.default" => ACL_DEFAULT,
            key => match key.strip_prefix("SCHILY.xattr.") {
                Some(name) => name,
                None => continue,
            },
        };
        xattrs.insert(name.into(), record.value_bytes().to_vec());
    }
    Ok((xattrs, mtime))
}

#[cfg(test)]
mod tests;
