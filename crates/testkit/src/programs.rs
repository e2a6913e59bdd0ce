//! Programs for the tests, as no package has them: what scripts/setup.sh fetches, and what is built from Go modules.

use crate::folders::project_root;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where it is, if it is there.
pub fn test_program(name: &str) -> String {
    installed("test-programs", name)
}

/// A program that comes with the validators of bills of materials: where it is, if it is there.
pub fn sbom_judge(name: &str) -> String {
    installed("sbom-judges/bin", name)
}

fn installed(folder: &str, name: &str) -> String {
    let home = || Path::new(&std::env::var_os("HOME").expect("cargo has it too")).join(".local/share");
    let data = std::env::var_os("XDG_DATA_HOME").map_or_else(home, PathBuf::from);
    let path = data.join("bootwright").join(folder).join(name);
    path.into_os_string().into_string().expect("the path of a home folder is UTF-8")
}

/// Builds programs of a Kubernetes control plane, unless that was done before; the folder that they are in. A first build
/// takes minutes.
pub fn cluster_programs(names: &[&str]) -> PathBuf {
    let mut build = Command::new(project_root().join("crates/testkit/programs/build"));
    let output = build.args(names).stderr(Stdio::inherit()).output().expect("the script runs");
    assert!(output.status.success(), "the programs of the control plane cannot be built");
    String::from_utf8(output.stdout).expect("a path in UTF-8").trim_end().into()
}
