//! `bootwright addons`

use super::{RecipeArgs, print_json, print_out};
use crate::addons::remedy::find_remedies;
use crate::addons::{AddonAnswer, AddonReport, contents_of, load_addon};
use crate::error::Failure;
use crate::pipeline::{self, Options};
use crate::profiles::PROFILES;
use clap::Args;
use serde::Serialize;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 every add-on fits, 1 one lacks something, or only the running node tells; 2 usage, recipe or manifest.\n\
The image is the one that the lock pins; what is not in the cache is fetched and built as `build` does."
)]
pub struct AddonsArgs {
    /// Profiles, files of rendered Kubernetes manifests, or `-` for standard input; without any: list the profiles
    #[arg(value_name = "NAME|FILE")]
    pub names: Vec<String>,
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Machine-readable result
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct ProfileDocument<'p> {
    name: &'p str,
    version: &'p str,
    summary: &'p str,
    source: &'p str,
    needs: usize,
}

pub fn run(args: &AddonsArgs, options: impl FnOnce() -> Result<Options, Failure>) -> Result<(), Failure> {
    if args.names.is_empty() {
        return list(args.json);
    }
    let asked = args.names.iter().map(|name| load_addon(name)).collect::<Result<Vec<_>, _>>()?;
    let options = options()?;
    let planned = pipeline::plan(&options)?;
    let contents = contents_of(&planned)?;
    let answers: Vec<AddonAnswer> = asked.iter().map(|addon| AddonAnswer::to(addon, &contents)).collect();
    let lacking: Vec<_> = answers.iter().flat_map(AddonAnswer::lacking).collect();
    let remedies = find_remedies(&planned, &contents, &lacking, &options.cache, options.settings.jobs)?;
    let report = AddonReport::new(&planned.recipe.name, &contents, answers, remedies);
    match args.json {
        true => print_json(&report)?,
        false => print_out(&report.to_text())?,
    }
    report.check()
}

fn list(json: bool) -> Result<(), Failure> {
    if json {
        let documents = PROFILES.iter().map(|profile| ProfileDocument {
            name: profile.name,
            version: &profile.version,
            summary: &profile.summary,
            source: &profile.source,
            needs: profile.needs.len(),
        });
        let profiles: Vec<_> = documents.collect();
        return print_json(&serde_json::json!({ "version": 1, "profiles": profiles }));
    }
    let wide = PROFILES.iter().map(|profile| profile.name.len()).max().unwrap_or(0);
    let line = |profile: &crate::profiles::Profile| {
        format!("{:<wide$}  {} ({})\n", profile.name, profile.summary, profile.version)
    };
    print_out(&PROFILES.iter().map(line).collect::<String>())
}
