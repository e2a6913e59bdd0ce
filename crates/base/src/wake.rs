//! Wakes a thread that sleeps in poll(2), through a socket pair.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// The end that wakes. Clones wake the same sleeper.
#[derive(Clone)]
pub struct Waker(Arc<UnixStream>);

/// The end that is polled. It holds a waker itself: when the last waker is gone, the socket is at its end and stays
/// readable, and poll(2) would never sleep again.
pub struct Sleeper {
    socket: UnixStream,
    _waker: Waker,
}

/// Makes a connected pair.
pub fn pair() -> std::io::Result<(Waker, Sleeper)> {
    let (waker, sleeper) = UnixStream::pair()?;
    waker.set_nonblocking(true)?;
    sleeper.set_nonblocking(true)?;
    let waker = Waker(Arc::new(waker));
    Ok((waker.clone(), Sleeper { socket: sleeper, _waker: waker }))
}

impl Waker {
    /// Makes the sleeper readable. A full buffer means that it is readable already, so errors are ignored.
    pub fn wake(&self) {
        let _ = (&*self.0).write(&[1]);
    }
}

impl Sleeper {
    /// Reads all wake-ups, so that the sleeper is no longer readable.
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
