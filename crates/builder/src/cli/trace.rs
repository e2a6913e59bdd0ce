//! `bootwright trace`

use super::smoke::MachineArgs;
use super::{OutArgs, RecipeArgs};
use crate::error::Failure;
use crate::recipe::load_recipe;
use crate::trace::trace;
use crate::ui::Ui;
use clap::Args;
use std::path::Path;

#[derive(Debug, Args)]
pub struct TraceArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub out: OutArgs,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// How many of the largest files are named
    #[arg(long, value_name = "N", default_value = "20")]
    pub top: usize,
    /// Machine-readable result, with all files that were never opened
    #[arg(long)]
    pub json: bool,
}

/// Boots the recipe's image; `cache_dir` remembers that KVM does not work here.
pub fn run(args: &TraceArgs, cache_dir: &Path, ui: &Ui) -> Result<(), Failure> {
    let recipe = load_recipe(&args.recipe.recipe, &args.recipe.sets, args.recipe.root)?;
    let image_dir = args.out.out.join(recipe.image_name());
    let report = trace(&image_dir, &args.machine.options(&recipe, cache_dir)?, ui)?;
    match args.json {
        true => super::print_json(&report),
        false => super::print_out(&report.to_text(args.top)),
    }
}
