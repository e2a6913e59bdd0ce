//! Lock -> pins: what the lock holds is used, what changed is pinned anew or taken over from an extended recipe, and said.

use super::Options;
use crate::error::{Exit, Failure};
use crate::lock::{self, Inherited, Lock, LockDiff, LockedComponent, Stale};
use crate::recipe::{CheckedRecipe, Component, SourceSpec, shown};
use crate::source::{Pin, SourceError, source_of};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A lock that fits the recipe, and what had to change for that.
pub struct Renewed {
    pub lock: Lock,
    /// `None` when the lock was used as it was.
    pub diff: Option<LockDiff>,
}

impl Renewed {
    /// Pins the named components anew as well; what was renewed before stays in the difference.
    pub fn renew_more(&mut self, recipe: &CheckedRecipe, options: &Options, names: &[&str]) -> Result<(), Failure> {
        let next = renew(recipe, options, Some(self.lock.clone()), names, &Known::new())?;
        self.lock = next.lock;
        match (&mut self.diff, next.diff) {
            (Some(diff), Some(more)) => diff.changes.extend(more.changes),
            (diff @ None, more) => *diff = more,
            (Some(_), None) => {}
        }
        Ok(())
    }
}

/// What the recipe inherits: by component the lock that it comes from, and its pins there.
type Known = BTreeMap<String, (PathBuf, LockedComponent)>;

/// The pins of components that the recipe does not change, as the recipes pin them that it extends. Those of local files that
/// changed since are left out.
fn known_pins(recipe: &CheckedRecipe, options: &Options, inherited: &Inherited) -> Result<Known, Failure> {
    let mut known = Known::new();
    for component in &recipe.components {
        let Some((path, locked)) = inherited.find(recipe, component) else { continue };
        let (source, cx) = (source_of(&component.source), options.context(recipe));
        if source.is_current(&locked.pins, &cx).map_err(|e| in_component(component, e))? {
            known.insert(component.name.clone(), (path.to_path_buf(), locked));
        }
    }
    Ok(known)
}

/// Loads the lock and renews what the recipe changed; with `locked` a difference is an error that names the key. A recipe
/// without a lock that inherits all its pins needs none.
pub fn current_lock(recipe: &CheckedRecipe, options: &Options, locked: bool) -> Result<Renewed, Failure> {
    let old = lock::load_lock(&recipe.lock_path)?;
    let inherited = Inherited::load(recipe)?;
    let known = known_pins(recipe, options, &inherited)?;
    if let (None, true, Some(time)) = (&old, locked && known.len() == recipe.components.len(), inherited.time()) {
        let components = known.into_values().map(|(_, locked)| locked).collect();
        return Ok(Renewed { lock: Lock { version: lock::LOCK_VERSION, time, components }, diff: None });
    }
    let mut stale = match &old {
        Some(lock) => lock::compare(recipe, lock),
        None => recipe.components.iter().map(|c| Stale::Added { component: c.name.clone() }).collect(),
    };
    for own in old.iter().flat_map(|lock| &lock.components) {
        if let Some((path, locked)) = known.get(&own.name)
            && own.pins != locked.pins
            && stale.iter().all(|stale| stale.component() != own.name)
        {
            stale.push(Stale::Inherited { component: own.name.clone(), lock: shown(path) });
        }
    }
    if stale.is_empty() {
        let lock = old.expect("an absent lock is stale unless the recipe has no component");
        return Ok(Renewed { lock, diff: None });
    }
    if locked {
        return Err(stale_failure(recipe, &stale));
    }
    let is_told = |line: &&Stale| !matches!(line, Stale::Added { component } if known.contains_key(component));
    for line in stale.iter().filter(is_told) {
        options.ui.say(format_args!("lock: {line}"));
    }
    let names: Vec<&str> = stale.iter().map(Stale::component).collect();
    renew(recipe, options, old, &names, &known)
}

