//! A condition that becomes true once, and that threads can wait for.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Closed at first; once opened it stays open.
#[derive(Default)]
pub struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// A gate that is open from the start.
    pub fn opened() -> Gate {
        Gate { open: Mutex::new(true), opened: Condvar::new() }
    }

    /// Opens the gate: nobody waits at it any more.
    pub fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    /// Waits until the gate is open.
    pub fn pass(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(open, |open| !*open));
    }

    /// Waits until the gate is open, at most for `limit`. Returns whether it is open.
    pub fn wait(&self, limit: Duration) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.opened.wait_timeout_while(open, limit, |open| !*open);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn who_waits_passes_when_it_opens() {
        let gate = Arc::new(Gate::default());
        assert!(!gate.wait(Duration::from_millis(10)));
        let theirs = gate.clone();
        let waits = thread::spawn(move || theirs.pass());
        gate.open();
        waits.join().expect("it passed");
        assert!(gate.wait(Duration::ZERO));
        Gate::opened().pass();
    }
}
