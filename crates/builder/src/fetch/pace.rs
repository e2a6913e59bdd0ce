//! A least rate for bodies: a server that drips is no better than one that stalls.

use std::io::{Error, ErrorKind, Read, Result};
use std::time::{Duration, Instant};

/// A reader that fails when fewer than `least` bytes have come in a whole window.
pub struct Paced<R> {
    inner: R,
    least: u64,
    window: Duration,
    /// The window's start, and the bytes that have come in it.
    since: Instant,
    bytes: u64,
}

impl<R: Read> Paced<R> {
    /// Begins the first window now.
    pub fn new(inner: R, least: u64, window: Duration) -> Self {
        Self { inner, least, window, since: Instant::now(), bytes: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = self.inner.read(buffer)?;
        self.bytes += n as u64;
        if n == 0 || self.since.elapsed() < self.window {
            return Ok(n);
        }
        if self.bytes < self.least {
            let (bytes, window) = (self.bytes, self.window);
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
