//! The rescue shell.

use crate::base::console::CONSOLE;
use crate::base::watchdog::WATCHDOG;
use bootwright_base::spawn::{Program, spawn};
use std::path::Path;
use std::time::Duration;

/// Shells, in the order in which they are tried.
const SHELLS: &[&[&str]] = &[&["/bin/sh"], &["/bin/busybox", "sh"], &["/usr/bin/busybox", "sh"]];
/// Pause between two looks whether the shell has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Runs a shell on the console until it ends. Returns false when the image has none.
pub fn run_shell() -> bool {
    let Some(shell) = SHELLS.iter().find(|s| Path::new(s[0]).exists()) else { return false };
    let env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=linux"].map(String::from).into();
    let argv: Vec<String> = shell.iter().map(|word| word.to_string()).collect();
    let program = Program { argv: &argv, env, terminal: Some(Path::new(CONSOLE)), ..Program::default() };
    let Ok(shell) = spawn(&program) else { return false };
    while shell.end().is_none() {
        WATCHDOG.sleep(LOOK);
    }
    true
}
