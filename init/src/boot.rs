//! What every part of PID1 is given once the boot config is read.

use crate::cmdline::Cmdline;
use crate::phases;
use crate::sys::Sys;
use crate::timeline::Timeline;
use bootwright_contract::{BootConfig, Policy};
use std::sync::Arc;

/// The state of this boot; shared by all threads, never changed.
pub struct Boot {
    pub config: BootConfig,
    pub cmdline: Cmdline,
    pub timeline: Arc<Timeline>,
    pub sys: &'static dyn Sys,
}

impl Boot {
    /// What to do when the phase fails: command line, then boot config, then PID1's table.
    pub fn policy(&self, phase: &str) -> Policy {
        phases::policy_for(phase, Some(&self.config), &self.cmdline)
    }
}
