//! Lock -> Blobs -> pools: brings what is pinned into the cache and opens it, several components at once.

use super::Options;
use super::renew::{Renewed, in_component, pins_of};
use crate::error::Failure;
use crate::parallel;
use crate::recipe::{CheckedRecipe, Component};
use crate::source::{Pool, SourceError, source_of};

/// Fetches and opens every enabled component, in the recipe's order. What changed locally, and what a mirror
/// dropped, is pinned anew once and said, unless `locked`.
pub fn fetch_and_open(
    recipe: &CheckedRecipe,
    options: &Options,
    locked: bool,
    renewed: &mut Renewed,
) -> Result<Vec<(String, Pool)>, Failure> {
    let enabled: Vec<&Component> = recipe.components.iter().filter(|c| c.enabled).collect();
    if !locked {
        renew_changed(recipe, options, &enabled, renewed)?;
    }
    let mut results = open_all(recipe, options, renewed, &enabled);
    let gone: Vec<usize> = (0..results.len())
        .filter(|i| !locked && results[*i].as_ref().is_err_and(SourceError::is_outdated_pin))
        .collect();
    if !gone.is_empty() {
        for (i, e) in gone.iter().filter_map(|i| Some((i, results[*i].as_ref().err()?))) {
            options.ui.say(format_args!("component `{}`: {e}: pinning it anew", enabled[*i].name));
        }
        let components: Vec<&Component> = gone.iter().map(|i| enabled[*i]).collect();
        let names: Vec<&str> = components.iter().map(|c| c.name.as_str()).collect();
        renewed.renew_more(recipe, options, &names)?;
        for (i, result) in gone.into_iter().zip(open_all(recipe, options, renewed, &components)) {
            results[i] = result;
        }
    }
    enabled
        .iter()
        .zip(results)
        .map(|(component, result)| Ok((component.name.clone(), result.map_err(|e| in_component(component, e))?)))
        .collect()
}

/// Local files are the user's own working copy: their pins follow them.
fn renew_changed(
    recipe: &CheckedRecipe,
    options: &Options,
    components: &[&Component],
    renewed: &mut Renewed,
) -> Result<(), Failure> {
    let mut changed = Vec::new();
    for component in components {
        let (source, cx) = (source_of(&component.source), options.context(recipe));
        if !source.is_current(pins_of(&renewed.lock, component), &cx).map_err(|e| in_component(component, e))? {
            options.ui.say(format_args!("component `{}` changed: pinning it anew", component.name));
            changed.push(component.name.as_str());
        }
    }
    if !changed.is_empty() {
        renewed.renew_more(recipe, options, &changed)?;
    }
    Ok(())
}

/// Fetches and opens in `jobs` threads; results in the order of `components`.
fn open_all(
    recipe: &CheckedRecipe,
    options: &Options,
    renewed: &Renewed,
    components: &[&Component],
) -> Vec<Result<Pool, SourceError>> {
    parallel::map(components, options.settings.jobs, |component| open_one(recipe, component, options, renewed))
}

fn open_one(
    recipe: &CheckedRecipe,
    component: &Component,
    options: &Options,
    renewed: &Renewed,
) -> Result<Pool, SourceError> {
    let (source, pins, cx) = (source_of(&component.source), pins_of(&renewed.lock, component), options.context(recipe));
    source.fetch(pins, &cx)?;
    source.open(pins, &cx)
}
