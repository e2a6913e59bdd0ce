//! `bootwright doctor`

use super::parse_set;
use crate::doctor::{self, Diagnosis, RecipeNeeds, ThisHost};
use crate::error::{Exit, Failure};
use crate::lock::load_lock;
use crate::recipe::load_recipe;
use crate::tool::Needs;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;

/// The recipes that ship.
const SHIPPED: [&str; 7] = ["rescue", "worker", "worker-small", "worker-prebuilt", "base", "ext4", "iscsi-tools"];

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Judge this recipe (a name below recipes/, or a path) [default: those that ship]
    #[arg(short, long, value_name = "NAME|PATH")]
    pub recipe: Option<String>,
    /// Set a recipe variable; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_set)]
    pub sets: Vec<(String, String)>,
    /// Machine-readable result
    #[arg(long)]
    pub json: bool,
}

/// Succeeds when the recipe asked for, or each that ships, can be built here.
pub fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let mut asked: Vec<RecipeNeeds> = Vec::new();
    match &args.recipe {
        Some(recipe) => asked.push((recipe.clone(), Ok(needs(recipe, &args.sets)?))),
        None => {
            for name in SHIPPED {
                asked.push((name.into(), needs(name, &args.sets).map_err(|failure| failure.message)));
            }
        }
    }
    let has_apt = std::path::Path::new("/usr/bin/apt-get").exists();
    let diagnosis = doctor::diagnose(&asked, &ThisHost { has_pid1: crate::pid1::is_embedded() }, has_apt);
    if args.json {
        super::print_json(&diagnosis)?;
    } else {
        super::print_out(&render(&diagnosis))?;
    }
    let broken: Vec<String> =
        diagnosis.recipes.iter().filter(|r| !r.builds).map(|r| format!("`{}`", r.recipe)).collect();
    if broken.is_empty() {
        return Ok(());
    }
    Err(Failure {
        exit: Exit::Other,
        message: format!("cannot be built here: {}", broken.join(", ")),
        help: Some(match diagnosis.working().as_slice() {
            [] => "install what is missing, as listed above".into(),
            working => {
                format!("install what is missing, as listed above; what works without it: {}", working.join(", "))
            }
        }),
    })
}

fn needs(recipe: &str, sets: &[(String, String)]) -> Result<Needs, Failure> {
    let recipe = load_recipe(recipe, sets, None)?;
    let lock = load_lock(&recipe.lock_path)?;
    Ok(doctor::needs_of(&recipe, lock.as_ref()))
}

fn render(diagnosis: &Diagnosis) -> String {
    let mut tools = Table::new();
    tools.load_style(NOTHING).set_header(["tool", "found", "for", "needed by"]);
    for row in &diagnosis.tools {
        let found = match &row.found {
            Some(found) => found.version.clone().unwrap_or_else(|| "yes".into()),
            None => "missing".into(),
        };
        tools.add_row([row.name.to_string(), found, row.purpose.into(), row.needed_by.join(", ")]);
    }
    let mut recipes = Table::new();
    recipes.load_style(NOTHING).set_header(["recipe", "build", "smoke"]);
    for row in &diagnosis.recipes {
        let missing: Vec<&str> = row.missing.iter().map(|t| t.name()).collect();
        let build = match &row.problem {
            Some(problem) => format!("cannot be read: {}", problem.lines().next().unwrap_or_default()),
            None if row.builds => "works".into(),
            None => format!("needs {}", missing.join(", ")),
        };
        recipes.add_row([row.recipe.clone(), build, if row.smokes { "works" } else { "no" }.into()]);
    }
    let mut text = format!("{tools}\n\n{recipes}\n");
    if let Some(install) = &diagnosis.install {
        text.push_str(&format!("\nto install what is missing:\n  {install}\n"));
    }
    for (tool, hint) in &diagnosis.hints {
        text.push_str(&format!("\n{tool}: {hint}\n"));
    }
    text
}
