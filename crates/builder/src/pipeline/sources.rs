//! Collects what has to be offered with an image: sources and licence texts of its copyleft parts.

use super::Options;
use super::fetching::fetch_and_open;
use super::renew::{current_lock, in_component};
use crate::error::{Exit, Failure};
use crate::licence::{copyleft_texts, may_ask_for_source, referred_texts};
use crate::offer::{Offer, Part};
use crate::recipe::{CheckedRecipe, Component, DebSpec, SourceSpec};
use crate::source::deb::sources::{SourceFiles, fetch_sources};
use crate::source::go::Go;
use crate::source::{PackageFacts, Pool, SourcePackage};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What was collected.
pub struct Collected {
    pub recipe: String,
    /// Parts whose sources are there.
    pub parts: usize,
    /// Parts whose sources are not: the user has to look for them.
    pub elsewhere: Vec<String>,
}

/// Writes the sources of an image's copyleft parts into a folder. The image is the one of the lock, which must fit the recipe.
pub fn sources(options: &Options, out: &Path) -> Result<Collected, Failure> {
    let recipe = options.load_recipe()?;
    let mut renewed = current_lock(&recipe, options, true)?;
    let pools = fetch_and_open(&recipe, options, true, &mut renewed)?;
    let mut offer = Offer::open(out, &recipe.name)?;
    let components: Vec<(&Component, &Pool)> = pools
        .iter()
        .filter_map(|(name, pool)| Some((recipe.components.iter().find(|c| c.name == *name)?, pool)))
        .collect();
    add_debian(&recipe, &components, renewed.lock.time, options, &mut offer)?;
    for (component, pool) in components {
        match &component.source {
            SourceSpec::Deb(_) => {}
            SourceSpec::Go(spec) => add_go(&recipe, component, &Go { spec }, pool, options, &mut offer)?,
            SourceSpec::Url(_) | SourceSpec::Oci(_) | SourceSpec::Image(_) | SourceSpec::Path(_) => {
                let kind = component.source.kind();
                offer.add_elsewhere(format!(
                    "component `{}` ({kind}): nothing tells what it was built from",
                    component.name
                ));
            }
        }
    }
    let (parts, elsewhere) = offer.finish()?;
    Ok(Collected { recipe: recipe.name, parts, elsewhere })
}

/// Packages whose licence may ask for their source.
fn asking(pool: &Pool) -> impl Iterator<Item = &PackageFacts> {
    pool.packages.iter().filter(|facts| may_ask_for_source(facts.license.as_deref()))
}

/// Where components take packages from: its lists are looked into once for all of them.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Suite<'a> {
    name: &'a str,
    areas: &'a [String],
    security: bool,
}

struct Wanted<'a> {
    spec: &'a DebSpec,
    /// The first one, for messages.
    component: &'a Component,
    packages: BTreeSet<SourcePackage>,
}

fn add_debian(
    recipe: &CheckedRecipe,
    components: &[(&Component, &Pool)],
    time: u64,
    options: &Options,
    offer: &mut Offer,
) -> Result<(), Failure> {
    let mut suites: BTreeMap<Suite<'_>, Wanted<'_>> = BTreeMap::new();
    for (component, pool) in components {
        let SourceSpec::Deb(spec) = &component.source else { continue };
        let suite = Suite { name: &spec.suite, areas: &spec.areas, security: spec.security };
        let wanted = suites.entry(suite).or_insert_with(|| Wanted { spec, component, packages: BTreeSet::new() });
        wanted.packages.extend(asking(pool).flat_map(|facts| facts.built_from.iter().cloned()));
    }
    let mut found = SourceFiles::new();
    for Wanted { spec, component, packages } in suites.into_values() {
        let files = fetch_sources(&packages, spec, time, &options.context(recipe));
        found.extend(files.map_err(|e| in_component(component, e))?);
    }
    for (component, pool) in components.iter().filter(|(c, _)| matches!(c.source, SourceSpec::Deb(_))) {
        for facts in asking(pool) {
            let mut files = Vec::new();
            for source in &facts.built_from {
                for file in found.get(source).into_iter().flatten() {
                    // Without the epoch, as Debian's own names of files.
                    let version = source.version.split_once(':').map_or(source.version.as_str(), |(_, rest)| rest);
                    let to = format!("debian/{}_{version}/{}", source.name, file.name);
                    let blob = options.cache.blob(&file.sha256).ok_or_else(|| vanished(&file.name))?;
                    offer.place_file(&to, &blob, file.sha256)?;
                    files.push(to);
                }
            }
            add_licences(facts, offer, &mut files)?;
            offer.add_part(part(component, facts, files));
        }
    }
    Ok(())
}

fn add_go(
    recipe: &CheckedRecipe,
    component: &Component,
    go: &Go<'_>,
    pool: &Pool,
    options: &Options,
    offer: &mut Offer,
) -> Result<(), Failure> {
    // The standard library is no module: its source is part of the toolchain, and no copyleft.
    let modules: Vec<&PackageFacts> = asking(pool).filter(|facts| facts.name != "std").collect();
    let wanted: Vec<(&str, &str)> = modules.iter().map(|f| (f.name.as_str(), f.version.as_str())).collect();
    let archives = go.archives(&wanted, &options.context(recipe)).map_err(|e| in_component(component, e))?;
    for (facts, (path, version, zip)) in modules.into_iter().zip(archives) {
        let to = format!("go/{path}@{version}.zip");
        offer.copy_file(&to, &zip)?;
        let mut files = vec![to];
        for patch in pool.patches.iter().filter(|patch| patch.module == facts.name) {
            let to = format!("patches/{}-{}", component.name, patch.name);
            offer.write_text(&to, &format!("Description: {}\n\n{}", patch.description, patch.diff))?;
            files.push(to);
        }
        add_licences(facts, offer, &mut files)?;
        offer.add_part(part(component, facts, files));
    }
    Ok(())
}

fn part(component: &Component, facts: &PackageFacts, files: Vec<String>) -> Part {
    Part {
        component: component.name.clone(),
        name: facts.name.clone(),
        version: facts.version.clone(),
        licence: facts.license.clone().unwrap_or_else(|| "not known".into()),
        files,
    }
}

/// The package's own words, and the texts that those name.
fn add_licences(facts: &PackageFacts, offer: &mut Offer, files: &mut Vec<String>) -> Result<(), Failure> {
    if let Some(text) = &facts.copyright {
        let to = format!("licences/{}.copyright", facts.name);
        offer.write_text(&to, text)?;
        files.push(to);
    }
    let named = facts.license.as_deref().map(copyleft_texts).unwrap_or_default();
    let referred = facts.copyright.as_deref().map(referred_texts).unwrap_or_default();
    for (name, text) in named.into_iter().chain(referred).collect::<BTreeMap<_, _>>() {
        let to = format!("licences/{name}.txt");
        offer.write_text(&to, text)?;
        files.push(to);
    }
    Ok(())
}

fn vanished(name: &str) -> Failure {
    Failure {
        exit: Exit::Other,
        message: format!("`{name}` vanished from the cache"),
        help: Some("let nothing empty the cache meanwhile, and call it again: what was collected is kept".into()),
    }
}
