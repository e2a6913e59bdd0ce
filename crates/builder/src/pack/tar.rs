//! A tree as a GNU tar (<https://www.gnu.org/software/tar/manual/html_node/Standard.html>): what mksquashfs reads, and
//! what an NFS server unpacks. Extended attributes stand in a pax header before their entry.

use super::{PackError, copy_body};
use crate::entry::{Entry, Kind, Xattrs};
use std::io::Write;
use tar::{EntryType, Header};

/// Writes the entries as a GNU tar: names of any length, times 0, no names of users. Hard links come after their file.
pub fn write_tar(
    entries: &[Entry],
    out: &mut dyn Write,
    failed: impl Fn(std::io::Error) -> PackError + Copy,
) -> Result<(), PackError> {
    write_tar_with_times(entries.iter().map(|entry| (entry, 0)), out, failed)
}

/// The same with a time for each entry, in seconds since 1970.
pub fn write_tar_with_times<'a>(
    entries: impl Iterator<Item = (&'a Entry, u32)>,
    out: &mut dyn Write,
    failed: impl Fn(std::io::Error) -> PackError + Copy,
) -> Result<(), PackError> {
    let (links, others): (Vec<_>, Vec<_>) = entries.partition(|(entry, _)| matches!(entry.kind, Kind::Hardlink(_)));
    for (entry, mtime) in others.into_iter().chain(links) {
        write_tar_entry(entry, mtime, out, failed)?;
    }
    // Two blocks of zeros end a tar (tar(5)).
    out.write_all(&[0; 1024]).and_then(|()| out.flush()).map_err(failed)
}

fn write_tar_entry(
    entry: &Entry,
    mtime: u32,
    out: &mut dyn Write,
    failed: impl Fn(std::io::Error) -> PackError + Copy,
) -> Result<(), PackError> {
    let mut header = Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(mtime.into());
    header.set_size(0);
    let mut link = None;
    let kind = match &entry.kind {
        Kind::Dir => EntryType::Directory,
        Kind::File(body) => {
            header.set_size(body.size);
            EntryType::Regular
        }
        Kind::Hardlink(target) => {
            link = Some(target);
            EntryType::Link
        }
        Kind::Symlink(target) => {
            link = Some(target);
            EntryType::Symlink
        }
        Kind::CharDevice { major, minor } => {
            device(&mut header, *major, *minor).map_err(failed)?;
            EntryType::Char
        }
        Kind::BlockDevice { major, minor } => {
            device(&mut header, *major, *minor).map_err(failed)?;
            EntryType::Block
        }
        Kind::Fifo => EntryType::Fifo,
    };
    header.set_entry_type(kind);
    if !matches!(entry.kind, Kind::Hardlink(_)) {
        write_xattrs(&entry.xattrs, out).map_err(failed)?;
    }
    if let Some(target) = link {
        write_name(&mut header, target, NameOf::Link, out).map_err(failed)?;
    }
    write_name(&mut header, &entry.path, NameOf::Entry, out).map_err(failed)?;
    header.set_cksum();
    out.write_all(header.as_bytes()).map_err(failed)?;
    if let Kind::File(body) = &entry.kind {
        copy_body(&entry.path, body, out, failed)?;
        pad_block(body.size, out).map_err(failed)?;
    }
    Ok(())
}

fn device(header: &mut Header, major: u32, minor: u32) -> std::io::Result<()> {
    header.set_device_major(major)?;
    header.set_device_minor(minor)
}

#[derive(Clone, Copy, PartialEq)]
enum NameOf {
    Entry,
    Link,
}

/// Sets a name byte by byte (the crate would tidy it); one over 100 bytes goes into a GNU long-name record before.
fn write_name(header: &mut Header, name: &str, of: NameOf, out: &mut dyn Write) -> std::io::Result<()> {
    let gnu = header.as_gnu_mut().expect("made as a GNU header");
    let field = if of == NameOf::Entry { &mut gnu.name } else { &mut gnu.linkname };
    let kept = name.len().min(field.len());
    field[..kept].copy_from_slice(&name.as_bytes()[..kept]);
    if name.len() <= field.len() {
        return Ok(());
    }
    let kind = if of == NameOf::Entry { EntryType::GNULongName } else { EntryType::GNULongLink };
    write_record(kind, &[name.as_bytes(), &[0]].concat(), out)
}

/// `LENGTH SCHILY.xattr.NAME=VALUE` each, in a pax header (POSIX pax, "pax Header Block"); nothing when there is none.
fn write_xattrs(xattrs: &Xattrs, out: &mut dyn Write) -> std::io::Result<()> {
    let mut records = Vec::new();
    for (name, value) in xattrs {
        let rest = [b" SCHILY.xattr.", name.as_bytes(), b"=", value, b"\n"].concat();
        // The length counts its own digits.
        let mut length = rest.len();
        while length != rest.len() + length.to_string().len() {
            length = rest.len() + length.to_string().len();
        }
        records.extend(length.to_string().into_bytes());
        records.extend(rest);
    }
    if records.is_empty() { Ok(()) } else { write_record(EntryType::XHeader, &records, out) }
}

/// An entry that says more of the one that follows.
fn write_record(kind: EntryType, bytes: &[u8], out: &mut dyn Write) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    let title = b"././@LongLink";
    header.as_gnu_mut().expect("made as a GNU header").name[..title.len()].copy_from_slice(title);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    header.set_entry_type(kind);
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    out.write_all(bytes)?;
    pad_block(bytes.len() as u64, out)
}

fn pad_block(size: u64, out: &mut dyn Write) -> std::io::Result<()> {
    let pad = (size.next_multiple_of(512) - size) as usize;
    out.write_all(&[0; 512][..pad])
}
