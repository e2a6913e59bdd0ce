//! Draws in what the tree's programs need: libraries, and what runs them.

use super::load::Loader;
use super::program::{Dependent, Program, is_executable, look_at, may_be_program};
use super::{ElfError, ElfInfo, Shebang};
use crate::entry::Kind;
use crate::recipe::SegmentName;
use crate::tree::{Draft, Supply, TreeEntry};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Where `env` finds a program.
const PATH: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];
/// Scripts that may run one another before a program does (`exec_binprm` of fs/exec.c).
const MAX_SCRIPTS: usize = 5;

/// A program that another one is run by.
#[derive(Debug, Clone, PartialEq)]
pub struct Interpreter {
    program: String,
    runs: Runs,
    by: Dependent,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Runs {
    /// A program, as PT_INTERP.
    Program,
    /// A script, by its `#!` line.
    Script,
    /// A script, found by `env` in its `PATH`.
    ByEnv,
}

/// Adds the libraries of all programs in the draft, and theirs. Returns the interpreters of programs and scripts, which
/// [`check_interpreters`] looks for once the tree is complete.
pub fn add_libraries(supply: &Supply<'_>, draft: &mut Draft) -> Result<Vec<Interpreter>, ElfError> {
    let mut loader = Loader::new(supply, draft)?;
    add_named(supply, &mut loader)?;
    let mut interpreters = Vec::new();
    let (mut programs, mut libraries) = (BTreeSet::new(), BTreeSet::new());
    let mut infos = BTreeMap::new();
    for entry in loader.draft.tree.entries.values().filter(|entry| may_be_program(entry)) {
        let Kind::File(body) = &entry.entry.kind else { continue };
        let path = entry.entry.path.clone();
        let program = look_at(entry, body)?;
        if let Program::Elf(info) = &program
            && loader.draft.on_node(&path).is_some_and(|seen| std::ptr::eq(seen, entry))
        {
            infos.insert(path.clone(), Rc::new(info.clone()));
        }
        match program {
            Program::Script(shebang) if is_executable(entry) => {
                interpreters.extend(run_by(shebang, Dependent::of(entry)))
            }
            Program::Elf(info) if entry.segment == SegmentName::Boot => check_static(entry, &info)?,
            Program::Elf(ElfInfo { interpreter: Some(program), .. }) => {
                interpreters.push(Interpreter { program, runs: Runs::Program, by: Dependent::of(entry) });
                programs.insert(path);
            }
            Program::Elf(_) => {
                libraries.insert(path);
            }
            Program::Script(_) | Program::Other => {}
        }
    }
    loader.known(infos);
    for path in programs {
        for loaded in loader.load(&path)? {
            libraries.remove(&loaded);
        }
    }
    // What no program loads at its start, one opens by itself.
    while let Some(path) = libraries.pop_first() {
        for loaded in loader.load(&path)? {
            libraries.remove(&loaded);
        }
    }
    Ok(interpreters)
}

/// The recipe's `libraries`: what programs open by themselves (dlopen, NSS).
fn add_named(supply: &Supply<'_>, loader: &mut Loader<'_, '_>) -> Result<(), ElfError> {
    for component in supply.parts.iter().map(|part| part.component) {
        for soname in &component.libraries {
            let origin = component.origin.clone();
            let by = Dependent { path: origin.to_string(), component: component.name.clone(), origin };
            loader.draw_named(soname, &by)?;
        }
    }
    Ok(())
}

fn run_by(shebang: Shebang, by: Dependent) -> impl Iterator<Item = Interpreter> {
    let of_env = shebang.env_program().map(|program| (program, Runs::ByEnv));
    let programs = [Some((shebang.interpreter, Runs::Script)), of_env];
    programs.into_iter().flatten().map(move |(program, runs)| Interpreter { program, runs, by: by.clone() })
}

fn check_static(entry: &TreeEntry, info: &ElfInfo) -> Result<(), ElfError> {
    let Dependent { path, component, origin } = Dependent::of(entry);
    match info.interpreter.is_none() && info.needed.is_empty() {
        true => Ok(()),
        false => Err(ElfError::DynamicInBoot { path, component, origin }),
    }
}

/// Each interpreter must be there under the very path that the kernel will open, links followed inside the image, and the
/// kernel must be willing to run it.
pub fn check_interpreters(draft: &Draft, interpreters: &[Interpreter]) -> Result<(), ElfError> {
    let of_scripts = interpreters.iter().filter(|interpreter| interpreter.runs == Runs::Script);
    let next: BTreeMap<&str, &str> = of_scripts.map(|i| (i.by.path.as_str(), i.program.as_str())).collect();
    for interpreter in interpreters {
        let Interpreter { program, runs, by: Dependent { path, component, origin } } = interpreter.clone();
        let paths: Vec<String> = match runs == Runs::ByEnv && !program.contains('/') {
            true => PATH.iter().map(|folder| format!("/{folder}/{program}")).collect(),
            false => vec![program.clone()],
        };
        let found: Vec<Verdict> = paths.iter().map(|path| judge(path, draft)).collect();
        if found.contains(&Verdict::Good) {
            check_chain(interpreter, &next, draft)?;
            continue;
        }
        return Err(match found.contains(&Verdict::NotExecutable) {
            true => ElfError::NotExecutable { interpreter: program, by: path, component, origin },
            false => ElfError::MissingInterpreter { interpreter: program, by: path, component, origin },
        });
    }
    Ok(())
}

#[derive(PartialEq)]
enum Verdict {
    Good,
    NotExecutable,
    Missing,
}

/// Whether the kernel runs what is at an absolute path; another one depends on the folder that somebody is in.
fn judge(path: &str, draft: &Draft) -> Verdict {
    let end = Some(path).filter(|path| path.starts_with('/')).and_then(|path| draft.resolve(path).end);
    match end {
        Some(end) if end.starts_with("proc/") => Verdict::Good,
        Some(end) => match draft.on_node(&end) {
            Some(entry) if matches!(entry.entry.kind, Kind::Dir) || !is_executable(entry) => Verdict::NotExecutable,
            Some(_) => Verdict::Good,
            None => Verdict::Missing,
        },
        None => Verdict::Missing,
    }
}

fn check_chain(first: &Interpreter, next: &BTreeMap<&str, &str>, draft: &Draft) -> Result<(), ElfError> {
    let mut at = first.by.path.clone();
    for _ in 0..=MAX_SCRIPTS {
        let Some(program) = next.get(at.as_str()) else { return Ok(()) };
        let Some(end) = draft.resolve(program).end else { return Ok(()) };
        at = end;
    }
    let Dependent { path, component, origin } = first.by.clone();
    Err(ElfError::TooManyScripts { by: path, component, origin, limit: MAX_SCRIPTS })
}
