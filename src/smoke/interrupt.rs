//! Ctrl-C and the other requests to end: noted, so that the running boot is ended in order. A second one ends the process at once.

use super::SmokeError;
use crate::interrupt::Hold;
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Signal handlers that are in place until this is dropped.
#[derive(Debug)]
pub struct Interrupts {
    asked: Arc<AtomicBool>,
    handlers: Vec<SigId>,
    _hold: Hold,
}

impl Interrupts {
    pub fn watch() -> Result<Self, SmokeError> {
        let hold = Hold::take().map_err(|cause| SmokeError::Signals { cause })?;
        let mut watch = Self { asked: Arc::default(), handlers: Vec::new(), _hold: hold };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the first signal finds the flag unset and sets it, the second one finds it set and exits.
            // QEMU then dies with its parent.
            let exit = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, watch.asked.clone());
            watch.handlers.push(exit.map_err(|cause| SmokeError::Signals { cause })?);
            let note = signal_hook::flag::register(signal, watch.asked.clone());
            watch.handlers.push(note.map_err(|cause| SmokeError::Signals { cause })?);
        }
        Ok(watch)
    }

    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            signal_hook::low_level::unregister(handler);
        }
    }
}
