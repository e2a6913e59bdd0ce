//! Keeps PID1 able to repair its root while everything else waits for the root: its memory is locked, and allocations
//! do not wait for I/O.

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

/// Limit for one attempt to connect. Short, so that a server that is back is found soon.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Limit for the first answer of a server that has just come back. It doubles with each handshake that fails, because
/// server or connection may not be ready yet.
pub const FIRST_PATIENCE: Duration = Duration::from_millis(700);
/// The same reason for a failure is repeated after so long.
const REMIND: Duration = Duration::from_secs(60);
/// After so long the pauses between two attempts get longer.
const LONG_AWAY: Duration = Duration::from_secs(30);
/// Stack of a recovery thread in bytes. All of it is touched when the thread starts.
const STACK: usize = 128 << 10;
/// Bytes to touch: less than the stack, because a part is in use and the last page guards it.
const TOUCHED: usize = STACK - (32 << 10);
const PAGE: usize = 4096;

/// `MCL_ONFAULT` of asm-generic/mman.h (since Linux 4.4): locks pages when they are used, and not all that are mapped.
const ON_FAULT: MlockAllFlags = MlockAllFlags::from_bits_retain(4);

/// The pause between two attempts to reach a server that has been away for so long. Short, so that I/O goes on at most
/// 2 s after the server is back.
pub fn pause(away: Duration) -> Duration {
    Duration::from_millis(if away < LONG_AWAY { 250 } else { 500 })
}

/// Reports why attempts fail: a new reason at once, the same reason once a minute.
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

/// Prepares PID1 for a root on the network. Called by the first thread, so that threads started later inherit the flag
/// with which allocations do not wait for I/O. Programs lose the flag when they start.
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

/// Sets `PR_SET_IO_FLUSHER` (prctl(2)) for the calling thread.
pub fn set_io_flusher(on: bool) -> Result<(), Errno> {
    let zero: libc::c_ulong = 0;
    // SAFETY: takes integers only.
    let done = unsafe { libc::prctl(PR_SET_IO_FLUSHER, libc::c_ulong::from(on), zero, zero, zero) };
    Errno::result(done).map(drop)
}

/// Starts a recovery thread: with the I/O flusher flag, and with its whole stack in memory.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let work = move || {
        // Kernels before 5.6 do not have the flag. The rest helps without it too.
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
    use std::time::Duration;

    #[test]
    fn recovery_threads_run_on_their_small_stack() {
        let (done, wait) = channel();
        let name = || std::fs::read_to_string("/proc/thread-self/comm").expect("readable");
        spawn("t", move || done.send(name()).expect("the test waits")).expect("a thread");
        assert_eq!(wait.recv_timeout(Duration::from_secs(10)).as_deref(), Ok("t\n"));
    }
}
