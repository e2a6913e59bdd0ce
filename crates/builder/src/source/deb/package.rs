//! Reads a binary package (deb(5)) without dpkg and without its maintainer scripts.

use super::ar::ArReader;
use super::control::{Control, parse_control};
use crate::cache::unpacked::{MemberHead, Unpacker};
use crate::entry::{Xattrs, parse_entry_path};
use crate::source::SourceError;
use crate::source::archive::{Limits, decompress, read_tar};
use std::io::{self, Read};

/// Where [`read_deb`] puts the package's control file beside its files; dpkg-deb --raw-extract uses the same folder.
pub const CONTROL: &str = "DEBIAN/control";

/// Bytes that a control file and its tar may have; those of Debian stay below 100 kB.
const CONTROL_BYTES: u64 = 16 << 20;
/// Bytes that may follow the end of the data tar: it is padded to whole records.
const PADDING_BYTES: u64 = 1 << 20;

/// Hands the package's files to `into`, and its control file as [`CONTROL`]. `archive` is for messages; `jobs` threads decode.
///
/// # Errors
/// [`SourceError::BadArchive`] when it is no package, is damaged or cut short, or holds what [`read_tar`] refuses.
pub fn read_deb(
    reader: impl Read,
    archive: &str,
    limits: Limits,
    jobs: usize,
    into: &mut Unpacker,
) -> Result<Control, SourceError> {
    let mut ar = ArReader::new(reader).map_err(|e| bad(archive, "", &e))?;
    let mut control = None;
    let mut first = true;
    loop {
        let member = ar.next_member().map_err(|e| bad(archive, "", &e))?;
        let Some(name) = member.map(|member| member.name) else {
            let missing = if control.is_some() { "data.tar" } else { "control.tar" };
            return Err(bad(archive, missing, &"the member is missing"));
        };
        if std::mem::take(&mut first) {
            check_version(&name, &mut ar).map_err(|problem| bad(archive, "debian-binary", &problem))?;
            continue;
        }
        let stem = name.split_once(".tar").filter(|(_, rest)| ["", ".gz", ".xz", ".zst"].contains(rest));
        match (stem.map(|(stem, _)| stem), control.take()) {
            (Some("control"), None) => {
                let text = read_control(&mut ar, jobs).map_err(|problem| bad(archive, &name, &problem))?;
                let parsed = parse_control(&text).map_err(|problem| bad(archive, "control", &problem))?;
                control = Some((text, parsed));
            }
            (Some("data"), Some((text, parsed))) => {
                let mut data = decompress(&mut ar, jobs).map_err(|e| bad(archive, &name, &e))?;
                read_tar(&mut data, archive, limits, into)?;
                drain(&mut data).map_err(|e| bad(archive, &name, &e))?;
                return add_control(&text, archive, into).map(|()| parsed);
            }
            // deb(5): members that start with an underscore may stand between the others.
            (None, seen) if name.starts_with('_') => control = seen,
            _ => return Err(bad(archive, &name, &"an unexpected member")),
        }
    }
}

fn bad(archive: &str, entry: &str, problem: &dyn std::fmt::Display) -> SourceError {
    let entry = if entry.is_empty() { "its members" } else { entry };
    SourceError::BadArchive { archive: archive.into(), entry: entry.into(), problem: problem.to_string() }
}

/// The first member is `debian-binary` and holds the format, `2.` and a minor number.
fn check_version(name: &str, body: &mut impl Read) -> Result<(), String> {
    let mut text = Vec::new();
    body.take(64).read_to_end(&mut text).map_err(|e| e.to_string())?;
    match name == "debian-binary" && text.starts_with(b"2.") {
        true => Ok(()),
        false => Err("it is no Debian package of format 2".into()),
    }
}

/// The text of `./control` in a control tar.
fn read_control(member: &mut impl Read, jobs: usize) -> Result<String, String> {
    let tar = decompress(member, jobs).map_err(|e| e.to_string())?;
    let mut tar = tar::Archive::new(tar.take(CONTROL_BYTES));
    for entry in tar.entries().map_err(|e| e.to_string())? {
        let mut entry = entry.map_err(|e| e.to_string())?;
        if matches!(&*entry.path_bytes(), b"./control" | b"control") && entry.header().entry_type().is_file() {
            let mut text = String::new();
            let size = entry.read_to_string(&mut text).map_err(|e| e.to_string())?;
            return match size as u64 == entry.size() {
                true => Ok(text),
                false => Err("the control file is cut short".into()),
            };
        }
    }
    Err("it holds no control file".into())
}

/// Reads to the end, so that a compressed stream is checked to its last byte.
fn drain(data: &mut impl Read) -> io::Result<()> {
    match io::copy(&mut data.take(PADDING_BYTES + 1), &mut io::sink())? {
        n if n > PADDING_BYTES => Err(io::Error::other("more data after the end of the tar")),
        _ => Ok(()),
    }
}

fn add_control(text: &str, archive: &str, into: &mut Unpacker) -> Result<(), SourceError> {
    if into.members().iter().any(|member| parse_entry_path(&member.name).as_deref() == Ok(CONTROL)) {
        return Err(bad(archive, CONTROL, &"no package may install that"));
    }
    let head = MemberHead { name: CONTROL, mode: 0o644, uid: 0, gid: 0, xattrs: &Xattrs::new(), mtime: 0 };
    match into.add_file(head, &mut text.as_bytes())? {
        Ok(_) => Ok(()),
        Err(cause) => Err(bad(archive, CONTROL, &cause)),
    }
}
