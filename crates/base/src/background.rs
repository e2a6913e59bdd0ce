//! Starts threads that nobody joins.
//!
//! They are libc's: std's own threads and the start of its `main` cost 9 kB, most of it a map of the stacks of all threads.

use nix::errno::Errno;
use nix::libc;
use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// The body of a thread.
pub type ThreadBody = Box<dyn FnOnce() + Send>;

/// Stack of most threads. The kernel takes memory only for the pages that are touched.
const STACK: usize = 2 << 20;
/// Bytes for signal handlers, which must work when the stack has overflowed; the registers of a processor with AMX take 11 kB.
const SIGNAL_STACK: usize = 16 << 10;

/// Starts a thread with a stack of 2 MiB.
pub fn spawn(name: &str, work: ThreadBody) -> io::Result<()> {
    spawn_small(name, STACK, work)
}

/// What a thread is given.
struct Start {
    /// Ends with a zero.
    name: String,
    work: ThreadBody,
}

/// Starts a thread with a stack of `stack` bytes, and some more for signal handlers. The kernel shows the first 15 bytes of `name`.
pub fn spawn_small(name: &str, stack: usize, work: ThreadBody) -> io::Result<()> {
    let start = Box::into_raw(Box::new(Start { name: [name, "\0"].concat(), work }));
    let mut attributes = MaybeUninit::uninit();
    let mut thread = MaybeUninit::uninit();
    // SAFETY: the attributes are made by the first call and used by the others until the last; `run` takes what `start` points to.
    let outcome = unsafe {
        libc::pthread_attr_init(attributes.as_mut_ptr());
        libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack + SIGNAL_STACK);
        libc::pthread_attr_setdetachstate(attributes.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED);
        let outcome = libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), run, start.cast());
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        outcome
    };
    if outcome != 0 {
        // SAFETY: it is `start`'s box, and no thread has taken it.
        drop(unsafe { Box::from_raw(start) });
        return Err(io::Error::from_raw_os_error(outcome));
    }
    Ok(())
}

extern "C" fn run(start: *mut c_void) -> *mut c_void {
    // SAFETY: `spawn_small` gave its box to this thread alone. The name ends in NUL.
    let start = unsafe {
        let start = Box::from_raw(start.cast::<Start>());
        libc::prctl(libc::PR_SET_NAME, start.name.as_ptr());
        start
    };
    with_signal_stack(start.work);
    ptr::null_mut()
}

/// Runs `work` with a stack of its own for signal handlers (sigaltstack(2)).
pub fn with_signal_stack(work: impl FnOnce()) {
    let mut room = MaybeUninit::<[u8; SIGNAL_STACK]>::uninit();
    let mut set = |ss_flags: c_int| {
        let stack = libc::stack_t { ss_sp: room.as_mut_ptr().cast(), ss_flags, ss_size: SIGNAL_STACK };
        // SAFETY: the room lives until the kernel is told that it is no longer used.
        Errno::result(unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) })
    };
    // Without it a stack that overflows ends PID1 without a word.
    let _ = set(0);
    work();
    let _ = set(libc::SS_DISABLE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::channel;
    use std::fs;
    use std::time::Duration;

    #[test]
    fn threads_have_their_name_and_a_stack_of_their_size() {
        for (name, stack, shown) in [("t", STACK, "t"), ("a name that is too long", 64 << 10, "a name that is")] {
            let (done, wait) = channel();
            let work = move || {
                let used = std::hint::black_box([0u8; 16 << 10]);
                let comm = fs::read_to_string("/proc/thread-self/comm").expect("readable");
                done.send((comm, used.len())).expect("the test waits");
            };
            spawn_small(name, stack, Box::new(work)).expect("a thread");
            let (comm, _) = wait.recv_timeout(Duration::from_secs(10)).expect("it ran");
            assert_eq!(comm.trim_end(), shown);
        }
    }

    #[test]
    fn a_thread_that_cannot_be_made_is_an_error_and_its_work_is_dropped() {
        let (done, wait) = channel::<()>();
        let error = spawn_small("t", 1 << 46, Box::new(move || drop(done))).expect_err("no memory has that size");
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        assert!(wait.recv().is_err(), "nobody can send any more");
    }

    #[test]
    fn signal_handlers_have_a_stack_while_a_thread_runs() {
        let size = || {
            let mut now = MaybeUninit::<libc::stack_t>::uninit();
            // SAFETY: asks only, and fills what it is given.
            unsafe {
                libc::sigaltstack(ptr::null(), now.as_mut_ptr());
                let now = now.assume_init();
                (now.ss_flags & libc::SS_DISABLE == 0).then_some(now.ss_size)
            }
        };
        let (done, wait) = channel();
        let work = move || done.send(size()).expect("the test waits");
        spawn_small("t", 64 << 10, Box::new(work)).expect("a thread");
        assert_eq!(wait.recv_timeout(Duration::from_secs(10)), Ok(Some(SIGNAL_STACK)));
    }
}
