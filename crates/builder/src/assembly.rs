//! From pools to a finished tree: what is wanted, what that needs, and nothing else.

use crate::cache::Cache;
use crate::elf::{ElfError, add_libraries, check_interpreters};
use crate::entry::{Body, Entry, Kind};
use crate::error::{Exit, Failure};
use crate::kmod::{KernelBuild, KmodError, add_kernel};
use crate::module_signing::ModuleSigner;
use crate::profiles::node_table;
use crate::recipe::{CheckedRecipe, Origin, SegmentName};
use crate::source::Pool;
use crate::tree::{Draft, Reason, Render, Supply, Tree, TreeEntry, TreeError, add_wanted, add_written};
use bootwright_contract::{Ready, StatePlace, paths};
use std::collections::BTreeMap;

/// What a tree is built from.
pub struct Inputs<'a> {
    pub recipe: &'a CheckedRecipe,
    /// One a component, by its name.
    pub pools: &'a [(String, Pool)],
    /// PID1's binary.
    pub init: Body,
    /// The image's bill of materials.
    pub sbom: Body,
    pub render: Render<'a>,
    /// Signs modules that were made smaller.
    pub signer: Option<&'a ModuleSigner>,
    pub cache: &'a Cache,
    /// Threads, at least 1.
    pub jobs: usize,
}

/// A finished tree, and what the boot config has to know of its kernel.
#[derive(Debug, Clone)]
pub struct TreeBuild {
    pub tree: Tree,
    pub kernel: KernelBuild,
    /// Device nodes and fifos that components would have brought: the machine makes its own. By component.
    pub left_out: BTreeMap<String, Vec<String>>,
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    #[error("`{path}` is to be formatted with {format} on first use, but `{program}` is not in the image")]
    NoFormatter { path: String, format: String, program: &'static str },
    #[error("{}", .0.iter().map(BadProgram::to_string).collect::<Vec<_>>().join("\n"))]
    Programs(Vec<BadProgram>),
    #[error("{origin}: `{path}` lies below the mount `{mount}` of `[root]`, which hides it")]
    Hidden { path: String, mount: String, origin: Origin },
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Elf(Box<ElfError>),
    #[error(transparent)]
    Kmod(#[from] KmodError),
}

/// A program that a service or its probe cannot start.
#[derive(Debug, thiserror::Error)]
#[error("service `{service}` starts `{program}`, which {problem}")]
pub struct BadProgram {
    service: String,
    program: String,
    problem: ProgramProblem,
}

/// What is wrong with the program of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProgramProblem {
    #[error("is not in the image")]
    Missing,
    #[error("is no file")]
    NoFile,
    #[error("nobody may execute")]
    NotExecutable,
    #[error("is neither a program (ELF) nor a script with `#!` and its interpreter in the first line")]
    NoFormat,
    #[error("cannot be read")]
    Unreadable,
}

impl ProgramProblem {
    fn help(self) -> &'static str {
        match self {
            Self::Missing => {
                "a component, overlay or `[[file]]` has to bring it; a program on a volume lies below a folder of `[state]`"
            }
            Self::NoFile => "name a program",
            Self::NotExecutable => "give it an executable mode: `chmod +x`, or `mode = \"0755\"`",
            Self::NoFormat => {
                "a script begins with, say, `#!/bin/sh`; what another program is to run is an argument of that one"
            }
            Self::Unreadable => "build it again: the cache has changed meanwhile",
        }
    }
}

impl From<ElfError> for AssemblyError {
    fn from(e: ElfError) -> Self {
        Self::Elf(Box::new(e))
    }
}

