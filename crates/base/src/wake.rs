//! Wakes a thread that sleeps in `poll(2)`: one end for each side of a socket pair.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// The side that wakes; clones wake the same sleeper.
#[derive(Clone)]
pub struct Waker(Arc<UnixStream>);

/// The side that is polled. It keeps a waker of its own: once the last one is gone the socket would be at its end, which
/// counts as readable, and who polls it would never sleep again.
pub struct Sleeper {
    socket: UnixStream,
    _waker: Waker,
}

/// A connected pair.
pub fn pair() -> std::io::Result<(Waker, Sleeper)> {
    let (waker, sleeper) = UnixStream::pair()?;
    waker.set_nonblocking(true)?;
    sleeper.set_nonblocking(true)?;
    let waker = Waker(Arc::new(waker));
    Ok((waker.clone(), Sleeper { socket: sleeper, _waker: waker }))
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
        while self.socket.read(&mut buffer).is_ok_and(|length| length == buffer.len()) {}
    }
}

impl AsFd for Sleeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn is_readable(sleeper: &Sleeper) -> bool {
        let mut fds = [PollFd::new(sleeper.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).expect("a socket can be polled") > 0
    }

    #[test]
    fn the_sleeper_sleeps_on_when_the_last_waker_is_gone() {
        let (waker, mut sleeper) = pair().expect("a socket pair");
        let other = waker.clone();
        assert!(!is_readable(&sleeper));
        waker.wake();
        assert!(is_readable(&sleeper));
        sleeper.clear();
        drop((waker, other));
        assert!(!is_readable(&sleeper), "nobody can wake it, and it spins");
    }
}
