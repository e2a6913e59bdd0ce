//! From pools to a finished tree: what is wanted, what that needs, and nothing else.

use crate::cache::Cache;
use crate::elf::{ElfError, add_libraries, check_interpreters};
use crate::entry::{Body, Entry, Kind};
use crate::error::{Exit, Failure};
use crate::kmod::{KernelBuild, KmodError, add_kernel};
use crate::recipe::{CheckedRecipe, SegmentName};
use crate::source::Pool;
use crate::tree::{Draft, Reason, Render, Supply, Tree, TreeEntry, TreeError, add_wanted, add_written};
use bootwright_contract::{StatePlace, paths};
use std::collections::BTreeMap;

/// What a tree is built from.
pub struct Inputs<'a> {
    pub recipe: &'a CheckedRecipe,
    /// One a component, by its name.
    pub pools: &'a [(String, Pool)],
    /// PID1's binary.
    pub init: Body,
    pub render: Render<'a>,
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
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Elf(Box<ElfError>),
    #[error(transparent)]
    Kmod(#[from] KmodError),
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
    add_boot(inputs, &mut draft)?;
    for part in &supply.parts {
        add_wanted(part, part.component.name == recipe.kernel.component, &mut draft)?;
    }
    add_written(recipe, inputs.render, &mut draft)?;
    let kernel = add_kernel(recipe, &supply, &mut draft, inputs.cache, inputs.jobs)?;
    draw_link_targets(&supply, &mut draft)?;
    let interpreters = add_libraries(&supply, &mut draft)?;
    draft.complete_parents()?;
    draft.keep_folder_modes();
    check_interpreters(&draft, &interpreters)?;
    check_formatters(recipe, &draft)?;
    Ok(TreeBuild { tree: draft.tree, kernel, left_out: draft.left_out })
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

fn add_boot(inputs: &Inputs<'_>, draft: &mut Draft) -> Result<(), TreeError> {
    let mut add = |path: &str, kind, reason| {
        draft.add(TreeEntry {
            entry: Entry::of_root(path, kind, 0o755),
            component: "init".into(),
            origin: inputs.recipe.kernel.origin.clone(),
            reason,
            segment: SegmentName::Boot,
        })
    };
    add(paths::INIT.trim_start_matches('/'), Kind::File(inputs.init.clone()), Reason::Init)?;
    BOOT_FOLDERS.iter().try_for_each(|path| add(path, Kind::Dir, Reason::Init))
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
