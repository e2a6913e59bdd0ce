//! Writes all that the lock pins into a folder, from which a build needs no network.

use super::Options;
use super::renew::{current_lock, in_component, pins_of};
use crate::error::Failure;
use crate::fetch::VendorFiller;
use crate::source::source_of;
use std::path::Path;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vendored {
    pub added: usize,
    /// Bodies that were there already.
    pub held: usize,
}

/// Fills the folder `dir` with what the recipe's lock pins; fails when the lock does not fit the recipe.
pub fn vendor(options: &Options, dir: &Path) -> Result<Vendored, Failure> {
    let recipe = options.load_recipe()?;
    let renewed = current_lock(&recipe, options, true)?;
    let to = VendorFiller::open(dir, &options.ui)?;
    for component in recipe.components.iter().filter(|component| component.enabled) {
        let (source, cx) = (source_of(&component.source), options.context(&recipe));
        let pins = pins_of(&renewed.lock, component);
        source.vendor(pins, &to, &cx).map_err(|e| in_component(component, e))?;
    }
    let (added, held) = to.finish()?;
    Ok(Vendored { added, held })
}
