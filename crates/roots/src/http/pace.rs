//! Measures the rate of a download, so that a server that only drips is given up for another place.

use super::HttpError;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Least number of bytes in a [`WINDOW`] while there is another place: 4 KiB a second, at which an image of 60 MB takes
/// four hours.
const LEAST: u64 = 60 * (4 << 10);
const WINDOW: Duration = Duration::from_secs(60);

/// The least number of bytes in a window.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    pub least: u64,
    pub window: Duration,
}

impl Default for Rate {
    fn default() -> Self {
        Rate { least: LEAST, window: WINDOW }
    }
}

/// Counts the bytes of one download over all its connections.
pub struct Pace {
    /// `None`: there is no other place, so any rate will do.
    rate: Option<Rate>,
    since: Cell<Instant>,
    bytes: Cell<u64>,
}

impl Pace {
    /// Starts to count.
    pub fn new(rate: Option<Rate>) -> Pace {
        Pace { rate, since: Cell::new(Instant::now()), bytes: Cell::new(0) }
    }

    /// Counts bytes that have come.
    ///
    /// # Errors
    /// At the end of a window in which too few have come.
    pub fn count(&self, bytes: usize) -> Result<(), HttpError> {
        self.bytes.set(self.bytes.get() + bytes as u64);
        let Some(Rate { least, window }) = self.rate.filter(|rate| self.since.get().elapsed() >= rate.window) else {
            return Ok(());
        };
        let bytes = self.bytes.replace(0);
        let taken = self.since.replace(Instant::now()).elapsed();
        // While a connection is made nothing is counted, so more time than the window may have passed.
        let due = least * taken.as_secs().max(1) / window.as_secs().max(1);
        if bytes < due { Err(HttpError::Slow { bytes, seconds: taken.as_secs() }) } else { Ok(()) }
    }
}
