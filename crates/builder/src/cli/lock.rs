//! `bootwright lock`

use super::RecipeArgs;
use crate::error::Failure;
use crate::lock::{Change, LockDiff};
use crate::pipeline::{self, Options};
use clap::Args;
use serde::Serialize;

#[derive(Debug, Args)]
pub struct LockArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Machine-readable result
    #[arg(long)]
    pub json: bool,
}

/// What changed, for scripts.
#[derive(Serialize)]
struct LockDocument<'a> {
    /// Layout of this document; 1.
    version: u32,
    recipe: &'a str,
    lock: &'a std::path::Path,
    changes: Vec<ChangeDocument>,
}

/// One line of a difference.
#[derive(Serialize)]
pub(super) struct ChangeDocument {
    component: String,
    name: Option<String>,
    old: Option<String>,
    new: Option<String>,
}

pub fn run(args: &LockArgs, options: &Options) -> Result<(), Failure> {
    let (recipe, renewed) = pipeline::lock(options)?;
    if args.json {
        let changes = renewed.diff.as_ref().map(documents).unwrap_or_default();
        return super::print_json(&LockDocument { version: 1, recipe: &recipe.name, lock: &recipe.lock_path, changes });
    }
    match &renewed.diff {
        Some(diff) => super::print_out(&format!("{diff}\n{} written\n", recipe.lock_path.display())),
        None => super::print_out("nothing to renew: every pin is the newest\n"),
    }
}

pub(super) fn documents(diff: &LockDiff) -> Vec<ChangeDocument> {
    diff.changes
        .iter()
        .map(|change| match change {
            Change::Added { component, pin } => ChangeDocument {
                component: component.clone(),
                name: Some(pin.name.clone()),
                old: None,
                new: Some(pin.version.clone()),
            },
            Change::Removed { component, pin } => ChangeDocument {
                component: component.clone(),
                name: Some(pin.name.clone()),
                old: Some(pin.version.clone()),
                new: None,
            },
            Change::Renewed { component, old, new } => ChangeDocument {
                component: component.clone(),
                name: Some(new.name.clone()),
                old: Some(old.version.clone()),
                new: Some(new.version.clone()),
            },
            Change::SpecOnly { component } | Change::Inherited { component, .. } => {
                ChangeDocument { component: component.clone(), name: None, old: None, new: None }
            }
        })
        .collect()
}
