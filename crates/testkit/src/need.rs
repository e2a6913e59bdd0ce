//! What a test needs of the host. Where it is missing the test fails in CI; elsewhere it is passed over, and says so.

use std::io::Write;
use std::process::{Command, Stdio};

/// Whether all programs are on the path.
pub fn have(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|p| bootwright::pack::on_path(p).is_none()).collect();
    can(missing.is_empty(), &format!("`{}` on the path", missing.join("`, `")))
}

/// Gives `can` back. When it is false, says that the test is passed over for want of `what`; in CI that is a failure.
#[track_caller]
pub fn can(can: bool, what: &str) -> bool {
    if !can {
        assert!(std::env::var_os("CI").is_none(), "this test needs {what}, and in CI nothing is skipped");
        let test = std::thread::current();
        // Not by `eprintln!`: what that prints in a test which passes is never shown.
        let line = format!("skipped {}: it needs {what}\n", test.name().unwrap_or("a test"));
        std::io::stderr().write_all(line.as_bytes()).expect("the terminal takes a line");
    }
    can
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
