//! Control commands on the node.

use std::process::ExitCode;

/// Names under which the binary is a control command.
pub const NAMES: &[&str] = &["bootwright-ctl"];

/// Runs a control command; `args` are without the name.
pub fn run(_name: &str, _args: &[String]) -> ExitCode {
    ExitCode::FAILURE
}
