//! Standard output and standard error without a buffer: each write is one system call. std's own have buffers and locks, 3 kB.

use nix::unistd::write;
use std::io::{self, IsTerminal, Write};
use std::os::fd::BorrowedFd;

/// One of the two streams.
pub struct Output(BorrowedFd<'static>);

/// Standard output.
pub fn stdout() -> Output {
    // SAFETY: nobody closes it. A program whose caller has closed it writes nowhere, which is an error of the write.
    Output(unsafe { BorrowedFd::borrow_raw(1) })
}

/// Standard error.
pub fn stderr() -> Output {
    // SAFETY: as for standard output.
    Output(unsafe { BorrowedFd::borrow_raw(2) })
}

/// Writes a line to standard error. Nobody can be told when that fails.
pub fn complain(parts: &[&str]) {
    let _ = stderr().write_all([&parts.concat(), "\n"].concat().as_bytes());
}

impl Output {
    pub fn is_terminal(&self) -> bool {
        self.0.is_terminal()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(write(self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
