//! Supervision.

use crate::boot::Boot;
use crate::net::NetHandle;
use crate::power::How;
use std::sync::Arc;

/// Supervises until the machine is told to go down. Ends the phase `services` once supervision is up.
pub fn run(boot: Arc<Boot>, _net: NetHandle) -> How {
    boot.timeline.phase_end("services", Ok(()));
    boot.timeline.phase_over("services");
    How::PowerOff
}
