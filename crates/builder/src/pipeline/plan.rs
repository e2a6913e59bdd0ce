//! What an image holds, before it is packed.

use super::fetching::fetch_and_open;
use super::renew::{self, Renewed};
use super::{Options, source_records, sysctl_d, tree_of};
use crate::assembly::TreeBuild;
use crate::emit::{self, SourceRecord};
use crate::entry::Body;
use crate::error::Failure;
use crate::pid1::{self, Pid1};
use crate::recipe::CheckedRecipe;
use crate::source::Pool;

/// What a recipe's sources make.
pub(super) struct Prepared {
    pub renewed: Renewed,
    /// One a component, by its name.
    pub pools: Vec<(String, Pool)>,
    pub sources: Vec<SourceRecord>,
    pub build: TreeBuild,
}

/// All that a build does up to the tree. With `locked` a lock that does not fit is an error; otherwise it is renewed.
pub(super) fn prepare(
    recipe: &CheckedRecipe,
    pid1: &Pid1,
    options: &Options,
    locked: bool,
) -> Result<Prepared, Failure> {
    let mut renewed = renew::current_lock(recipe, options, locked)?;
    let pools = fetch_and_open(recipe, options, locked, &mut renewed)?;
    let sources = source_records(recipe, &pools, &renewed, pid1.crates.clone());
    // Container images are no part of the root, and their change is none of its own.
    let of_root: Vec<SourceRecord> = sources.iter().filter(|source| source.kind != "image").cloned().collect();
    let sbom = Body::from_bytes(emit::carried_sbom(&recipe.name, renewed.lock.time, &of_root));
    let build = tree_of(recipe, &pools, [&pid1.body, &sbom], options)?;
    Ok(Prepared { renewed, pools, sources, build })
}

/// A recipe with its tree, and what the tree was made from.
pub struct Planned {
    /// Its kernel parameters with those of the image's files.
    pub recipe: CheckedRecipe,
    pub build: TreeBuild,
    /// One a component, by its name.
    pub pools: Vec<(String, Pool)>,
}

/// Plans the image that the lock pins. The lock is not renewed: one that does not fit is an error.
pub fn plan(options: &Options) -> Result<Planned, Failure> {
    let mut recipe = options.load_recipe()?;
    let pid1 = pid1::load_pid1(None, pid1::wants_network_roots(&recipe))?;
    let Prepared { pools, build, .. } = prepare(&recipe, &pid1, options, true)?;
    let sysctls = sysctl_d::add_to(&recipe.sysctls, &build.tree, &options.ui)?;
    recipe.sysctls = sysctls.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok(Planned { recipe, build, pools })
}
