//! Threads that nobody waits for. One function for all of them: the library's own is compiled anew for each closure.

#[cfg(target_env = "musl")]
use nix::libc;
use std::io;
use std::thread;

/// What a thread does.
pub type ThreadBody = Box<dyn FnOnce() + Send>;

/// Starts a thread with the library's stack of 2 MiB, of which memory is taken as it is used.
pub fn spawn(name: &str, work: ThreadBody) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(work).map(drop)
}

/// Starts a thread with a stack of so many bytes.
pub fn spawn_small(name: &str, stack: usize, work: ThreadBody) -> io::Result<()> {
    thread::Builder::new().name(name.into()).stack_size(stack).spawn(work).map(drop)
}

/// What std names a thread with. libc's own would bring its printf along, floating point and all: 10 kB. Linked first,
/// this one keeps it out.
// SAFETY: name and signature are libc's (pthread_setname_np(3)); std calls it for the calling thread alone.
#[cfg(target_env = "musl")]
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_setname_np(_own: libc::pthread_t, name: *const libc::c_char) -> libc::c_int {
    // SAFETY: the caller's string ends in NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, name) }
}
