//! What a test needs of the host. Where it is missing the test fails in CI; elsewhere it is passed over, and says so.

pub use bootwright_base::testing::can;

use std::process::{Command, Stdio};

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

/// Whether the Go that the project pins is installed, which builds programs for tests.
#[track_caller]
pub fn pinned_go() -> bool {
    let found = Command::new(crate::folders::project_root().join("scripts/go.sh")).stdout(Stdio::null()).status();
    can(found.is_ok_and(|status| status.success()), "the Go that programs/node/go.mod pins")
}
