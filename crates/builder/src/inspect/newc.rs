//! Reads newc archives as the kernel does (init/initramfs.c; the layout is in
//! Documentation/driver-api/early-userspace/buffer-format.rst): several in a row, with or without a trailer, zero bytes
//! between archives and between entries. What the kernel says when it stops is what we say.

use super::stream::Input;
use crate::emit::manifest::FileKind;
use crate::entry::Sha256;
use serde::Serialize;
use sha2::{Digest, Sha256 as Hasher};
use std::collections::HashMap;
use std::io::Read;

/// `PATH_MAX`, with the terminating zero: the kernel passes over longer names and link targets.
const PATH_MAX: u32 = 4096;
/// `NAME_MAX`: no file system takes a longer name between two slashes.
const NAME_MAX: usize = 255;
const HEADER_BYTES: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";

/// What one initrd may hold.
#[derive(Debug, Clone, Copy)]
pub struct InitrdLimits {
    pub entries: usize,
    /// Bytes of all segments after decompression.
    pub unpacked: u64,
}

impl Default for InitrdLimits {
    fn default() -> Self {
        Self { entries: 1 << 20, unpacked: 64 << 30 }
    }
}

/// A file system object in an archive.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InitrdEntry {
    /// Without a leading `/` or `./`; bytes that are not UTF-8 are shown as U+FFFD.
    pub path: String,
    pub kind: FileKind,
    /// Octal permission bits.
    pub mode: String,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of a regular file, with its first name; none with its further ones.
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Of its content, with the first name of a file; absent where there is none.
    #[serde(skip)]
    pub sha256: Option<Sha256>,
}

/// Files by the numbers that their names share, until a trailer ends an archive. Kept from one segment to the next.
#[derive(Debug, Default)]
pub struct SharedInodes(HashMap<(u32, u32, u32, u32), FirstName>);

#[derive(Debug)]
struct FirstName {
    path: String,
    /// Place in the list of the segment with that number.
    at: (u64, usize),
}

/// Where the reading of a segment stands.
pub struct NewcReader<'a, R> {
    pub input: &'a mut Input<R>,
    pub limits: &'a mut InitrdLimits,
    pub links: &'a mut SharedInodes,
    /// Tells the segments apart.
    pub segment: u64,
    pub entries: Vec<InitrdEntry>,
    /// What the kernel takes without a word although it is hardly meant so.
    pub notes: Vec<String>,
}

/// Why an archive ended.
enum ArchiveEnd {
    Trailer,
    /// The input ended in the middle of an entry.
    CutShort,
}

