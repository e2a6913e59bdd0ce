//! Draws in what the tree's programs need, as ld.so(8) would look for it: RPATH, RUNPATH, then the default folders.
//! `ld.so.conf` and its cache are not read: an image has none.

use super::{ElfError, ElfInfo, parse_elf, parse_shebang};
use crate::entry::{Body, BodyAt, Kind};
use crate::recipe::{Origin, SegmentName};
use crate::tree::{Draft, Reason, Supply, TreeEntry, TreeError};
use memmap2::MmapOptions;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

/// Debian's default folders (`/lib` and `/usr/lib` are one in the merged layout).
const DEFAULT_FOLDERS: [&str; 3] = ["usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"];
/// Where `env` finds a program.
const PATH: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];
/// Data that may look like a program.
const NO_PROGRAMS: [&str; 2] = ["usr/lib/modules/", "usr/lib/firmware/"];
/// Smaller files are read, larger ones mapped.
const MAP_FROM: u64 = 1 << 16;

/// A program that another one is run by.
#[derive(Debug, Clone, PartialEq)]
pub struct Interpreter {
    /// Absolute, or a name that `env` looks for.
    pub program: String,
    by: User,
}

/// A file of the tree that needs something.
#[derive(Debug, Clone, PartialEq)]
struct User {
    path: String,
    component: String,
    origin: Origin,
}

impl User {
    fn of(entry: &TreeEntry) -> Self {
        Self { path: entry.entry.path.clone(), component: entry.component.clone(), origin: entry.origin.clone() }
    }
}

/// A file whose needs are still to be looked at; DT_RPATH of those that led to it counts for it too.
struct Todo {
    segment: SegmentName,
    path: String,
    rpath: Vec<String>,
}

/// Adds the libraries and interpreters of all programs in the draft, and theirs. Returns the interpreters, which
/// [`check_interpreters`] looks for once the tree is complete.
pub fn add_libraries(supply: &Supply<'_>, draft: &mut Draft) -> Result<Vec<Interpreter>, TreeError> {
    add_named(supply, draft)?;
    let mut todo: Vec<Todo> = draft
        .tree
        .entries
        .values()
        .filter(|e| may_be_program(e))
        .map(|e| Todo { segment: e.segment, path: e.entry.path.clone(), rpath: Vec::new() })
        .collect();
    // The first in path order comes first; what it draws in comes after all of them.
    todo.reverse();
    let mut seen = BTreeSet::new();
    let mut interpreters = Vec::new();
    while let Some(item) = todo.pop() {
        if !seen.insert((item.segment, item.path.clone())) {
            continue;
        }
        let Some(entry) = draft.get(item.segment, &item.path) else { continue };
        let Kind::File(body) = &entry.entry.kind else { continue };
        let user = User::of(entry);
        match look_at(&user, body)? {
            Program::Script(needed) => {
                interpreters.extend(needed.into_iter().map(|program| Interpreter { program, by: user.clone() }));
            }
            Program::Elf(info) if item.segment == SegmentName::Boot => check_static(&user, &info)?,
            Program::Elf(info) => {
                let found = add_needs(&user, &info, &item.rpath, supply, draft)?;
                interpreters.extend(info.interpreter.map(|program| Interpreter { program, by: user }));
                todo.extend(found);
            }
            Program::Other => {}
        }
    }
    Ok(interpreters)
}

/// The recipe's `libraries`: what programs open by themselves (dlopen, NSS).
fn add_named(supply: &Supply<'_>, draft: &mut Draft) -> Result<(), TreeError> {
    for component in supply.parts.iter().map(|part| part.component) {
        for soname in &component.libraries {
            let origin = component.origin.clone();
            let by = User { path: origin.to_string(), component: component.name.clone(), origin };
            let reason = Reason::Library { by: by.path.clone(), soname: soname.clone() };
            find(soname, &DEFAULT_FOLDERS.map(String::from), &by, &reason, supply, draft)?;
        }
    }
    Ok(())
}

fn may_be_program(entry: &TreeEntry) -> bool {
    let path = &entry.entry.path;
    let name = path.rsplit('/').next().unwrap_or(path);
    matches!(entry.entry.kind, Kind::File(_))
        && (entry.entry.mode & 0o111 != 0 || name.contains(".so"))
        && !NO_PROGRAMS.iter().any(|folder| path.starts_with(folder))
}

/// Without write bits, as all files of the cache: a file of the user's might be cut short under a mapping, which ends the
/// process with SIGBUS (mmap(2)).
fn is_sealed(path: &Path) -> bool {
    path.metadata().is_ok_and(|facts| facts.permissions().readonly())
}

enum Program {
    Elf(ElfInfo),
    Script(Vec<String>),
    Other,
}

