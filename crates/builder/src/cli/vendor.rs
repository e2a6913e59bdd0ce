//! `bootwright vendor`

use super::RecipeArgs;
use crate::error::Failure;
use crate::pipeline::{self, Options};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct VendorArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Folder to fill; what it holds already is compared and kept
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

pub fn run(args: &VendorArgs, options: &Options) -> Result<(), Failure> {
    let done = pipeline::vendor(options, &args.dir)?;
    let dir = args.dir.display();
    super::print_out(&format!(
        "{dir}: {} added, {} were there; build with --locked --vendor {dir}\n",
        done.added, done.held
    ))
}
