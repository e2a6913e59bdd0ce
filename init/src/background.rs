//! Threads that nobody waits for. One function for all of them: the library's own is compiled anew for each closure.

use std::io;
use std::thread;

/// What a thread does.
pub type Work = Box<dyn FnOnce() + Send>;

/// Starts a thread with the library's stack of 2 MiB, of which memory is taken as it is used.
pub fn spawn(name: &str, work: Work) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(work).map(drop)
}

/// Starts a thread with a stack of so many bytes.
pub fn spawn_small(name: &str, stack: usize, work: Work) -> io::Result<()> {
    thread::Builder::new().name(name.into()).stack_size(stack).spawn(work).map(drop)
}
