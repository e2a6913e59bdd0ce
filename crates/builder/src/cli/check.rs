//! `bootwright check`: is a recipe right?

use super::RecipeArgs;
use crate::error::Failure;
use crate::recipe::{CheckedRecipe, RootMode, load_recipe};
use crate::secrets;
use serde::Serialize;

/// Version of the JSON that `check --json` prints.
const JSON_VERSION: u32 = 1;

#[derive(Serialize)]
struct Report<'r> {
    version: u32,
    recipe: &'r str,
    summary: &'r str,
    /// Where the root is.
    root: RootMode,
    /// Of a network root.
    sources: &'r [String],
    files: Vec<String>,
    vars: &'r std::collections::BTreeMap<String, crate::recipe::VarValue>,
    components: Vec<ComponentReport<'r>>,
    services: Vec<&'r str>,
}

#[derive(Serialize)]
struct ComponentReport<'r> {
    name: &'r str,
    source: &'static str,
    enabled: bool,
    origin: String,
}

/// Checks a recipe and prints what it is to standard output: a few lines, or JSON. Touches neither network nor cache.
pub fn check(args: &RecipeArgs, json: bool) -> Result<(), Failure> {
    let recipe = load_recipe(&args.recipe, &args.sets, args.root)?;
    let text = if json { format!("{:#}", serde_json::json!(report(&recipe))) } else { summary(&recipe) };
    super::print_out(&(text + "\n"))
}

fn report(recipe: &CheckedRecipe) -> Report<'_> {
    Report {
        version: JSON_VERSION,
        recipe: &recipe.name,
        summary: &recipe.summary,
        root: recipe.root.mode,
        sources: &recipe.root.sources,
        files: recipe.files_read.iter().map(|p| p.display().to_string()).collect(),
        vars: &recipe.vars,
        components: recipe
            .components
            .iter()
            .map(|c| {
                let (source, origin) = (c.source.kind(), c.origin.to_string());
                ComponentReport { name: &c.name, source, enabled: c.enabled, origin }
            })
            .collect(),
        services: recipe.services.iter().map(|s| s.name.as_str()).collect(),
    }
}

fn summary(recipe: &CheckedRecipe) -> String {
    let mut lines = vec![format!("{}: ok", recipe.name)];
    if !recipe.summary.is_empty() {
        lines.push(format!("  {}", recipe.summary));
    }
    if recipe.root.mode.is_network() {
        lines.push(format!("  root over {}: {}", recipe.root.mode, recipe.root.sources.join(", ")));
    }
    let components = recipe.components.iter().map(|c| {
        let off = if c.enabled { "" } else { ", off" };
        format!("{} ({}{off})", c.name, c.source.kind())
    });
    let services = recipe.services.iter().map(|s| s.name.clone());
    let vars = recipe.vars.iter().map(|(name, value)| {
        let text = value.to_string();
        match secrets::is_secret_pair(name, &text) || secrets::in_value(&text).is_some() {
            true => format!("{name}=(a secret)"),
            false => format!("{name}={}", serde_json::json!(value)),
        }
    });
    for (title, names) in [
        ("components", components.collect::<Vec<_>>()),
        ("services", services.collect()),
        ("variables", vars.collect()),
    ] {
        if !names.is_empty() {
            lines.push(format!("  {title}: {}", names.join(", ")));
        }
    }
    lines.join("\n")
}
