//! A least rate for bodies: a server that drips is no better than one that stalls, as long as there is another place.

use super::Patience;
use std::io::{Error, ErrorKind, Read, Result};
use std::time::Instant;

/// A reader that fails when a whole window brought less than it should.
pub struct Paced<R> {
    inner: R,
    patience: Option<Patience>,
    since: Instant,
    /// Since then.
    bytes: u64,
}

impl<R: Read> Paced<R> {
    /// `patience`: `None` waits for ever.
    pub fn new(inner: R, patience: Option<Patience>) -> Self {
        Self { inner, patience, since: Instant::now(), bytes: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = self.inner.read(buffer)?;
        self.bytes += n as u64;
        let Some(patience) = self.patience.filter(|patience| n > 0 && self.since.elapsed() >= patience.window) else {
            return Ok(n);
        };
        if self.bytes < patience.least {
            let (bytes, window) = (self.bytes, patience.window);
            return Err(Error::new(ErrorKind::TimedOut, format!("too slow: {bytes} bytes in {window:?}")));
        }
        (self.since, self.bytes) = (Instant::now(), 0);
        Ok(n)
    }
}

/// Whether a body ended because it was too slow.
pub fn is_too_slow(e: &Error) -> bool {
    e.kind() == ErrorKind::TimedOut && e.to_string().starts_with("too slow")
}