impl<R: Read> NewcReader<'_, R> {
    /// Reads a plain archive up to its trailer, or to what does not begin like an archive.
    ///
    /// # Errors
    /// Why the kernel stops there, in words.
    pub fn read_plain(&mut self) -> Result<(), String> {
        loop {
            match self.read_entry()? {
                Some(ArchiveEnd::CutShort) => {
                    self.notes.push("cut short, which the kernel does not notice".into());
                    return Ok(());
                }
                Some(ArchiveEnd::Trailer) => return self.skip_zeros().map(drop),
                None if self.skip_zeros()? != Some(b'0') => return Ok(()),
                None => {}
            }
        }
    }

    /// Reads all archives of a decompressed segment. Zeros may stand before the first one only in a segment that is not
    /// the initrd's first.
    ///
    /// # Errors
    /// Why the kernel stops there, in words.
    pub fn read_unpacked(&mut self, is_first: bool) -> Result<(), String> {
        let mut next = if is_first { self.peek()? } else { self.skip_zeros()? };
        if is_first && next.is_none() {
            return Err("junk at the end of compressed archive: it is empty".into());
        }
        loop {
            match next {
                None => return Ok(()),
                Some(b'0') => {}
                Some(_) if is_first && self.input.position() == 0 => return Err("no cpio magic at byte 0".into()),
                Some(_) => return Err(format!("junk within compressed archive at byte {}", self.input.position())),
            }
            if let Some(ArchiveEnd::CutShort) = self.read_entry()? {
                return Err("junk at the end of compressed archive: it is cut short".into());
            }
            next = self.skip_zeros()?;
        }
    }

    fn peek(&mut self) -> Result<Option<u8>, String> {
        Ok(self.input.peek(1).map_err(cannot_read)?.first().copied())
    }

    /// What comes after zeros, which has to begin at a multiple of four.
    fn skip_zeros(&mut self) -> Result<Option<u8>, String> {
        let before = self.input.position();
        self.input.skip_zeros().map_err(cannot_read)?;
        self.allow(self.input.position() - before)?;
        let next = self.peek()?;
        match next.is_some() && !self.input.position().is_multiple_of(4) {
            true => Err(format!("broken padding at byte {}", self.input.position())),
            false => Ok(next),
        }
    }

    /// Reads one entry, with the bytes that pad it.
    fn read_entry(&mut self) -> Result<Option<ArchiveEnd>, String> {
        let start = self.input.position();
        let Some(header) = self.take(HEADER_BYTES as u64)? else { return Ok(Some(ArchiveEnd::CutShort)) };
        let with_sum = match &header[..6] {
            b"070701" => false,
            b"070702" => true,
            b"070707" => return Err(format!("incorrect cpio method used: use -H newc option, at byte {start}")),
            _ => return Err(format!("no cpio magic at byte {start}")),
        };
        let header = NewcHeader::parse(&header);
        let (name_bytes, size) = (header.name_bytes, header.size);
        let padded_name = (HEADER_BYTES as u64 + u64::from(name_bytes)).next_multiple_of(4) - HEADER_BYTES as u64;
        let padded_size = u64::from(size).next_multiple_of(4);
        let passed_over = match () {
            () if name_bytes == 0 || name_bytes > PATH_MAX => Some(format!("its name has {name_bytes} bytes")),
            () if header.is(S_IFLNK) && size > PATH_MAX => Some(format!("its link target has {size} bytes")),
            () if !header.is(S_IFLNK) && !header.is(S_IFREG) && size > 0 => Some("it has a body and is no file".into()),
            () => None,
        };
        if let Some(reason) = passed_over {
            self.notes.push(format!("the entry at byte {start} is passed over: {reason}"));
            return self.skip(padded_name + padded_size);
        }
        // A name that is there without its padding is not yet read by the kernel.
        let Some(name) = self.take(padded_name)? else { return Ok(Some(ArchiveEnd::CutShort)) };
        let (name, end) = name.split_at(name_bytes as usize - 1);
        if end.first() != Some(&0) {
            return Err(format!("malformed archive: a name without its zero at byte {start}"));
        }
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        if name == TRAILER && !header.is(S_IFLNK) {
            self.links.0.clear();
            return Ok(self.skip(padded_size)?.or(Some(ArchiveEnd::Trailer)));
        }
        if header.is(S_IFLNK) {
            let Some(target) = self.take(size.into())? else { return Ok(Some(ArchiveEnd::CutShort)) };
            let target = target.split(|b| *b == 0).next().unwrap_or_default();
            self.add(&header, start, name, Some(String::from_utf8_lossy(target).into_owned()))?;
            return self.skip(padded_size - u64::from(size));
        }
        let owner = self.add(&header, start, name, None)?;
        if !header.is(S_IFREG) {
            return Ok(None);
        }
        let Some((sum, sha256)) = self.sum_body(size)? else { return Ok(Some(ArchiveEnd::CutShort)) };
        if let Some(owner) = owner.filter(|_| size > 0) {
            self.entries[owner].sha256 = Some(sha256);
        }
        if with_sum && sum != header.sum {
            return Err(format!("bad data checksum of the entry at byte {start}"));
        }
        self.skip(padded_size - u64::from(size))
    }

    /// Lists an entry. Returns the place of the one that its body belongs to: itself, or the first name of a linked file.
    fn add(
        &mut self,
        header: &NewcHeader,
        start: u64,
        name: &[u8],
        link: Option<String>,
    ) -> Result<Option<usize>, String> {
        if self.entries.len() >= self.limits.entries {
            return Err(format!("more than {} entries", self.limits.entries));
        }
        let text = String::from_utf8_lossy(name);
        let path = text.trim_start_matches("./").trim_start_matches('/').to_string();
        if name.is_empty() || name.split(|b| *b == b'/').any(|part| part.len() > NAME_MAX) {
            self.notes.push(format!("the entry at byte {start} is dropped: no file system takes its name"));
            return Ok(None);
        }
        let Some(mut kind) = header.kind() else {
            self.notes
                .push(format!("the entry at byte {start} is of no type that is listed: {:#o}", header.mode & S_IFMT));
            return Ok(None);
        };
        let mut owner = Some(self.entries.len());
        let mut target = link;
        let mut size = if kind == FileKind::File { u64::from(header.size) } else { 0 };
        if matches!(kind, FileKind::Char | FileKind::Block) {
            target = Some(format!("{}:{}", header.device.0, header.device.1));
        }
        let may_be_linked = !matches!(kind, FileKind::Dir | FileKind::Symlink);
        if may_be_linked && header.links >= 2 {
            let here = (self.segment, self.entries.len());
            let key = (header.major, header.minor, header.inode, header.mode & S_IFMT);
            match self.links.0.get(&key) {
                None => drop(self.links.0.insert(key, FirstName { path: path.clone(), at: here })),
                Some(first) => {
                    kind = FileKind::Hardlink;
                    target = Some(first.path.clone());
                    owner = Some(first.at.1).filter(|_| first.at.0 == self.segment);
                    if let Some(first) = owner.filter(|_| size > 0) {
                        self.entries[first].size = size;
                    }
                    size = 0;
                }
            }
        }
        let mode = format!("{:04o}", header.mode & 0o7777);
        let (uid, gid) = (header.uid, header.gid);
        self.entries.push(InitrdEntry { path, kind, mode, uid, gid, size, target, sha256: None });
        Ok(owner)
    }

    fn allow(&mut self, bytes: u64) -> Result<(), String> {
        self.limits.unpacked = self.limits.unpacked.checked_sub(bytes).ok_or("more bytes than any initrd has")?;
        Ok(())
    }

    /// The next bytes, a few; `None` when the input ends before.
    fn take(&mut self, bytes: u64) -> Result<Option<Vec<u8>>, String> {
        self.allow(bytes)?;
        let mut taken = Vec::new();
        self.input.take(bytes).read_to_end(&mut taken).map_err(cannot_read)?;
        Ok(Some(taken).filter(|taken| taken.len() as u64 == bytes))
    }

    fn skip(&mut self, bytes: u64) -> Result<Option<ArchiveEnd>, String> {
        self.allow(bytes)?;
        let skipped = std::io::copy(&mut self.input.take(bytes), &mut std::io::sink()).map_err(cannot_read)?;
        Ok((skipped < bytes).then_some(ArchiveEnd::CutShort))
    }

    /// Passes over a body; gives the sum of its bytes and its hash, or `None` when the input ends before.
    fn sum_body(&mut self, size: u32) -> Result<Option<(u32, Sha256)>, String> {
        self.allow(size.into())?;
        let (mut sum, mut left, mut hasher) = (0u32, size as usize, Hasher::new());
        let mut buffer = [0; 1 << 14];
        while left > 0 {
            let room = buffer.len().min(left);
            let n = self.input.read(&mut buffer[..room]).map_err(cannot_read)?;
            if n == 0 {
                return Ok(None);
            }
            sum = buffer[..n].iter().fold(sum, |sum, byte| sum.wrapping_add(u32::from(*byte)));
            hasher.update(&buffer[..n]);
            left -= n;
        }
        Ok(Some((sum, Sha256(hasher.finalize().into()))))
    }
}