fn look_at(user: &User, body: &Body) -> Result<Program, ElfError> {
    let read = |cause| ElfError::Read { path: user.path.clone(), place: body.place(), cause };
    let start = body.read_start(256).map_err(read)?;
    if let Some(needed) = parse_shebang(&start) {
        return Ok(Program::Script(needed));
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
    let User { path, component, origin } = user.clone();
    parsed.map(Program::Elf).map_err(|problem| ElfError::Unusable { path, component, origin, problem })
}

fn check_static(user: &User, info: &ElfInfo) -> Result<(), ElfError> {
    let User { path, component, origin } = user.clone();
    match info.interpreter.is_none() && info.needed.is_empty() {
        true => Ok(()),
        false => Err(ElfError::DynamicInBoot { path, component, origin }),
    }
}

/// Draws in the interpreter and the needed libraries of one file; returns what must be looked at next.
fn add_needs(
    user: &User,
    info: &ElfInfo,
    inherited: &[String],
    supply: &Supply<'_>,
    draft: &mut Draft,
) -> Result<Vec<Todo>, TreeError> {
    let folders = folders(user, info, inherited);
    let rpath: Vec<String> = match info.runpath.is_empty() {
        true => expand_all(&info.rpath, user).chain(inherited.iter().cloned()).collect(),
        false => Vec::new(),
    };
    let mut found = Vec::new();
    for name in info.interpreter.iter().chain(&info.needed) {
        let reason = Reason::Library { by: user.path.clone(), soname: name.clone() };
        let path = match find(name, &folders, user, &reason, supply, draft) {
            // The last check says better what is wrong with an interpreter.
            Err(TreeError::Elf(ElfError::MissingLibrary { .. })) if Some(name) == info.interpreter.as_ref() => continue,
            other => other?,
        };
        if let Some(entry) = draft.on_node(&path) {
            found.push(Todo { segment: entry.segment, path, rpath: rpath.clone() });
        }
    }
    Ok(found)
}

/// ld.so(8): DT_RPATH counts only where there is no DT_RUNPATH.
fn folders(user: &User, info: &ElfInfo, inherited: &[String]) -> Vec<String> {
    let mut folders: Vec<String> = match info.runpath.is_empty() {
        true => expand_all(&info.rpath, user).chain(inherited.iter().cloned()).collect(),
        false => expand_all(&info.runpath, user).collect(),
    };
    folders.extend(DEFAULT_FOLDERS.map(String::from));
    folders
}

fn expand_all<'a>(folders: &'a [String], user: &'a User) -> impl Iterator<Item = String> + 'a {
    let origin = user.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let expand = move |text: &str, name: &str, value: &str| {
        text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value)
    };
    folders.iter().map(move |folder| {
        let folder = expand(folder, "ORIGIN", &format!("/{origin}"));
        expand(&expand(&folder, "LIB", "lib/x86_64-linux-gnu"), "PLATFORM", "x86_64")
    })
}

/// Finds a library in the folders and draws it in: from the component's own pool, else what the image has already, else
/// from another pool. Returns the path of the file itself.
fn find(
    name: &str,
    folders: &[String],
    user: &User,
    reason: &Reason,
    supply: &Supply<'_>,
    draft: &mut Draft,
) -> Result<String, TreeError> {
    let candidates: Vec<String> = match name.contains('/') {
        true => vec![name.to_string()],
        false => folders.iter().map(|folder| format!("{folder}/{name}")).collect(),
    };
    for candidate in &candidates {
        let own = supply.part(&user.component).is_some_and(|part| {
            supply.resolve(candidate, &user.component).end.is_some_and(|end| part.offers.contains_key(&end))
        });
        if !own && let Some(end) = present(candidate, draft) {
            return Ok(end);
        }
        if let Some(end) = draft.draw(supply, candidate, &user.component, reason)? {
            return Ok(end);
        }
    }
    let User { path, component, origin } = user.clone();
    Err(ElfError::MissingLibrary { soname: name.into(), by: path, component, origin }.into())
}

/// A path that the image has already, links followed.
fn present(path: &str, draft: &Draft) -> Option<String> {
    draft.resolve(path).end.filter(|end| draft.on_node(end).is_some())
}

/// Each interpreter must be there under the very path that the kernel will open, links followed inside the image.
pub fn check_interpreters(draft: &Draft, interpreters: &[Interpreter]) -> Result<(), ElfError> {
    for Interpreter { program, by } in interpreters {
        let there = |path: &str| {
            let end = draft.resolve(path).end;
            end.is_some_and(|end| end.starts_with("proc/") || draft.on_node(&end).is_some())
        };
        let found = match program.contains('/') {
            true => there(program),
            false => PATH.iter().any(|folder| there(&format!("{folder}/{program}"))),
        };
        if !found {
            let User { path, component, origin } = by.clone();
            return Err(ElfError::MissingInterpreter { interpreter: program.clone(), by: path, component, origin });
        }
    }
    Ok(())
}
