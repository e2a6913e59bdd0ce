//! Host programs that a test needs: missing ones fail in CI and skip elsewhere.

/// Whether all programs are there; if not, says so.
pub fn have(programs: &[&str]) -> bool {
    let missing: Vec<&&str> = programs.iter().filter(|p| bootwright::pack::on_path(p).is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{missing:?} missing, and in CI nothing is skipped");
    eprintln!("skipped: {missing:?} missing");
    false
}
