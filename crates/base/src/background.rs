//! Starts threads that nobody joins. All of them go through this one function: `std::thread::spawn` would be compiled
//! again for each closure.

#[cfg(target_env = "musl")]
use nix::libc;
use std::io;
use std::thread;

/// The body of a thread.
pub type ThreadBody = Box<dyn FnOnce() + Send>;

/// Starts a thread with std's default stack of 2 MiB. The kernel takes memory only for the pages that are touched.
pub fn spawn(name: &str, work: ThreadBody) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(work).map(drop)
}

/// Starts a thread with a stack of `stack` bytes.
pub fn spawn_small(name: &str, stack: usize, work: ThreadBody) -> io::Result<()> {
    thread::Builder::new().name(name.into()).stack_size(stack).spawn(work).map(drop)
}

/// std calls this function to name a thread. The implementation of musl formats a path with printf, which costs 10 kB
/// with its floating point code. The linker takes this one because it comes first.
// SAFETY: name and signature are libc's (pthread_setname_np(3)); std calls it for the calling thread alone.
#[cfg(target_env = "musl")]
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_setname_np(_own: libc::pthread_t, name: *const libc::c_char) -> libc::c_int {
    // SAFETY: the caller's string ends in NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, name) }
}
