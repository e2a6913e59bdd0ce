//! Wakes a thread that sleeps in `poll(2)`: one end for each side of a socket pair.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// The side that wakes; clones wake the same sleeper.
#[derive(Clone)]
pub struct Waker(Arc<UnixStream>);

/// The side that is polled.
pub struct Sleeper(UnixStream);

/// A connected pair.
pub fn pair() -> std::io::Result<(Waker, Sleeper)> {
    let (waker, sleeper) = UnixStream::pair()?;
    waker.set_nonblocking(true)?;
    sleeper.set_nonblocking(true)?;
    Ok((Waker(Arc::new(waker)), Sleeper(sleeper)))
}

impl Waker {
    /// Makes the sleeper readable. A full buffer means that it is readable already.
    pub fn wake(&self) {
        let _ = (&*self.0).write(&[1]);
    }
}

impl Sleeper {
    /// Takes in all that woke it.
    pub fn clear(&mut self) {
        let mut buffer = [0; 64];
        while self.0.read(&mut buffer).is_ok_and(|length| length == buffer.len()) {}
    }
}

impl AsFd for Sleeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
