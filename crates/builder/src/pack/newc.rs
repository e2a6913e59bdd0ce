//! The newc archive that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! A wrapper around the `cpio` crate, which casts lengths to 32 bits, pads a file that was cut short as if it were whole
//! and leaves inode numbers to its caller.

use super::{PackError, copy_body};
use crate::entry::{Body, Entry, Kind, MAX_FILE};
use cpio::newc::{Builder, ModeFileType, trailer};
use std::collections::HashMap;
use std::io::Write;

/// `PATH_MAX` of the kernel with the NUL: a longer name makes it skip the entry (`N_ALIGN(name_len) <= PATH_MAX`).
const MAX_NAME: usize = 4096;
const HEADER: u64 = 110;
const TRAILER: &str = "TRAILER!!!";

/// Bytes of the archive that [`write_archive`] makes of these entries. Fails on what newc cannot hold.
pub fn archive_size(entries: &[Entry]) -> Result<u64, PackError> {
    let mut size = record_size(TRAILER, 0);
    for entry in entries {
        check_entry(entry)?;
        size += record_size(&entry.path, data_size(entry));
    }
    Ok(size)
}

/// Writes entries, sorted by path, and one trailer. Times are 0, inode numbers count from 1. Of a file with several names
/// the data comes with the last one, as GNU cpio writes it.
pub fn write_archive(
    entries: &[Entry],
    out: &mut dyn Write,
    failed: impl Fn(std::io::Error) -> PackError + Copy,
) -> Result<(), PackError> {
    let links = HardLinks::of(entries)?;
    let mut last: Option<&str> = None;
    for (i, entry) in entries.iter().enumerate() {
        check_entry(entry)?;
        if last.is_some_and(|last| last >= entry.path.as_str()) {
            return Err(PackError::BadEntry { path: entry.path.clone(), problem: "its path is there twice" });
        }
        last = Some(&entry.path);
        write_entry(i, entry, &links, out, failed)?;
    }
    trailer(out).map(drop).map_err(failed)
}

fn write_entry(
    i: usize,
    entry: &Entry,
    links: &HardLinks<'_>,
    out: &mut dyn Write,
    failed: impl Fn(std::io::Error) -> PackError + Copy,
) -> Result<(), PackError> {
    let header = Builder::new(&entry.path).mode(entry.mode).uid(entry.uid).gid(entry.gid).ino(number(i));
    match &entry.kind {
        Kind::Dir => write_bytes(header.nlink(2).set_mode_file_type(ModeFileType::Directory), &[], out, failed),
        Kind::Symlink(target) => {
            write_bytes(header.set_mode_file_type(ModeFileType::Symlink), target.as_bytes(), out, failed)
        }
        Kind::CharDevice { major, minor } => {
            let header = header.rdev_major(*major).rdev_minor(*minor).set_mode_file_type(ModeFileType::Char);
            write_bytes(header, &[], out, failed)
        }
        Kind::BlockDevice { major, minor } => {
            let header = header.rdev_major(*major).rdev_minor(*minor).set_mode_file_type(ModeFileType::Block);
            write_bytes(header, &[], out, failed)
        }
        Kind::Fifo => write_bytes(header.set_mode_file_type(ModeFileType::Fifo), &[], out, failed),
        Kind::File(_) | Kind::Hardlink(_) => {
            let header = header.set_mode_file_type(ModeFileType::Regular);
            match links.group(entry) {
                None => match &entry.kind {
                    Kind::File(body) => write_body(header, &entry.path, body, out, failed),
                    _ => Err(PackError::BadEntry { path: entry.path.clone(), problem: "a hard link to nothing" }),
                },
                Some(group) => {
                    let header = header.ino(number(group.first)).nlink(group.names);
                    match i == group.last {
                        true => write_body(header, &entry.path, group.body, out, failed),
                        false => write_bytes(header, &[], out, failed),
                    }
                }
            }
        }
    }
}

/// Inode number of the entry at that place; there are fewer than 2^32 of them in memory.
fn number(i: usize) -> u32 {
    i as u32 + 1
}

