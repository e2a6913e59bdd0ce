//! What a test needs of the host. Where it is missing the test fails in CI; elsewhere it is passed over, and says so.

pub use bootwright_base::testing::can;

use std::path::PathBuf;
use std::process::Command;

/// Whether all programs are on the path.
pub fn have(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|p| bootwright::pack::on_path(p).is_none()).collect();
    can(missing.is_empty(), &format!("`{}` on the path", missing.join("`, `")))
}

/// Whether this user may make namespaces in which it is root and mounts what it likes (user_namespaces(7)).
#[track_caller]
pub fn user_namespaces() -> bool {
    let made = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).status();
    can(made.is_ok_and(|status| status.success()), "user namespaces")
}

/// The Go that the project pins, which builds programs for tests, where it is installed.
#[track_caller]
pub fn pinned_go() -> Option<PathBuf> {
    let found = Command::new(crate::folders::project_root().join("scripts/go.sh")).output().ok();
    let found = found.filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    let go = found.map(|path| PathBuf::from(path.trim()));
    can(go.is_some(), "the Go that programs/pod/go.mod pins");
    go
}
