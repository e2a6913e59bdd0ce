//! Reads newc archives (Documentation/driver-api/early-userspace/buffer-format.rst) as the kernel does: several in a
//! row, zero bytes between them.

use super::stream::Input;
use crate::emit::manifest::FileKind;
use serde::Serialize;
use std::io::Read;

/// `PATH_MAX`, with the terminating zero: the kernel skips longer names (`init/initramfs.c`).
const NAME_BYTES: u32 = 4096;
const HEADER_BYTES: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";

/// What one initrd may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub entries: usize,
    /// Bytes of all segments after decompression.
    pub unpacked: u64,
}

impl Default for Limits {
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
    /// Bytes of a regular file; of a hard link in the archive the last name has them.
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// Reads all archives of a stream, or, for a plain segment, the first one. Stops at what is no archive: the entries so
/// far stay in `entries`.
///
/// # Errors
/// What is wrong, in words.
pub fn read_archives<R: Read>(
    input: &mut Input<R>,
    only_first: bool,
    limits: &mut Limits,
    entries: &mut Vec<InitrdEntry>,
) -> Result<(), String> {
    loop {
        input.skip_zeros().map_err(cannot_read)?;
        if input.peek(1).map_err(cannot_read)?.is_empty() {
            return Ok(());
        }
        while let Some(entry) = read_entry(input, limits)? {
            if entries.len() >= limits.entries {
                return Err(format!("more than {} entries", limits.entries));
            }
            entries.push(entry);
        }
        if only_first {
            return Ok(());
        }
    }
}

/// One entry; `None` for the trailer.
fn read_entry<R: Read>(input: &mut Input<R>, limits: &mut Limits) -> Result<Option<InitrdEntry>, String> {
    let start = input.position();
    let mut header = [0; HEADER_BYTES];
    read_exact(input, &mut header, limits)?;
    let fields = parse_header(&header).ok_or_else(|| format!("no cpio header at byte {start}"))?;
    let Header { mode, uid, gid, links, size, device, name_bytes } = fields;
    if name_bytes == 0 || name_bytes > NAME_BYTES {
        return Err(format!("a name of {name_bytes} bytes at byte {start}"));
    }
    let mut name = vec![0; name_bytes as usize];
    read_exact(input, &mut name, limits)?;
    name.truncate(name.iter().position(|&b| b == 0).unwrap_or(name.len()));
    skip(input, padding(HEADER_BYTES as u64 + u64::from(name_bytes)), limits)?;
    if name == TRAILER {
        return Ok(None);
    }
    let kind = kind_of(mode, size, links).ok_or_else(|| format!("an entry of unknown type at byte {start}"))?;
    let target = match kind {
        FileKind::Symlink if size > NAME_BYTES => return Err(format!("a link target of {size} bytes at byte {start}")),
        FileKind::Symlink => {
            let mut target = vec![0; size as usize];
            read_exact(input, &mut target, limits)?;
            Some(String::from_utf8_lossy(&target).into_owned())
        }
        FileKind::Char | FileKind::Block => Some(format!("{}:{}", device.0, device.1)),
        _ => None,
    };
    if target.is_none() || kind != FileKind::Symlink {
        skip(input, u64::from(size), limits)?;
    }
    skip(input, padding(u64::from(size)), limits)?;
    let path = String::from_utf8_lossy(&name);
    let path = path.trim_start_matches("./").trim_start_matches('/').to_string();
    let mode = format!("{:04o}", mode & 0o7777);
    let size = if kind == FileKind::Symlink { 0 } else { u64::from(size) };
    Ok(Some(InitrdEntry { path, kind, mode, uid, gid, size, target }))
}

struct Header {
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    size: u32,
    device: (u32, u32),
    name_bytes: u32,
}

/// Magic `070701`, or `070702` with checksums, then 13 fields of 8 hex digits.
fn parse_header(header: &[u8; HEADER_BYTES]) -> Option<Header> {
    if !matches!(&header[..6], b"070701" | b"070702") {
        return None;
    }
    let field = |i: usize| {
        let digits = std::str::from_utf8(&header[6 + i * 8..14 + i * 8]).ok()?;
        // from_str_radix takes a sign too.
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
    };
    Some(Header {
        mode: field(1)?,
        uid: field(2)?,
        gid: field(3)?,
        links: field(4)?,
        size: field(6)?,
        device: (field(9)?, field(10)?),
        name_bytes: field(11)?,
    })
}

/// `S_IFMT` of inode(7).
fn kind_of(mode: u32, size: u32, links: u32) -> Option<FileKind> {
    Some(match mode & 0o170_000 {
        0o100_000 if links > 1 && size == 0 => FileKind::Hardlink,
        0o100_000 => FileKind::File,
        0o040_000 => FileKind::Dir,
        0o120_000 => FileKind::Symlink,
        0o020_000 => FileKind::Char,
        0o060_000 => FileKind::Block,
        0o010_000 => FileKind::Fifo,
        _ => return None,
    })
}

fn padding(bytes: u64) -> u64 {
    bytes.next_multiple_of(4) - bytes
}

fn take_allowance(bytes: u64, limits: &mut Limits) -> Result<(), String> {
    limits.unpacked = limits.unpacked.checked_sub(bytes).ok_or("more bytes than any initrd has")?;
    Ok(())
}

fn read_exact<R: Read>(input: &mut Input<R>, out: &mut [u8], limits: &mut Limits) -> Result<(), String> {
    take_allowance(out.len() as u64, limits)?;
    input.read_exact(out).map_err(cannot_read)
}

fn skip<R: Read>(input: &mut Input<R>, bytes: u64, limits: &mut Limits) -> Result<(), String> {
    take_allowance(bytes, limits)?;
    let skipped = std::io::copy(&mut input.take(bytes), &mut std::io::sink()).map_err(cannot_read)?;
    if skipped == bytes { Ok(()) } else { Err(format!("truncated at byte {}", input.position())) }
}

fn cannot_read(cause: std::io::Error) -> String {
    match cause.kind() {
        std::io::ErrorKind::UnexpectedEof => "truncated".into(),
        _ => cause.to_string(),
    }
}