fn write_bytes(
    header: Builder,
    bytes: &[u8],
    out: &mut dyn Write,
    failed: impl Fn(std::io::Error) -> PackError,
) -> Result<(), PackError> {
    let mut writer = header.write(out, bytes.len() as u32);
    writer.write_all(bytes).and_then(|()| writer.finish()).map(drop).map_err(failed)
}

fn write_body(
    header: Builder,
    path: &str,
    body: &Body,
    out: &mut dyn Write,
    failed: impl Fn(std::io::Error) -> PackError + Copy,
) -> Result<(), PackError> {
    let size = u32::try_from(body.size).map_err(|_| too_large(path, body.size))?;
    let mut writer = header.write(out, size);
    // Fails unless exactly `size` bytes were written: the crate would leave a bad archive.
    copy_body(path, body, &mut writer, failed)?;
    writer.finish().map(drop).map_err(failed)
}

fn too_large(path: &str, size: u64) -> PackError {
    PackError::TooLarge { path: path.into(), size, limit: MAX_FILE }
}

fn check_entry(entry: &Entry) -> Result<(), PackError> {
    let bad = |problem| Err(PackError::BadEntry { path: entry.path.clone(), problem });
    if entry.path.is_empty() || entry.path.starts_with('/') || entry.path.contains('\0') {
        return bad("its path is empty, absolute or holds a NUL");
    }
    if entry.path == TRAILER {
        return bad("its name ends an archive");
    }
    if entry.path.split('/').any(|name| name.len() > 255) {
        return bad("a name in its path is longer than 255 bytes");
    }
    if entry.path.len() >= MAX_NAME - 4 {
        return bad("its path is longer than 4091 bytes");
    }
    match &entry.kind {
        Kind::File(body) if body.size > MAX_FILE => Err(too_large(&entry.path, body.size)),
        // init/initramfs.c skips a symlink whose target is longer than PATH_MAX.
        Kind::Symlink(target) if target.is_empty() || target.len() > 4095 || target.contains('\0') => {
            bad("its target is empty, too long or holds a NUL")
        }
        _ => Ok(()),
    }
}

fn data_size(entry: &Entry) -> u64 {
    match &entry.kind {
        Kind::File(body) => body.size,
        Kind::Symlink(target) => target.len() as u64,
        _ => 0,
    }
}

fn record_size(name: &str, data: u64) -> u64 {
    (HEADER + name.len() as u64 + 1).next_multiple_of(4) + data.next_multiple_of(4)
}

/// Files with several names, by the path of the name that holds the body.
struct HardLinks<'a> {
    groups: HashMap<&'a str, NameGroup<'a>>,
}

struct NameGroup<'a> {
    body: &'a Body,
    names: u32,
    first: usize,
    last: usize,
}

impl<'a> HardLinks<'a> {
    fn of(entries: &'a [Entry]) -> Result<Self, PackError> {
        let mut groups: HashMap<&str, NameGroup<'_>> = HashMap::new();
        for entry in entries {
            if let Kind::Hardlink(target) = &entry.kind {
                let bad = || PackError::BadEntry { path: entry.path.clone(), problem: "a hard link to nothing" };
                let at = entries.binary_search_by(|e| e.path.as_str().cmp(target)).map_err(|_| bad())?;
                let Kind::File(body) = &entries[at].kind else { return Err(bad()) };
                groups.entry(target).or_insert(NameGroup { body, names: 0, first: at, last: at });
            }
        }
        for (i, entry) in entries.iter().enumerate() {
            if let Some(group) = groups.get_mut(main_name(entry)) {
                group.names += 1;
                group.first = group.first.min(i);
                group.last = group.last.max(i);
            }
        }
        Ok(Self { groups })
    }

    fn group(&self, entry: &Entry) -> Option<&NameGroup<'a>> {
        self.groups.get(main_name(entry))
    }
}

fn main_name(entry: &Entry) -> &str {
    match &entry.kind {
        Kind::Hardlink(target) => target,
        _ => &entry.path,
    }
}

#[cfg(test)]
mod tests;
