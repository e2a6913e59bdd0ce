//! Reads tar archives, compressed or not, and refuses what could leave the image's tree or fill the disk.

use super::SourceError;
use crate::cache::unpacked::{FileHead, Unpacker, open_unpacked};
use crate::cache::{Cache, read_blob};
use crate::entry::{ACL_ACCESS, ACL_DEFAULT, Entry, Kind, Sha256, Xattrs, parse_entry_path};
use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::rc::Rc;
use tar::EntryType;

/// Bytes that headers (long names, pax records) of one entry may have: they are read into memory.
const HEADER_BYTES: u64 = 4 << 20;
/// Memory for decoding .xz: dictionaries of up to 512 MiB, and several blocks at once where they fit.
const XZ_MEMORY: u64 = 1 << 30;

/// How large an archive may become, and what it may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
    pub entries: usize,
    /// Accept device nodes and fifos.
    pub devices: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: 4 << 30, total_bytes: 16 << 30, entries: 1 << 19, devices: false }
    }
}

/// The entries of the archive file with that hash, unpacked into the cache once. `name` is for messages.
pub fn open_tar(
    cache: &Cache,
    file: &Path,
    sha256: &Sha256,
    name: &str,
    limits: Limits,
    jobs: usize,
) -> Result<Vec<Entry>, SourceError> {
    let key = format!("tar-{sha256}{}", if limits.devices { "-devices" } else { "" });
    open_unpacked(cache, &key, |into| {
        let failed = |cause| SourceError::Io { action: "read", path: file.into(), cause };
        read_blob(file, sha256, |blob| read_tar(decompress(blob, jobs).map_err(failed)?, name, limits, into))
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

/// Hands every entry of a plain tar stream to `into`. `archive` is for messages.
///
/// Paths are made relative. Refused: `..`, paths and names that are not UTF-8, entries below something that is no folder,
/// hard links to what is no file of the archive, relative symlinks that climb out of the tree, device nodes and
/// fifos (unless allowed), and sizes over the limits, which are checked before a body is read.
pub fn read_tar(reader: impl Read, archive: &str, limits: Limits, into: &mut Unpacker) -> Result<(), SourceError> {
    let allowance = Rc::new(Cell::new(HEADER_BYTES));
    let mut tar = tar::Archive::new(HeaderGuard { reader, allowance: allowance.clone() });
    let broken = |cause: io::Error| bad(archive, "", format!("cannot be read: {cause}"));
    let mut state = State { archive, limits, total: 0, count: 0, parents: HashSet::new() };
    let mut entries = tar.entries().map_err(broken)?;
    loop {
        allowance.set(HEADER_BYTES);
        let Some(entry) = entries.next() else { return Ok(()) };
        allowance.set(u64::MAX);
        state.add(entry.map_err(broken)?, into)?;
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

struct State<'a> {
    archive: &'a str,
    limits: Limits,
    total: u64,
    count: usize,
    /// Folders of the entries so far, named or not.
    parents: HashSet<String>,
}

impl State<'_> {
    fn add(&mut self, mut entry: tar::Entry<'_, impl Read>, into: &mut Unpacker) -> Result<(), SourceError> {
        self.count += 1;
        let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let archive = self.archive;
        let refuse = |problem: String| bad(archive, &raw, problem);
        if self.count > self.limits.entries {
            return Err(refuse(format!("more than {} entries", self.limits.entries)));
        }
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            return check_global_header(&mut entry).map_err(refuse);
        }
        let xattrs = read_records(&mut entry).map_err(refuse)?;
        if std::str::from_utf8(&entry.path_bytes()).is_err() {
            return Err(refuse("a path that is not UTF-8".into()));
        }
        let path = parse_entry_path(&raw).map_err(|e| refuse(e.to_string()))?;
        if path.is_empty() {
            // The tree's root, usually `./`: the image has its own.
            return Ok(());
        }
        self.check_place(&path, entry.header().entry_type() == EntryType::Directory, into).map_err(refuse)?;
        let number = |field: &str, value: io::Result<u64>| match value.map(u32::try_from) {
            Ok(Ok(n)) => Ok(n),
            _ => Err(bad(archive, &raw, format!("a bad {field}"))),
        };
        let header = entry.header();
        let head = FileHead {
            path: &path,
            mode: number("mode", header.mode().map(u64::from))? & 0o7777,
            uid: number("owner", header.uid())?,
            gid: number("group", header.gid())?,
            xattrs: &xattrs,
        };
        match header.entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.add_file(entry, head, &raw, into),
            EntryType::Link => {
                let target = link_target(&entry).map_err(refuse)?;
                let target = parse_entry_path(&target).map_err(|e| refuse(format!("a hard link to {e}")))?;
                match into.add_link(head, &target) {
                    true => Ok(()),
                    false => Err(refuse(format!("a hard link to `{target}`, which is no file of the archive"))),
                }
            }
            _ => {
                let kind = self.plain_kind(&entry, &path).map_err(refuse)?;
                into.add(head.entry(kind));
                Ok(())
            }
        }
    }

    fn add_file(
        &mut self,
        mut entry: tar::Entry<'_, impl Read>,
        head: FileHead<'_>,
        raw: &str,
        into: &mut Unpacker,
    ) -> Result<(), SourceError> {
        let (archive, size) = (self.archive, entry.size());
        if size > self.limits.file_bytes {
            return Err(bad(
                archive,
                raw,
                format!("a file of {size} bytes, over the limit of {}", self.limits.file_bytes),
            ));
        }
        self.total += size;
        if self.total > self.limits.total_bytes {
            return Err(bad(archive, raw, format!("more than {} bytes of files", self.limits.total_bytes)));
        }
        match into.add_file(head, &mut entry)? {
            Ok(found) if found == size => Ok(()),
            Ok(found) => Err(bad(archive, raw, format!("truncated: found {found} of {size} bytes"))),
            Err(cause) => Err(bad(archive, raw, format!("cannot be read: {cause}"))),
        }
    }

    /// Nothing may lie below a symlink or a file, and a folder that holds something stays one.
    fn check_place(&mut self, path: &str, is_dir: bool, into: &Unpacker) -> Result<(), String> {
        if !is_dir && self.parents.contains(path) {
            return Err("it replaces a folder that holds other entries".into());
        }
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            if into.get(parent).is_some_and(|e| e.kind != Kind::Dir) {
                return Err(format!("it lies below `{parent}`, which is no folder"));
            }
            if !self.parents.contains(parent) {
                self.parents.insert(parent.into());
            }
        }
        Ok(())
    }

    fn plain_kind(&self, entry: &tar::Entry<'_, impl Read>, path: &str) -> Result<Kind, String> {
        let header = entry.header();
        let device = || -> Result<(u32, u32), String> {
            let number = |n: io::Result<Option<u32>>| n.ok().flatten().ok_or("a bad device number");
            Ok((number(header.device_major())?, number(header.device_minor())?))
        };
        match header.entry_type() {
            EntryType::Directory => Ok(Kind::Dir),
            EntryType::Symlink => {
                let target = link_target(entry)?;
                check_symlink(path, &target)?;
                Ok(Kind::Symlink(target))
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo if !self.limits.devices => {
                Err("a device node or fifo".into())
            }
            EntryType::Char => device().map(|(major, minor)| Kind::CharDevice { major, minor }),
            EntryType::Block => device().map(|(major, minor)| Kind::BlockDevice { major, minor }),
            EntryType::Fifo => Ok(Kind::Fifo),
            other => Err(format!("an entry of type `{}`", char::from(other.as_byte()).escape_default())),
        }
    }
}

fn link_target(entry: &tar::Entry<'_, impl Read>) -> Result<String, String> {
    let target = entry.link_name_bytes().ok_or("a link without a target")?;
    let target = std::str::from_utf8(&target).map_err(|_| "a link target that is not UTF-8")?;
    if target.is_empty() || target.contains(['\0', '\n']) {
        return Err("a link target that is empty or holds a NUL or newline".into());
    }
    Ok(target.into())
}

/// Refuses a relative symlink that climbs above the tree's root. An absolute one starts at the image's root.
pub fn check_symlink(path: &str, target: &str) -> Result<(), String> {
    if target.starts_with('/') {
        return Ok(());
    }
    let mut depth = path.matches('/').count();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.checked_sub(1).ok_or(format!("a symlink out of the tree, to `{target}`"))?,
            _ => depth += 1,
        }
    }
    Ok(())
}

