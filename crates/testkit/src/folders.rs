//! Where the project lies, and where its tests may write.

use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The project's root folder: recipes, overlays, scripts and the rest of the checkout.
pub fn project_root() -> &'static Path {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("this package lies two folders below the root")
}

/// A folder for tests in cargo's target folder, on a real disk; what lies in it stays for the next run.
pub fn work_folder() -> PathBuf {
    let folder = profile_folder().with_file_name("tmp");
    std::fs::create_dir_all(&folder).expect("cargo's target folder is writable");
    folder
}

/// A new folder in [`work_folder`], which goes with its owner.
pub fn new_folder() -> TempDir {
    tempfile::tempdir_in(work_folder()).expect("cargo's target folder is writable")
}

/// `debug/` or `release/` of the target folder that the running test was built in. Cargo puts test programs into `deps/` of it.
pub(crate) fn profile_folder() -> PathBuf {
    let program = std::env::current_exe().expect("/proc is mounted");
    let folder = program.parent().expect("a program lies in a folder");
    let profile = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    profile.expect("cargo's folder for programs is not the root folder").to_path_buf()
}