impl From<AssemblyError> for Failure {
    fn from(e: AssemblyError) -> Self {
        match e {
            AssemblyError::Tree(e) => e.into(),
            AssemblyError::Elf(e) => (*e).into(),
            AssemblyError::Kmod(e) => e.into(),
            AssemblyError::Programs(ref bad) => {
                let mut helps: Vec<&str> = bad.iter().map(|bad| bad.problem.help()).collect();
                helps.dedup();
                Self { exit: Exit::Usage, message: e.to_string(), help: Some(helps.join("\n        ")) }
            }
            AssemblyError::Hidden { ref mount, .. } => Self {
                exit: Exit::Usage,
                message: e.to_string(),
                help: Some(format!(
                    "lay it elsewhere, or keep the image's files visible there: `\"{mount}\" = {{ tmpfs = \"20%\", overlay = true }}` in `[state]`"
                )),
            },
            AssemblyError::NoFormatter { .. } => Self {
                exit: Exit::Usage,
                message: e.to_string(),
                help: Some("extend the recipe piece `ext4` too: `extends = [\"worker\", \"ext4\"]`".into()),
            },
        }
    }
}

/// Folders of the initramfs that PID1 mounts on.
const BOOT_FOLDERS: [&str; 4] = ["dev", "proc", "run", "sys"];

/// Builds the tree. Every library, module, firmware file and interpreter that is needed is in it, or this fails.
pub fn build_tree(inputs: &Inputs<'_>) -> Result<TreeBuild, AssemblyError> {
    let recipe = inputs.recipe;
    let supply = Supply::of(&recipe.components, inputs.pools)?;
    let mut draft = Draft::default();
    add_own(inputs, &mut draft)?;
    for part in &supply.parts {
        add_wanted(part, part.component.name == recipe.kernel.component, &mut draft)?;
    }
    add_written(recipe, inputs.render, &mut draft)?;
    let kernel = add_kernel(recipe, &supply, &mut draft, inputs.signer, inputs.cache, inputs.jobs)?;
    add_addons(recipe, &kernel.release, &mut draft)?;
    draw_link_targets(&supply, &mut draft)?;
    let interpreters = add_libraries(&supply, &mut draft)?;
    draft.complete_parents()?;
    draft.keep_folder_modes();
    check_interpreters(&draft, &interpreters)?;
    check_formatters(recipe, &draft)?;
    check_programs(recipe, &draft)?;
    check_hidden(recipe, &draft)?;
    Ok(TreeBuild { tree: draft.tree, kernel, left_out: draft.left_out })
}

/// A tmpfs of the recipe is empty when the node starts, and a bind mount shows another folder: what the image has below would be gone.
fn check_hidden(recipe: &CheckedRecipe, draft: &Draft) -> Result<(), AssemblyError> {
    let of_root = || draft.tree.entries.values().filter(|entry| entry.segment != SegmentName::Boot);
    let shown = recipe.state.iter().filter(|state| matches!(state.place, StatePlace::Folder { .. }));
    for mount in recipe.root.tmpfs.iter().map(|tmpfs| &tmpfs.path).chain(shown.map(|state| &state.path)) {
        let below = format!("{}/", mount.trim_matches('/'));
        if let Some(hidden) = of_root().find(|entry| entry.entry.path.starts_with(&below)) {
            let (path, origin) = (format!("/{}", hidden.entry.path), hidden.origin.clone());
            return Err(AssemblyError::Hidden { path, mount: mount.clone(), origin });
        }
    }
    Ok(())
}

/// What PID1 runs for `format` of `[state]`.
fn check_formatters(recipe: &CheckedRecipe, draft: &Draft) -> Result<(), AssemblyError> {
    let program = paths::MKE2FS;
    let there = draft.resolve(program.trim_start_matches('/')).end.is_some_and(|end| draft.on_node(&end).is_some());
    let wants = recipe.state.iter().find_map(|state| match &state.place {
        StatePlace::Volume { format: Some(format), .. } => Some((state.path.clone(), format.clone())),
        _ => None,
    });
    match wants {
        Some((path, format)) if !there => Err(AssemblyError::NoFormatter { path, format, program }),
        _ => Ok(()),
    }
}

