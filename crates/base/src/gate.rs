//! Something that others wait for, once.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Closed until it is opened, then open for good.
#[derive(Default)]
pub struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// One that nobody has to wait at.
    pub fn opened() -> Gate {
        Gate { open: Mutex::new(true), opened: Condvar::new() }
    }

    /// Lets everybody pass, now and later.
    pub fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    /// Waits until it is open.
    pub fn pass(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(open, |open| !*open));
    }

    /// Waits at most `limit`; true if it is open.
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
