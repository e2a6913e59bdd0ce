//! Ctrl-C and the other requests to end: noted, so that what runs is ended in order. A second one ends the process at once.

use super::Hold;
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
    /// # Errors
    /// Those of installing signal handlers.
    pub fn watch() -> std::io::Result<Self> {
        let mut watch = Self { asked: Arc::default(), handlers: Vec::new(), _hold: Hold::take()? };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the first signal finds the flag unset and sets it, the second one finds it set and exits.
            // Children then die with their parent.
            let exit = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, watch.asked.clone());
            watch.handlers.push(exit?);
            let note = signal_hook::flag::register(signal, watch.asked.clone());
            watch.handlers.push(note?);
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
