//! `bootwright diff`

use super::inspect::image_dir;
use crate::diff::{compare, load_side};
use crate::emit::manifest::MANIFEST;
use crate::error::{Exit, Failure};
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 compared, whether they differ or not; 1 something cannot be read, or with --exit-code: they differ."
)]
pub struct DiffArgs {
    /// Folder of an image, any initrd, or the recipe of an image in --out
    pub before: String,
    /// The same for what is compared with it
    pub after: String,
    /// Folder of images, for those that are named by their recipe
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    pub out: PathBuf,
    /// How many packages, modules and files are shown of each, the largest changes first
    #[arg(long, value_name = "N", default_value = "20")]
    pub top: usize,
    /// End with 1 when they differ
    #[arg(long)]
    pub exit_code: bool,
    /// Machine-readable result, with all changes
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &DiffArgs) -> Result<(), Failure> {
    let load = |name: &str| load_side(&place_of(name, &args.out));
    let diff = compare(&load(&args.before)?, &load(&args.after)?);
    match args.json {
        true => super::print_json(&diff)?,
        false => super::print_out(&diff.to_text(args.top))?,
    }
    if args.exit_code && !diff.identical {
        let help = "without --exit-code this is no failure";
        return Err(Failure { exit: Exit::Other, message: "they differ".into(), help: Some(help.into()) });
    }
    Ok(())
}

/// A path that is there comes before a recipe of that name.
fn place_of(name: &str, out: &Path) -> PathBuf {
    let path = PathBuf::from(name);
    let is_recipe = name.ends_with(".toml") || !path.is_file() && !path.join(MANIFEST).is_file();
    let image = image_dir(name, None, out);
    if is_recipe && image.is_dir() { image } else { path }
}
