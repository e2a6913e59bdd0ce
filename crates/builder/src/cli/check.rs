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
    /// A secret's value is `(a secret)`.
    vars: serde_json::Map<String, serde_json::Value>,
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
        vars: vars(recipe).collect(),
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

/// What is said of a secret.
const SECRET: &str = "(a secret)";

/// All variables, without the values of secrets.
fn vars(recipe: &CheckedRecipe) -> impl Iterator<Item = (String, serde_json::Value)> {
    recipe.vars.iter().map(|(name, value)| {
        let text = value.to_string();
        let value = match secrets::is_secret_pair(name, &text) || secrets::in_value(&text).is_some() {
            true => SECRET.into(),
            false => serde_json::json!(value),
        };
        (name.clone(), value)
    })
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
    let vars = vars(recipe).map(|(name, value)| match value.as_str() {
        Some(SECRET) => format!("{name}={SECRET}"),
        _ => format!("{name}={value}"),
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