/// A pax header for all entries that follow (POSIX pax, "g"): git writes its commit there, other records could rename.
fn check_global_header(entry: &mut tar::Entry<'_, impl Read>) -> Result<(), String> {
    let mut text = Vec::new();
    entry.take(HEADER_BYTES).read_to_end(&mut text).map_err(|e| format!("cannot be read: {e}"))?;
    for record in tar::PaxExtensions::new(&text) {
        match record.map(|r| r.key_bytes() == b"comment") {
            Ok(true) => {}
            _ => return Err("a global pax header with more than a comment".into()),
        }
    }
    Ok(())
}

/// The extended attributes and ACLs in an entry's pax records, as GNU tar, bsdtar and container builders write them.
///
/// GNU tar's sparse files in pax form hold a map in front of the body, which we would take for the body: refused.
fn read_records(entry: &mut tar::Entry<'_, impl Read>) -> Result<Xattrs, String> {
    let records = entry.pax_extensions().map_err(|e| format!("cannot be read: {e}"))?;
    let mut xattrs = Xattrs::new();
    for record in records.into_iter().flatten() {
        let record = record.map_err(|_| "a bad pax header")?;
        let key = String::from_utf8_lossy(record.key_bytes());
        if key.starts_with("GNU.sparse.") {
            return Err("a sparse file in pax form".into());
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
    Ok(xattrs)
}

#[cfg(test)]
mod tests;
