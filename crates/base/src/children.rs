//! Children of PID1: one thread waits for all of them, adopted orphans included, from the first second on. It keeps how
//! those ended that were started here, for whoever started them.

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
/// Between two looks of [`Child::wait`].
const LOOK: Duration = Duration::from_millis(20);

/// The kernel has one list of children for the whole program, and so has this.
static TABLE: Mutex<ChildTable> = Mutex::new(ChildTable { started: Vec::new(), waker: None, is_reaped: false });

struct ChildTable {
    /// Children with an owner, and how they ended once they have.
    started: Vec<(Pid, Option<End>)>,
    /// Wakes the main loop when one of them has ended.
    waker: Option<Waker>,
    /// The thread runs. Without it (in tests, whose process has other children too) each owner asks for its own.
    is_reaped: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Exited(c_int),
    /// By a signal, which may be one without a name (signal(7), real-time signals).
    Killed(c_int),
}

/// A child that was started here. Dropped, the child goes on and nobody is told of its end.
#[derive(Debug)]
pub struct Child(Pid);

/// Starts the thread. SIGCHLD must be blocked in every thread, so that this one can wait for it (sigwait(3)).
pub fn reap_from_now_on() -> io::Result<()> {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGCHLD);
    let work = move || {
        loop {
            reap();
            // It fails only for a set that is no set.
            let _ = ends.wait();
        }
    };
    lock().is_reaped = true;
    background::spawn_small("children", STACK, Box::new(work)).inspect_err(|_| lock().is_reaped = false)
}

/// From now on the main loop is woken whenever a child with an owner has ended.
pub fn wake(waker: Waker) {
    lock().waker = Some(waker);
}

/// Whether there is no child at all any more, adopted ones included.
pub fn none_left() -> bool {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, look) == Err(Errno::ECHILD)
}

/// Runs `fork`, which gives the pid of a new child. Nothing is reaped meanwhile, so that a child that ends at once is not
/// missed either.
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
    /// Takes in the end of a child by its pid, or of any by -1 (waitpid(2)); false when none has ended.
    fn reap(&mut self, pid: libc::pid_t) -> bool {
        let mut status = 0;
        // SAFETY: the kernel writes one int. Not by nix: a signal that it does not know would be an error, and the end lost.
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

    /// How it ended, once it has.
    pub fn end(&self) -> Option<End> {
        let mut table = lock();
        if !table.is_reaped && table.end(self).is_none() {
            table.reap(self.0.as_raw());
        }
        table.end(self)
    }

    /// Waits for its end until then, or for ever; `None`: it still runs.
    pub fn wait(&self, until: Option<Instant>) -> Option<End> {
        loop {
            let end = self.end();
            if end.is_some() || until.is_some_and(|until| until <= Instant::now()) {
                return end;
            }
            thread::sleep(LOOK);
        }
    }

    /// Sends it a signal, unless it has ended: another process may have its pid by then.
    pub fn signal(&self, signal: Signal) {
        let table = lock();
        if table.end(self).is_none() {
            // One that has ended and is not reaped yet takes it too.
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

    /// In a process of its own, as the thread reaps every child that the process has.
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
