//! `bootwright explain`

use super::inspect::ImageArgs;
use super::print_out;
use crate::emit::ROOT_IMAGE;
use crate::error::Failure;
use crate::inspect::block::explain_block;
use crate::inspect::explain::explain;
use crate::inspect::load_image;
use clap::Args;

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Path in the image, such as /usr/lib/x86_64-linux-gnu/libc.so.6; with --block the file that the block is of [default: root.img]
    #[arg(required_unless_present = "block")]
    pub path: Option<String>,
    /// Name the files that this block of 4096 bytes is needed for: of root.img or images.img, as PID1 tells one that it refused
    #[arg(long, value_name = "N")]
    pub block: Option<u64>,
    #[command(flatten)]
    pub image: ImageArgs,
    /// Machine-readable result
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let path = args.path.as_deref().unwrap_or(ROOT_IMAGE);
    let (json, text) = match args.block {
        Some(block) => {
            let dir = args.image.dir_where(|dir| dir.join(path).is_file());
            let found = explain_block(&dir, &load_image(&dir)?, path, block)?;
            (serde_json::to_string_pretty(&found), found.to_text())
        }
        None => {
            let manifest = load_image(&args.image.dir())?;
            let found = explain(&manifest, path)?;
            (serde_json::to_string_pretty(&found), found.to_text())
        }
    };
    print_out(&if args.json { json.expect("an explanation is plain data") + "\n" } else { text })
}
