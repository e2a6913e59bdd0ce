//! `bootwright inspect`

use crate::error::Failure;
use crate::inspect::{Inspected, load_report};
use crate::recipe::{RootMode, image_name};
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Folder of an image, or any initrd
    #[arg(conflicts_with = "recipe")]
    pub path: Option<PathBuf>,
    /// Recipe whose image is meant [default: worker]
    #[arg(short, long, value_name = "NAME|PATH")]
    pub recipe: Option<String>,
    /// Which image of the recipe, by where its root is [default: the one that is there, a RAM root first]
    #[arg(long, value_enum, value_name = "MODE")]
    pub root: Option<RootMode>,
    /// Folder of images
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    pub out: PathBuf,
    /// List every file
    #[arg(long)]
    pub files: bool,
    /// How many of the largest files and folders are named
    #[arg(long, value_name = "N", default_value = "15")]
    pub top: usize,
    /// Machine-readable result
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &InspectArgs) -> Result<(), Failure> {
    let recipe = args.recipe.as_deref().unwrap_or("worker");
    let path = args.path.clone().unwrap_or_else(|| image_dir(recipe, args.root, &args.out));
    let found = load_report(&path, args.top, args.files)?;
    let text = match &found {
        _ if args.json => serde_json::to_string_pretty(&found).expect("a report is plain data") + "\n",
        Inspected::Image(report) => report.to_text(),
        Inspected::Initrd(report) => report.to_text(),
    };
    super::print_out(&text)
}

/// Which image that has been built.
#[derive(Debug, Clone, Args)]
pub struct ImageArgs {
    /// Recipe whose image is meant
    #[arg(short, long, value_name = "NAME|PATH", default_value = "worker")]
    pub recipe: String,
    /// Which image of the recipe, by where its root is [default: the one that is there, a RAM root first]
    #[arg(long, value_enum, value_name = "MODE")]
    pub root: Option<RootMode>,
    /// Folder of images
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    pub out: PathBuf,
}

impl ImageArgs {
    /// The folder of the image.
    pub fn dir(&self) -> PathBuf {
        self.dir_where(|_| false)
    }

    /// The same, without a mode rather one for which `fits` holds.
    pub fn dir_where(&self, fits: impl Fn(&Path) -> bool) -> PathBuf {
        image_dir_where(&self.recipe, self.root, &self.out, fits)
    }
}

/// The folder of a recipe's image; a recipe may be named by its file. Without a mode the first that has been built.
pub(super) fn image_dir(recipe: &str, root: Option<RootMode>, out: &Path) -> PathBuf {
    image_dir_where(recipe, root, out, |_| false)
}

/// The same, without a mode rather one for which `fits` holds.
fn image_dir_where(recipe: &str, root: Option<RootMode>, out: &Path, fits: impl Fn(&Path) -> bool) -> PathBuf {
    let name = Path::new(recipe).file_name().and_then(|name| name.to_str()).unwrap_or(recipe);
    let name = name.strip_suffix(".toml").unwrap_or(name);
    let dir = |mode| out.join(image_name(name, mode));
    let first = |fits: &dyn Fn(&Path) -> bool| RootMode::all().iter().copied().find(|mode| fits(&dir(*mode)));
    dir(root.or_else(|| first(&fits)).or_else(|| first(&Path::is_dir)).unwrap_or(RootMode::Ram))
}
