//! The `bootwright` binary that cargo built for the running test.

use crate::folders::{profile_folder, project_root};
use assert_cmd::Command;
use std::path::PathBuf;

/// Where the binary is: cargo says so to the tests of the package that it belongs to, and it lies beside every other test.
pub fn tool_path() -> PathBuf {
    let told = std::env::var_os("CARGO_BIN_EXE_bootwright").map(PathBuf::from);
    let path = told.unwrap_or_else(|| profile_folder().join("bootwright"));
    assert!(path.is_file(), "`{}` was not built: run `cargo build` first", path.display());
    path
}

/// The tool, in the project's folder.
pub fn tool() -> Command {
    let mut command = Command::new(tool_path());
    command.current_dir(project_root());
    command
}