/// Types of inode(7).
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

struct NewcHeader {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    size: u32,
    major: u32,
    minor: u32,
    device: (u32, u32),
    name_bytes: u32,
    sum: u32,
}

impl NewcHeader {
    /// After the magic, 13 fields of 8 hex digits. As in the kernel (`simple_strntoul`), a field ends at what is no digit.
    fn parse(header: &[u8]) -> Self {
        let field = |i: usize| {
            let text = header.get(6 + i * 8..14 + i * 8).unwrap_or_default();
            let digits = match text {
                [b'0', b'x' | b'X', digits @ ..] => digits,
                digits => digits,
            };
            let digits = digits.iter().map_while(|b| char::from(*b).to_digit(16));
            digits.fold(0u32, |value, digit| value << 4 | digit)
        };
        Self {
            inode: field(0),
            mode: field(1) & 0xffff,
            uid: field(2),
            gid: field(3),
            links: field(4),
            size: field(6),
            major: field(7),
            minor: field(8),
            device: (field(9), field(10)),
            name_bytes: field(11),
            sum: field(12),
        }
    }

    fn is(&self, kind: u32) -> bool {
        self.mode & S_IFMT == kind
    }

    fn kind(&self) -> Option<FileKind> {
        Some(match self.mode & S_IFMT {
            S_IFREG => FileKind::File,
            S_IFLNK => FileKind::Symlink,
            0o040_000 => FileKind::Dir,
            0o020_000 => FileKind::Char,
            0o060_000 => FileKind::Block,
            0o010_000 => FileKind::Fifo,
            _ => return None,
        })
    }
}

fn cannot_read(cause: std::io::Error) -> String {
    match cause.kind() {
        std::io::ErrorKind::UnexpectedEof => "cut short".into(),
        _ => cause.to_string(),
    }
}
