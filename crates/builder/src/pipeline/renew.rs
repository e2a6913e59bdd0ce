//! Lock -> pins: what the lock holds is used, what changed is pinned anew, and said.

use super::Options;
use crate::error::{Exit, Failure};
use crate::lock::{self, Lock, LockDiff, LockedComponent, Stale};
use crate::recipe::{CheckedRecipe, Component};
use crate::source::{Pin, SourceError, source_of};

/// A lock that fits the recipe, and what had to change for that.
pub struct Renewed {
    pub lock: Lock,
    /// `None` when the lock was used as it was.
    pub diff: Option<LockDiff>,
}

impl Renewed {
    /// Pins the named components anew as well; what was renewed before stays in the difference.
    pub fn renew_more(&mut self, recipe: &CheckedRecipe, options: &Options, names: &[&str]) -> Result<(), Failure> {
        let next = renew(recipe, options, Some(self.lock.clone()), names)?;
        self.lock = next.lock;
        match (&mut self.diff, next.diff) {
            (Some(diff), Some(more)) => diff.changes.extend(more.changes),
            (diff @ None, more) => *diff = more,
            (Some(_), None) => {}
        }
        Ok(())
    }
}

/// Loads the lock and renews what the recipe changed; with `locked` a difference is an error that names the key.
pub fn current_lock(recipe: &CheckedRecipe, options: &Options, locked: bool) -> Result<Renewed, Failure> {
    let old = lock::load_lock(&recipe.lock_path)?;
    let stale = match &old {
        Some(lock) => lock::compare(recipe, lock),
        None => recipe.components.iter().map(|c| Stale::Added { component: c.name.clone() }).collect(),
    };
    if stale.is_empty() {
        let lock = old.expect("an absent lock is stale unless the recipe has no component");
        return Ok(Renewed { lock, diff: None });
    }
    if locked {
        return Err(stale_failure(recipe, &stale));
    }
    for line in &stale {
        options.ui.say(format_args!("lock: {line}"));
    }
    let names: Vec<&str> = stale.iter().map(Stale::component).collect();
    renew(recipe, options, old, &names)
}

/// Pins the named components anew, keeps the others, and saves the lock.
pub fn renew(recipe: &CheckedRecipe, options: &Options, old: Option<Lock>, names: &[&str]) -> Result<Renewed, Failure> {
    let kept = |name: &str| old.iter().flat_map(|l| &l.components).find(|c| c.name == name && !names.contains(&name));
    let mut components = Vec::new();
    for component in &recipe.components {
        components.push(match kept(&component.name) {
            Some(locked) => locked.clone(),
            None => pin(recipe, component, options)?,
        });
    }
    components.sort_by(|a, b| a.name.cmp(&b.name));
    let lock = Lock { version: lock::LOCK_VERSION, time: now_s(), components };
    let diff = lock::diff_locks(old.as_ref(), &lock);
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

fn now_s() -> u64 {
    if let Some(epoch) = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|v| v.parse().ok()) {
        return epoch;
    }
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
