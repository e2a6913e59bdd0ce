//! Network phase.

use crate::boot::Boot;
use std::sync::Arc;

/// The running network thread.
pub struct NetHandle {}

/// Starts the network phase in a thread of its own.
pub fn spawn(boot: &Arc<Boot>) -> NetHandle {
    boot.timeline.phase_start("network");
    boot.timeline.phase_end("network", Ok(()));
    boot.timeline.phase_over("network");
    NetHandle {}
}
