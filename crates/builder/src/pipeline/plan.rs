//! What an image would hold, without packing it: all that a build does up to the tree.

use super::fetching::fetch_and_open;
use super::{Options, renew, source_records, sysctl_d, tree_of};
use crate::assembly::TreeBuild;
use crate::emit;
use crate::entry::Body;
use crate::error::Failure;
use crate::pid1;
use crate::recipe::CheckedRecipe;
use crate::source::Pool;

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
    let mut renewed = renew::current_lock(&recipe, options, true)?;
    let pools = fetch_and_open(&recipe, options, true, &mut renewed)?;
    let sources = source_records(&recipe, &pools, &renewed, pid1.crates);
    let sbom = Body::from_bytes(emit::carried_sbom(&recipe.name, renewed.lock.time, &sources));
    let build = tree_of(&recipe, &pools, [&pid1.body, &sbom], options)?;
    let sysctls = sysctl_d::add_to(&recipe.sysctls, &build.tree, &options.ui)?;
    recipe.sysctls = sysctls.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok(Planned { recipe, build, pools })
}
