//! What lets PID1 repair a root while everything else waits for it: its memory stays where it is, and making room for
//! it never waits for the root.

use super::statuses::{Journal, StatusHandle};
use bootwright_base::background;
use bootwright_base::spawn::PR_SET_IO_FLUSHER;
use bootwright_base::sys::Sys;
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// One attempt to connect. A server that is back must be found soon, so none may take long.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// For an answer of a server that has just come back: it, or the connection, may not be ready yet. Doubles with each
/// handshake that fails.
pub const FIRST_PATIENCE: Duration = Duration::from_millis(700);
/// A reason why attempts fail is told again after so long.
const REMIND: Duration = Duration::from_secs(60);
/// Pauses between two attempts grow once.
const LONG_AWAY: Duration = Duration::from_secs(30);
/// Stack of a recovery thread; all of it is touched at the start.
const STACK: usize = 128 << 10;
/// Leaves room for what has been used before and for the guard page.
const TOUCHED: usize = STACK - (32 << 10);
const PAGE: usize = 4096;

/// `MCL_ONFAULT` of asm-generic/mman.h (since Linux 4.4): what is locked is what is used, not all that could be.
const ON_FAULT: MlockAllFlags = MlockAllFlags::from_bits_retain(4);

/// Between two attempts to reach a server that has been away for so long. Never long: I/O goes on at most 2 s after the
/// server is back.
pub fn pause(away: Duration) -> Duration {
    Duration::from_millis(if away < LONG_AWAY { 250 } else { 500 })
}

/// Says why attempts fail: a new reason at once, the last one again after a minute.
#[derive(Default)]
pub struct FailureReasons(Option<(String, Instant)>);

impl FailureReasons {
    pub fn tell(&mut self, status: &StatusHandle, text: String) {
        if self.0.as_ref().is_none_or(|(last, when)| *last != text || when.elapsed() >= REMIND) {
            status.note(&text);
            self.0 = Some((text, Instant::now()));
        }
    }
}

/// Called by PID1's first thread once the root is known to be on the network: what it starts from then on inherits the
/// flag that keeps the kernel from waiting for I/O to find memory for it. Programs that are started drop it.
pub fn prepare(sys: &dyn Sys, journal: &dyn Journal) {
    let note = |what: &str, errno: Errno| journal.note(&[what, ": ", errno.desc()].concat());
    let locked = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | ON_FAULT);
    if let Err(errno) = locked {
        note("PID1 cannot lock its memory", errno);
    }
    if let Err(errno) = set_io_flusher(true) {
        note("PID1 cannot become an I/O flusher", errno);
    }
    if let Err(errno) = sys.write(Path::new("/proc/self/oom_score_adj"), "-1000") {
        note("PID1 cannot leave the OOM killer's list", errno);
    }
}

/// prctl(2): `PR_SET_IO_FLUSHER`, for the calling thread.
pub fn set_io_flusher(on: bool) -> Result<(), Errno> {
    let zero: libc::c_ulong = 0;
    // SAFETY: takes integers only.
    let done = unsafe { libc::prctl(PR_SET_IO_FLUSHER, libc::c_ulong::from(on), zero, zero, zero) };
    Errno::result(done).map(drop)
}

/// A thread for recovery: an I/O flusher whose stack is in memory before it is needed.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let work = move || {
        // A kernel before 5.6 does not know it; the rest is worth it all the same.
        let _ = set_io_flusher(true);
        touch_stack();
        work();
    };
    background::spawn_small(name, STACK, Box::new(work))
}

#[inline(never)]
fn touch_stack() {
    let mut room = [0u8; TOUCHED];
    for page in room.iter_mut().step_by(PAGE) {
        *page = 1;
    }
    std::hint::black_box(&mut room);
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::channel::channel;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn recovery_threads_run_on_their_small_stack() {
        let (done, wait) = channel();
        spawn("t", move || done.send(thread::current().name().map(String::from)).expect("the test waits"))
            .expect("a thread");
        assert_eq!(wait.recv_timeout(Duration::from_secs(10)).expect("it ran").as_deref(), Some("t"));
    }
}
