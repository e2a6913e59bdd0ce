//! The programs, libraries and scripts of a tree, read once each.

use super::script::{LOOKED_AT, Shebang, parse_shebang};
use super::{ElfError, ElfInfo, parse_elf};
use crate::entry::{Body, BodyAt, Kind};
use crate::recipe::Origin;
use crate::tree::TreeEntry;
use memmap2::MmapOptions;
use std::fs::File;
use std::path::Path;

/// Data that may look like a program.
const NO_PROGRAMS: [&str; 2] = ["usr/lib/modules/", "usr/lib/firmware/"];
/// Smaller files are read, larger ones mapped.
const MAP_FROM: u64 = 1 << 16;

/// A file of the tree that needs something.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dependent {
    pub path: String,
    pub component: String,
    pub origin: Origin,
}

impl Dependent {
    pub fn of(entry: &TreeEntry) -> Self {
        Self { path: entry.entry.path.clone(), component: entry.component.clone(), origin: entry.origin.clone() }
    }
}

pub(super) enum Program {
    Elf(ElfInfo),
    Script(Shebang),
    Other,
}

pub(super) fn may_be_program(entry: &TreeEntry) -> bool {
    let path = &entry.entry.path;
    let name = path.rsplit('/').next().unwrap_or(path);
    matches!(entry.entry.kind, Kind::File(_))
        && (is_executable(entry) || name.contains(".so"))
        && !NO_PROGRAMS.iter().any(|folder| path.starts_with(folder))
}

pub(super) fn is_executable(entry: &TreeEntry) -> bool {
    entry.entry.mode & 0o111 != 0
}

/// Reads what a file is; an error when the kernel or the dynamic linker would not take it.
pub(super) fn look_at(entry: &TreeEntry, body: &Body) -> Result<Program, ElfError> {
    let Dependent { path, component, origin } = Dependent::of(entry);
    let read = |cause| ElfError::Read { path: path.clone(), place: body.place(), cause };
    let start = body.read_start(LOOKED_AT as u64).map_err(read)?;
    match parse_shebang(&start) {
        Some(Ok(shebang)) => return Ok(Program::Script(shebang)),
        Some(Err(problem)) if is_executable(entry) => {
            return Err(ElfError::BadScript { path, component, origin, problem });
        }
        _ => {}
    }
    if !start.starts_with(b"\x7fELF") {
        return Ok(Program::Other);
    }
    let parsed = match &body.at {
        BodyAt::File { path, offset } if body.size >= MAP_FROM && is_sealed(path) => {
            let file = File::open(path).map_err(read)?;
            let size = usize::try_from(body.size).map_err(|_| read(std::io::ErrorKind::FileTooLarge.into()))?;
            if file.metadata().map_err(read)?.len() < offset.saturating_add(body.size) {
                return Err(read(std::io::ErrorKind::UnexpectedEof.into()));
            }
            // SAFETY: the file is as long as the mapping, and nobody writes to it: the cache only replaces by rename.
            let map = unsafe { MmapOptions::new().offset(*offset).len(size).map(&file) }.map_err(read)?;
            parse_elf(&map)
        }
        _ => parse_elf(&body.read_start(body.size).map_err(read)?),
    };
    parsed.map(Program::Elf).map_err(|problem| ElfError::Unusable { path, component, origin, problem })
}

/// Without write bits, as all files of the cache: a file of the user's might be cut short under a mapping, which ends the
/// process with SIGBUS (mmap(2)).
fn is_sealed(path: &Path) -> bool {
    path.metadata().is_ok_and(|facts| facts.permissions().readonly())
}