/// What services and their probes start. PID1 would learn only on the node that it cannot.
fn check_programs(recipe: &CheckedRecipe, draft: &Draft) -> Result<(), AssemblyError> {
    let mut bad = Vec::new();
    for service in &recipe.services {
        let probe = match &service.ready {
            Ready::Exec { argv } => argv.first(),
            _ => None,
        };
        for program in service.exec.first().into_iter().chain(probe) {
            if let Err(problem) = check_program(recipe, draft, program) {
                bad.push(BadProgram { service: service.name.clone(), program: program.clone(), problem });
            }
        }
    }
    if bad.is_empty() { Ok(()) } else { Err(AssemblyError::Programs(bad)) }
}

/// A program that the image does not decide about passes: one on a volume or another mount, and one whose path the node
/// completes.
fn check_program(recipe: &CheckedRecipe, draft: &Draft, program: &str) -> Result<(), ProgramProblem> {
    let end = draft.resolve(program).end;
    let mounts = recipe.state.iter().map(|state| &state.path).chain(recipe.root.tmpfs.iter().map(|tmpfs| &tmpfs.path));
    let mut mounts = mounts.map(String::as_str).chain(["/dev", "/proc", "/run", "/sys"]);
    // Where the path leads, not how it is written: `/run/../usr/bin/x` is not below `/run`.
    let is_below = |mount: &str| {
        let below = end.as_deref().and_then(|end| end.strip_prefix(mount.trim_start_matches('/')));
        below.is_some_and(|rest| rest.starts_with('/'))
    };
    if program.contains("${") || mounts.any(is_below) {
        return Ok(());
    }
    if program.ends_with('/') {
        return Err(ProgramProblem::NoFile);
    }
    let Some(found) = end.as_deref().and_then(|end| draft.on_node(end)) else { return Err(ProgramProblem::Missing) };
    if !matches!(found.entry.kind, Kind::File(_) | Kind::Hardlink(_)) {
        return Err(ProgramProblem::NoFile);
    }
    if found.entry.mode & 0o111 == 0 {
        return Err(ProgramProblem::NotExecutable);
    }
    let first = match &found.entry.kind {
        Kind::Hardlink(first) => draft.on_node(first).map(|first| &first.entry.kind),
        kind => Some(kind),
    };
    let Some(Kind::File(body)) = first else { return Err(ProgramProblem::Missing) };
    // What execve(2) takes by itself.
    let start = body.read_start(4).map_err(|_| ProgramProblem::Unreadable)?;
    if start.starts_with(b"#!") || start == b"\x7fELF" { Ok(()) } else { Err(ProgramProblem::NoFormat) }
}

/// PID1, the folders that it mounts on, and what the image says of itself.
fn add_own(inputs: &Inputs<'_>, draft: &mut Draft) -> Result<(), TreeError> {
    let mut add = |segment, path: &str, kind, mode, reason| {
        draft.add(TreeEntry {
            entry: Entry::of_root(path.trim_start_matches('/'), kind, mode),
            component: "init".into(),
            origin: inputs.recipe.kernel.origin.clone(),
            reason,
            segment,
        })
    };
    add(SegmentName::Boot, paths::INIT, Kind::File(inputs.init.clone()), 0o755, Reason::Init)?;
    add(SegmentName::Root, paths::SBOM, Kind::File(inputs.sbom.clone()), 0o644, Reason::Computed)?;
    BOOT_FOLDERS.iter().try_for_each(|path| add(SegmentName::Boot, path, Kind::Dir, 0o755, Reason::Init))
}

/// What add-ons need of a node, where it runs pods: `bootwright-ctl sysinfo` reads it.
fn add_addons(recipe: &CheckedRecipe, release: &str, draft: &mut Draft) -> Result<(), TreeError> {
    // Another program may start it.
    let is_kubelet = |word: &String| word.starts_with('/') && word.ends_with("/kubelet");
    if !recipe.services.iter().any(|service| service.exec.iter().any(is_kubelet)) {
        return Ok(());
    }
    let body = Body::from_bytes(node_table(release).into_bytes());
    draft.add(TreeEntry {
        entry: Entry::of_root(paths::ADDONS.trim_start_matches('/'), Kind::File(body), 0o644),
        component: "init".into(),
        origin: recipe.kernel.origin.clone(),
        reason: Reason::Computed,
        segment: SegmentName::Root,
    })
}