/// Pins every component anew, but for those that the recipe inherits.
pub fn renew_all(recipe: &CheckedRecipe, options: &Options) -> Result<Renewed, Failure> {
    let old = lock::load_lock(&recipe.lock_path)?;
    let known = known_pins(recipe, options, &Inherited::load(recipe)?)?;
    let all: Vec<&str> = recipe.components.iter().map(|c| c.name.as_str()).collect();
    let renewed = renew(recipe, options, old, &all, &known)?;
    let locks: BTreeSet<&PathBuf> = known.values().map(|(path, _)| path).collect();
    for path in locks {
        let names = known.iter().filter(|(_, (from, _))| from == path).map(|(name, _)| format!("`{name}`"));
        let (names, lock) = (names.collect::<Vec<_>>().join(", "), shown(path));
        let recipe = lock.trim_end_matches(".lock").trim_end_matches(".local");
        options
            .ui
            .say(format_args!("`{lock}` pins {names}: renew those with `bootwright lock --recipe {recipe}.toml`"));
    }
    Ok(renewed)
}

/// Pins the named components anew, or as they are inherited; keeps the others, and saves the lock.
fn renew(
    recipe: &CheckedRecipe,
    options: &Options,
    old: Option<Lock>,
    names: &[&str],
    known: &Known,
) -> Result<Renewed, Failure> {
    let kept = |name: &str| old.iter().flat_map(|l| &l.components).find(|c| c.name == name && !names.contains(&name));
    let mut components = Vec::new();
    for component in &recipe.components {
        components.push(match (kept(&component.name), known.get(&component.name)) {
            (Some(locked), _) | (None, Some((_, locked))) => locked.clone(),
            (None, None) => pin(recipe, component, options)?,
        });
    }
    components.sort_by(|a, b| a.name.cmp(&b.name));
    let lock = Lock { version: lock::LOCK_VERSION, time: time_of(old.as_ref(), &components), components };
    let mut diff = lock::diff_locks(old.as_ref(), &lock);
    diff.fold_inherited(known.keys());
    if old.as_ref().is_some_and(|old| old.components == lock.components) {
        return Ok(Renewed { lock: old.expect("just compared"), diff: None });
    }
    lock::save_lock(&recipe.lock_path, &lock)?;
    Ok(Renewed { lock, diff: Some(diff) })
}

fn pin(recipe: &CheckedRecipe, component: &Component, options: &Options) -> Result<LockedComponent, Failure> {
    options.ui.detail(format_args!("pinning {}", component.name));
    let pins = source_of(&component.source).lock(&options.context(recipe)).map_err(|e| in_component(component, e))?;
    Ok(LockedComponent { name: component.name.clone(), spec: component.source.clone(), pins })
}

/// The pins of a component; the lock was compared with the recipe before.
pub fn pins_of<'l>(lock: &'l Lock, component: &Component) -> &'l [Pin] {
    lock.components.iter().find(|c| c.name == component.name).map_or(&[], |c| &c.pins)
}

/// A source's error with the component and recipe line in front.
pub fn in_component(component: &Component, error: SourceError) -> Failure {
    let mut failure = Failure::from(error);
    failure.message = format!("component `{}` ({}): {}", component.name, component.origin, failure.message);
    failure
}

fn stale_failure(recipe: &CheckedRecipe, stale: &[Stale]) -> Failure {
    let lines: Vec<String> = stale.iter().map(|s| format!("\n  {s}")).collect();
    Failure {
        exit: Exit::Usage,
        message: format!("the lock `{}` does not fit the recipe:{}", recipe.lock_path.display(), lines.concat()),
        help: Some(format!(
            "renew it with `bootwright lock --recipe {}`, look at the difference and commit it",
            recipe.name
        )),
    }
}

/// The time of a lock with these components. A root holds it, so that it stays where container images alone have changed.
fn time_of(old: Option<&Lock>, components: &[LockedComponent]) -> u64 {
    let of_root = |locked: &&LockedComponent| !matches!(locked.spec, SourceSpec::Image(_));
    let same = |old: &&Lock| old.components.iter().filter(of_root).eq(components.iter().filter(of_root));
    old.filter(same).map_or_else(now_s, |old| old.time)
}

fn now_s() -> u64 {
    if let Some(epoch) = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|v| v.parse().ok()) {
        return epoch;
    }
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
