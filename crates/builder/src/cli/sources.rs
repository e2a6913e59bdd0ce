//! `bootwright sources`

use super::RecipeArgs;
use crate::error::Failure;
use crate::pipeline::{self, Collected, Options};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct SourcesArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Folder for them: a new one, or one that this command made
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
}

pub fn run(args: &SourcesArgs, options: &Options) -> Result<(), Failure> {
    let Collected { recipe, parts, elsewhere } = pipeline::sources(options, &args.out)?;
    let mut text = format!("{}: sources of {parts} parts of {recipe}\n", args.out.display());
    elsewhere.iter().for_each(|what| text += &format!("not there: {what}\n"));
    super::print_out(&text)
}