/// What the tree's symlinks point to, where a pool has it. A link into `/proc` or `/run` leads nowhere yet.
fn draw_link_targets(supply: &Supply<'_>, draft: &mut Draft) -> Result<(), TreeError> {
    let links: Vec<(String, String)> = draft
        .tree
        .entries
        .values()
        .filter(|e| e.segment != SegmentName::Boot && matches!(e.entry.kind, Kind::Symlink(_)))
        .map(|e| (e.entry.path.clone(), e.component.clone()))
        .collect();
    for (path, component) in links {
        // The link itself may be the recipe's own, so it is followed one step here and then through the pools.
        let Some(entry) = draft.on_node(&path) else { continue };
        let Kind::Symlink(target) = &entry.entry.kind else { continue };
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let target = if target.starts_with('/') { target.clone() } else { format!("{folder}/{target}") };
        let there = draft.resolve(&path).end.is_some_and(|end| draft.on_node(&end).is_some());
        if !there {
            draft.draw(supply, &target, &component, &Reason::LinkTarget { by: path.clone() })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::tree::fixture::{Fixture, component, dir, file, link};
    use bootwright_contract::{Ready, StateFolder, StatePlace, fixture::service};

    /// What a build says of a service that starts `program`, or whose probe does.
    fn said(program: &str, probe: bool) -> Option<String> {
        let mut fixture = Fixture::new();
        let entries = vec![
            dir("opt", 0o755),
            file("opt/run", "#!/proc/self/exe", 0o755),
            file("opt/text", "#!/proc/self/exe", 0o644),
            file("opt/bare", "echo hello", 0o755),
            file("opt/empty", "", 0o755),
            link("opt/name", "run"),
            link("opt/lost", "nowhere"),
            link("opt/kept", "/var/lib/kept/tool"),
        ];
        fixture.add(component("tool", &["opt/**"]), entries);
        let mut service = service("agent", &[if probe { "/opt/run" } else { program }]);
        if probe {
            service.ready = Ready::Exec { argv: vec![program.into()] };
        }
        fixture.recipe.services = vec![service];
        let place = StatePlace::Volume { source: "nbd:///state".into(), folder: None, format: None };
        fixture.recipe.state = vec![StateFolder { path: "/var/lib/kept".into(), overlay: false, place }];
        fixture.build().is_err().then(|| fixture.error())
    }

    #[test]
    fn a_service_starts_a_program_that_is_there_and_may_be_executed() {
        for (program, problem) in [
            ("/opt/run", None),
            ("/opt/name", None),
            ("/opt/../opt/run", None),
            ("/var/lib/kept/tool", None),
            ("/opt/kept", None),
            ("/run/made/later", None),
            ("/opt/${hostname}", None),
            ("/opt/ru", Some("is not in the image")),
            ("/opt/lost", Some("is not in the image")),
            ("/var/lib/kept", Some("is not in the image")),
            ("/run/../opt/ru", Some("is not in the image")),
            ("/opt", Some("is no file")),
            ("/opt/run/", Some("is no file")),
            ("/opt/text", Some("nobody may execute")),
            (
                "/opt/bare",
                Some("is neither a program (ELF) nor a script with `#!` and its interpreter in the first line"),
            ),
            (
                "/opt/empty",
                Some("is neither a program (ELF) nor a script with `#!` and its interpreter in the first line"),
            ),
        ] {
            for probe in [false, true] {
                let expected = problem.map(|problem| format!("service `agent` starts `{program}`, which {problem}"));
                let said = said(program, probe);
                let first =
                    said.as_deref().and_then(|said| said.lines().next()).map(|line| line.trim_start_matches("error: "));
                assert_eq!(first, expected.as_deref(), "{program}");
            }
        }
    }
}
