//! `bootwright explain`

use super::inspect::image_dir;
use super::print_out;
use crate::error::Failure;
use crate::inspect::explain::explain;
use crate::inspect::load_image;
use crate::recipe::RootMode;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Path in the image, such as /usr/lib/x86_64-linux-gnu/libc.so.6
    pub path: String,
    /// Recipe whose image is meant
    #[arg(short, long, value_name = "NAME|PATH", default_value = "worker")]
    pub recipe: String,
    /// Which image of the recipe, by where its root is [default: the one that is there, a RAM root first]
    #[arg(long, value_enum, value_name = "MODE")]
    pub root: Option<RootMode>,
    /// Folder of images
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    pub out: PathBuf,
    /// Machine-readable result
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let manifest = load_image(&image_dir(&args.recipe, args.root, &args.out))?;
    let found = explain(&manifest, &args.path)?;
    let json = || serde_json::to_string_pretty(&found).expect("an explanation is plain data");
    print_out(&if args.json { json() + "\n" } else { found.to_text() })
}
