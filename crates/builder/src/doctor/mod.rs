//! Which host tools recipes need, which are missing, and the command that installs them.

mod find;

pub use find::{InstalledTool, ThisHost, ToolFinder};

use crate::lock::{Lock, LockedComponent};
use crate::recipe::CheckedRecipe;
use crate::source::go::parse_go_version;
use crate::source::source_of;
use crate::tool::{Needs, Tool};
use bootwright_contract::RootImage;
use serde::Serialize;
use std::collections::BTreeSet;

/// Reads the needs off a checked recipe. A source may need less once the lock pins it as the recipe asks.
pub fn needs_of(recipe: &CheckedRecipe, lock: Option<&Lock>) -> Needs {
    let mut build = BTreeSet::from([Tool::Pid1]);
    let mut go = None;
    for component in recipe.components.iter().filter(|c| c.enabled) {
        let is_it = |c: &&LockedComponent| c.name == component.name && c.spec == component.source;
        let locked = lock.and_then(|lock| lock.components.iter().find(is_it));
        let needs = source_of(&component.source).needs(locked.map(|c| c.pins.as_slice()));
        build.extend(needs.build);
        go = later(go, needs.go);
    }
    match recipe.root.image {
        RootImage::Squashfs => build.insert(Tool::Mksquashfs),
        RootImage::Erofs => build.insert(Tool::MkfsErofs),
        RootImage::Cpio => false,
    };
    Needs { build, smoke: BTreeSet::from([Tool::Qemu, Tool::IpxeRom]), go }
}

/// The later of two versions of Go.
fn later(a: Option<String>, b: Option<String>) -> Option<String> {
    a.into_iter().chain(b).max_by_key(|version| parse_go_version(version))
}

/// One tool's row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolRow {
    pub tool: Tool,
    pub name: &'static str,
    pub purpose: &'static str,
    pub found: Option<InstalledTool>,
    /// Recipes that need it, to be built or to be tried.
    pub needed_by: Vec<String>,
}

/// One recipe's row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecipeRow {
    pub recipe: String,
    pub builds: bool,
    /// `bootwright smoke` runs, by way of the kernel at least.
    pub smokes: bool,
    /// Tools whose absence keeps it from being built.
    pub missing: Vec<Tool>,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// The whole finding; serialised it is the document of `--json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnosis {
    /// Layout of this document; 1.
    pub version: u32,
    pub tools: Vec<ToolRow>,
    pub recipes: Vec<RecipeRow>,
    /// Installs what is missing and what a package can bring.
    pub install: Option<String>,
    /// What to do for the rest, by tool name.
    pub hints: Vec<(String, String)>,
}

impl Diagnosis {
    /// Recipes that can be built as the host is now.
    pub fn working(&self) -> Vec<&str> {
        self.recipes.iter().filter(|r| r.builds).map(|r| r.recipe.as_str()).collect()
    }
}

/// A recipe's name and what it needs, or why it cannot be read.
pub type RecipeNeeds = (String, Result<Needs, String>);

/// Looks for all tools and judges each recipe. `has_apt` says that packages are installed with apt here.
pub fn diagnose(asked: &[RecipeNeeds], host: &dyn ToolFinder, has_apt: bool) -> Diagnosis {
    let go = asked.iter().filter_map(|(_, needs)| needs.as_ref().ok()?.go.clone()).fold(None, |a, b| later(a, Some(b)));
    let (mut tools, mut too_old) = (Vec::new(), Vec::new());
    for tool in Tool::ALL {
        let mut found = host.find(tool);
        if let (Tool::Go, Some(needed)) = (tool, &go) {
            (found, too_old) = fit_first(found, needed);
        }
        tools.push(tool_row(tool, asked, found.into_iter().next()));
    }
    let is_missing = |tool: &Tool| tools.iter().any(|row| row.tool == *tool && row.found.is_none());
    let recipes = asked.iter().map(|(name, needs)| recipe_row(name, needs, &is_missing)).collect();
    let wanted = tools.iter().filter(|row| row.found.is_none() && !row.needed_by.is_empty()).map(|row| row.tool);
    let (by_package, by_hand): (Vec<Tool>, Vec<Tool>) = wanted.partition(|t| has_apt && t.package().is_some());
    let packages: Vec<&str> = by_package.iter().filter_map(|t| t.package()).collect();
    let install = (!packages.is_empty()).then(|| format!("sudo apt-get install -y {}", packages.join(" ")));
    let mut hints: Vec<(String, String)> =
        by_hand.iter().map(|t| (t.name().to_string(), t.hint().to_string())).collect();
    hints.extend(go.and_then(|needed| go_hint(&needed, &tools, &too_old)).map(|hint| (Tool::Go.name().into(), hint)));
    Diagnosis { version: 1, tools, recipes, install, hints }
}

/// Those that can build what needs Go `needed`, that version itself first; and those that are too old.
fn fit_first(found: Vec<InstalledTool>, needed: &str) -> (Vec<InstalledTool>, Vec<InstalledTool>) {
    let version = |found: &InstalledTool| found.version.as_deref().and_then(parse_go_version);
    // A development build has no number: it is taken for new.
    let is_fit = |found: &InstalledTool| version(found).is_none_or(|v| Some(v) >= parse_go_version(needed));
    let (mut fit, too_old): (Vec<InstalledTool>, Vec<InstalledTool>) = found.into_iter().partition(is_fit);
    fit.sort_by_key(|found| found.version.as_deref() != Some(needed));
    (fit, too_old)
}

/// What there is to say when the Go at hand is not the pinned one.
fn go_hint(needed: &str, tools: &[ToolRow], too_old: &[InstalledTool]) -> Option<String> {
    let row = tools.iter().find(|row| row.tool == Tool::Go)?;
    let version = |found: &InstalledTool| found.version.clone().unwrap_or_default();
    match &row.found {
        Some(found) if found.version.as_deref() == Some(needed) => None,
        Some(found) => Some(format!(
            "the lock pins {needed}, found {}: `build --locked` refuses it, and `build` renews the lock; \
            `scripts/setup.sh image` of bootwright's own checkout installs the pinned one",
            version(found)
        )),
        None if too_old.is_empty() => Some(format!("needed is {needed}")),
        None => {
            let found: Vec<String> = too_old.iter().map(version).collect();
            Some(format!("needed is {needed}, too old is {}", found.join(", ")))
        }
    }
}

fn tool_row(tool: Tool, asked: &[RecipeNeeds], found: Option<InstalledTool>) -> ToolRow {
    let needs_it = |needs: &Needs| needs.build.contains(&tool) || needs.smoke.contains(&tool);
    let needed_by = asked.iter().filter(|(_, needs)| needs.as_ref().is_ok_and(needs_it));
    ToolRow {
        tool,
        name: tool.name(),
        purpose: tool.purpose(),
        found,
        needed_by: needed_by.map(|(name, _)| name.clone()).collect(),
    }
}

fn recipe_row(name: &str, needs: &Result<Needs, String>, is_missing: &dyn Fn(&Tool) -> bool) -> RecipeRow {
    let recipe = name.to_string();
    match needs {
        Ok(needs) => {
            let missing: Vec<Tool> = needs.build.iter().copied().filter(|t| is_missing(t)).collect();
            let smokes = needs.smoke.contains(&Tool::Qemu) && !is_missing(&Tool::Qemu);
            RecipeRow { recipe, builds: missing.is_empty(), smokes, missing, problem: None }
        }
        Err(problem) => {
            RecipeRow { recipe, builds: false, smokes: false, missing: Vec::new(), problem: Some(problem.clone()) }
        }
    }
}

#[cfg(test)]
mod tests;
