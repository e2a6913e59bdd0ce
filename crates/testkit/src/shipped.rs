//! A copy of the recipes that ship, and of what they name, in a folder of its own: a build may renew a lock, and no test
//! touches the checkout. The cache is the user's.

use crate::folders::project_root;
use crate::tool::tool_path;
use assert_cmd::Command;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A cold build of the worker compiles kubelet.
const BUILD_DEADLINE: Duration = Duration::from_secs(45 * 60);
/// What a recipe and its components refer to.
const FOLDERS: [&str; 4] = ["recipes", "overlays", "patches", "programs"];

pub struct Shipped {
    dir: TempDir,
}

impl Shipped {
    /// Copies into a new folder below `parent`.
    pub fn copy_below(parent: &Path) -> Self {
        let dir = tempfile::tempdir_in(parent).expect("the folder for tests is writable");
        for folder in FOLDERS {
            copy_tree(&project_root().join(folder), &dir.path().join(folder));
        }
        Self { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file of the project, and makes its folder.
    pub fn write(&self, below: &str, text: &str) {
        let path = self.path().join(below);
        std::fs::create_dir_all(path.parent().expect("it lies in the project")).expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    }

    /// The tool in the project's folder, with a deadline that fits a build.
    pub fn tool(&self) -> Command {
        let mut command = Command::new(tool_path());
        command.current_dir(self.path()).env_remove("BOOTWRIGHT_RECIPES").timeout(BUILD_DEADLINE);
        command
    }

    /// Builds a recipe into `out/`, with its root over the network where that is asked for; its folder there.
    pub fn build(&self, recipe: &str, root: Option<&str>, args: &[&str]) -> PathBuf {
        let root_args = root.iter().flat_map(|root| ["--root", root]);
        self.tool().args(["build", "--recipe", recipe]).args(root_args).args(args).assert().success();
        self.path().join("out").join(root.map_or(recipe.to_string(), |root| format!("{recipe}-{root}")))
    }
}

/// Copies folders and files; new ones, so that modes follow the umask and times are now.
fn copy_tree(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.expect("the checkout can be read");
        let target = to.join(entry.path().strip_prefix(from).expect("it was walked"));
        match entry.file_type().is_dir() {
            true => std::fs::create_dir(&target).expect("a new folder"),
            false => drop(std::fs::copy(entry.path(), &target).expect("the file is copied")),
        }
    }
}
