//! For tests: a program that cannot be started for now, like one on a root whose server is away.

#![expect(clippy::expect_used, reason = "only tests use it")]

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// A program that no process can open, and so none can start, until [`Closed::open`]. It has a lease (fcntl(2),
/// F_SETLEASE), for which the kernel lets open(2) wait as it waits for a server. The kernel breaks the lease after 45
/// s.
pub struct Closed {
    file: File,
    pub path: String,
}

impl Closed {
    pub fn new(name: &str) -> Closed {
        let path = std::env::temp_dir().join(format!("bootwright-closed-{name}-{}", std::process::id()));
        std::fs::copy("/bin/sleep", &path).expect("a program");
        let file = File::open(&path).expect("it was made");
        // SAFETY: no handler is called. The kernel sends SIGIO to the holder of the lease when a process waits for it.
        unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) }.expect("a signal that can be ignored");
        let closed = Closed { file, path: path.display().to_string() };
        // Fails while the copy is open for writing in a child that another test has just forked and that has not
        // reached its exec.
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
