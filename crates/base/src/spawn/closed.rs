//! A program for tests that cannot be started for now, as one on a root whose server is away.

#![expect(clippy::expect_used, reason = "only tests use it")]

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// A program that no process can open, and thereby none can start, until it is opened up: it has a lease (fcntl(2),
/// F_SETLEASE), which the kernel waits for, as it waits for a server that is away. It breaks a lease after 45 s.
pub struct Closed {
    file: File,
    pub path: String,
}

impl Closed {
    pub fn new(name: &str) -> Closed {
        let path = std::env::temp_dir().join(format!("bootwright-closed-{name}-{}", std::process::id()));
        std::fs::copy("/bin/sleep", &path).expect("a program");
        let file = File::open(&path).expect("it was made");
        // SAFETY: nothing is called. The holder of a lease is sent SIGIO when somebody waits for it.
        unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) }.expect("a signal that can be ignored");
        let closed = Closed { file, path: path.display().to_string() };
        // Another test may fork while the copy is open for writing, and hold it so until its exec.
        while closed.set_lease(libc::F_WRLCK).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        closed
    }

    pub fn open_up(&self) {
        self.set_lease(libc::F_UNLCK).expect("the lease is ours");
    }

    fn set_lease(&self, how: libc::c_int) -> Result<(), Errno> {
        // SAFETY: an open descriptor and a number.
        Errno::result(unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETLEASE, how) }).map(drop)
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
