//! Children of PID1. One thread reaps all of them from the first second on, adopted orphans included. For children that
//! were started here, it keeps how they ended until their owner asks.

use crate::background;
use crate::wake::Waker;
use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Stack of the thread, in bytes.
const STACK: usize = 32 << 10;
/// Pause between two looks in [`Child::wait`].
const LOOK: Duration = Duration::from_millis(20);

/// Global, because the kernel keeps one list of children for the whole process.
static TABLE: Mutex<ChildTable> = Mutex::new(ChildTable { started: Vec::new(), waker: None, is_reaped: false });

struct ChildTable {
    /// Children with an owner, and how each ended if it has.
    started: Vec<(Pid, Option<End>)>,
    /// Wakes the main loop when a child with an owner has ended.
    waker: Option<Waker>,
    /// Whether the thread runs. In tests it does not, because the test process has other children too: there each
    /// [`Child`] reaps itself.
    is_reaped: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Exited(c_int),
    /// Number of the signal. Real-time signals have numbers without a name (signal(7)).
    Killed(c_int),
}

/// A child that was started here. When this is dropped, the child goes on, and its end is reaped without being told to
/// anybody.
#[derive(Debug)]
pub struct Child(Pid);

/// Starts the thread that reaps. The caller has blocked SIGCHLD in every thread, so that this one can wait for it with
/// sigwait(3).
pub fn reap_from_now_on() -> io::Result<()> {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGCHLD);
    let work = move || {
        loop {
            reap();
            // Fails only when the set of signals is invalid, which it is not.
            let _ = ends.wait();
        }
    };
    lock().is_reaped = true;
    background::spawn_small("children", STACK, Box::new(work)).inspect_err(|_| lock().is_reaped = false)
}

/// Has the main loop woken whenever a child with an owner ends.
pub fn wake(waker: Waker) {
    lock().waker = Some(waker);
}

/// Whether PID1 has no children left, adopted ones included.
pub fn none_left() -> bool {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, look) == Err(Errno::ECHILD)
}

/// Runs `fork`, which returns the pid of a new child, while nothing is reaped: so the end of a child that ends at once
/// is kept too.
pub fn adopt(fork: impl FnOnce() -> Result<Pid, Errno>) -> Result<Child, Errno> {
    let mut table = lock();
    let pid = fork()?;
    table.started.push((pid, None));
    Ok(Child(pid))
}

fn reap() {
    while lock().reap(-1) {}
}

impl ChildTable {
    /// Reaps the child `pid`, or any child if `pid` is -1 (waitpid(2)). Returns false when none has ended.
    fn reap(&mut self, pid: libc::pid_t) -> bool {
        let mut status = 0;
        // SAFETY: the kernel writes one int. nix's waitpid is not used: it fails for signals that it has no name for,
        // and the end would be lost.
        let ended = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        let end = match libc::WIFEXITED(status) {
            true => End::Exited(libc::WEXITSTATUS(status)),
            false => End::Killed(libc::WTERMSIG(status)),
        };
        if let Some((_, kept)) = self.started.iter_mut().find(|(pid, _)| ended > 0 && pid.as_raw() == ended) {
            *kept = Some(end);
            self.waker.iter().for_each(Waker::wake);
        }
        ended > 0
    }

    fn end(&self, child: &Child) -> Option<End> {
        self.started.iter().find(|(pid, _)| *pid == child.0)?.1
    }
}

impl Child {
    pub fn pid(&self) -> i32 {
        self.0.as_raw()
    }

    /// How the child ended; `None` while it runs.
    pub fn end(&self) -> Option<End> {
        let mut table = lock();
        if !table.is_reaped && table.end(self).is_none() {
            table.reap(self.0.as_raw());
        }
        table.end(self)
    }

    /// Waits for the end of the child, at most until `until`. Returns `None` when the child still runs then.
    pub fn wait(&self, until: Option<Instant>) -> Option<End> {
        loop {
            let end = self.end();
            if end.is_some() || until.is_some_and(|until| until <= Instant::now()) {
                return end;
            }
            thread::sleep(LOOK);
        }
    }

    /// Sends a signal to the child unless it has ended. After its end another process may have the same pid.
    pub fn signal(&self, signal: Signal) {
        let table = lock();
        if table.end(self).is_none() {
            // A child that has ended but is not reaped yet still has its pid, and ignores the signal.
            let _ = kill(self.0, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        lock().started.retain(|(pid, _)| *pid != self.0);
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(status) => write!(f, "exit status {status}"),
            End::Killed(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "killed by {}", signal.as_str()),
                Err(_) => write!(f, "killed by signal {number}"),
            },
        }
    }
}

fn lock() -> MutexGuard<'static, ChildTable> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn::{Program, launch};
    use nix::sys::signal::{SigmaskHow, sigprocmask};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    /// Needs its own process, because the thread reaps every child of the process.
    #[test]
    fn every_child_is_reaped_and_no_end_is_missed() {
        let mut inside = Command::new(std::env::current_exe().expect("this program"));
        inside.args(["--ignored", "--exact", "children::tests::inside"]);
        let block = || {
            let mut ends = SigSet::empty();
            ends.add(Signal::SIGCHLD);
            Ok(sigprocmask(SigmaskHow::SIG_BLOCK, Some(&ends), None)?)
        };
        // SAFETY: one system call between fork and exec.
        let output = unsafe { inside.pre_exec(block) }.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    #[ignore = "run by the test above"]
    fn inside() {
        nix::sys::prctl::set_child_subreaper(true).expect("orphans come to this process, as they do to PID1");
        reap_from_now_on().expect("a thread");
        let shell = |script: &str| {
            let argv = ["/bin/sh", "-c", script].map(String::from);
            launch(&Program { argv: &argv, env: vec!["PATH=/usr/bin:/bin".into()], ..Program::default() })
                .expect("a shell")
                .child
        };
        // Ends at once, is asked late, many at a time.
        let children: Vec<Child> = (0..50).map(|status| shell(&format!("exit {status}"))).collect();
        let orphans = shell("sleep 0.2 & sleep 0.2 & exit 0");
        // Nobody asks how it ended.
        drop(shell("exit 1"));
        let killed = shell("kill -s RTMIN $$");
        let until = Instant::now() + Duration::from_secs(20);
        for (status, child) in children.iter().enumerate() {
            assert_eq!(child.wait(Some(until)), Some(End::Exited(status as c_int)));
        }
        assert_eq!(orphans.wait(Some(until)), Some(End::Exited(0)));
        let end = killed.wait(Some(until)).expect("it has ended");
        assert_eq!(end.to_string(), format!("killed by signal {}", libc::SIGRTMIN()));
        while !none_left() {
            assert!(Instant::now() < until, "a child is left");
            thread::sleep(LOOK);
        }
        assert_eq!(lock().started.len(), 52, "nothing is kept of children without an owner");
        drop((children, orphans, killed));
        assert!(lock().started.is_empty());
    }

    #[test]
    fn how_processes_end() {
        for (end, text) in [
            (End::Exited(3), "exit status 3"),
            (End::Killed(libc::SIGKILL), "killed by SIGKILL"),
            (End::Killed(64), "killed by signal 64"),
        ] {
            assert_eq!(end.to_string(), text);
        }
    }
}
