//! Children that do not outlive us: each runs in a process group of its own, which is killed when it is dropped and
//! when a signal (Ctrl-C, SIGTERM, SIGHUP) ends this process. After a `kill -9` the kernel ends its leader.

mod requests;

pub use requests::Interrupts;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// The groups that run now, by the process id of their leader.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// How many [`Hold`]s there are.
static HOLDS: AtomicUsize = AtomicUsize::new(0);

fn running() -> MutexGuard<'static, BTreeSet<i32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child with all that it starts.
#[derive(Debug)]
pub struct ProcessGroup {
    child: Child,
}

impl ProcessGroup {
    /// Starts the command as leader of a new process group. The calling thread has to live as long as the child, see
    /// [`die_with_parent`].
    ///
    /// # Errors
    /// Those of [`Command::spawn`], and of installing the signal handler.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        watch_signals()?;
        die_with_parent(command);
        // Held while the child starts: a signal in between waits for it to be listed.
        let mut running = running();
        let child = command.process_group(0).spawn()?;
        running.insert(pid(&child).as_raw());
        Ok(Self { child })
    }

    /// The leader, to take its pipes and to wait for it.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        let mut running = running();
        // Fails when nothing of the group is left, which is what is wanted.
        let _ = killpg(pid(&self.child), Signal::SIGKILL);
        let _ = self.child.wait();
        running.remove(&pid(&self.child).as_raw());
    }
}

/// While one is there, a signal kills the groups but does not end this process: whoever holds it notices the signal
/// and ends in order.
#[derive(Debug)]
pub struct Hold(());

impl Hold {
    /// # Errors
    /// Those of installing the signal handler.
    pub fn take() -> io::Result<Self> {
        watch_signals()?;
        HOLDS.fetch_add(1, Ordering::SeqCst);
        Ok(Self(()))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        HOLDS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Makes the child get SIGKILL when the thread that starts it dies, be it by `kill -9` of this process (PR_SET_PDEATHSIG, prctl(2)).
/// A child that changes its user or its capabilities forgets it, and what it starts never knew.
pub fn die_with_parent(command: &mut Command) {
    let parent = nix::unistd::getpid();
    let set_up = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above.
        if nix::unistd::getppid() != parent {
            return Err(Errno::ESRCH.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes two system calls that are async-signal-safe; it takes no lock
    // and allocates nothing.
    unsafe { command.pre_exec(set_up) };
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("Linux keeps process ids below 2^22"))
}

/// Starts the thread that ends all groups and then this process, once.
fn watch_signals() -> io::Result<()> {
    static STARTED: Once = Once::new();
    let mut outcome = Ok(());
    STARTED.call_once(|| outcome = start_watching());
    outcome
}

fn start_watching() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            // Kept to the end: whoever notices that its group was killed waits in `drop`, and reports no failure of a tool.
            let running = running();
            for &leader in running.iter() {
                let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
            }
            if HOLDS.load(Ordering::SeqCst) > 0 {
                continue;
            }
            // Ends this process as the signal would have done: its parent sees which one it was.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read};
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    const CHILD: &str = "BOOTWRIGHT_TEST_GROUP";

    /// Whether a process runs: neither gone nor a zombie (proc(5), third field of `stat`).
    fn runs(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
    }

    fn wait_for_end(pid: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while runs(pid) {
            assert!(Instant::now() < deadline, "process {pid} outlived its group");
            std::thread::yield_now();
        }
    }

    /// A shell with a child of its own, whose process id it prints.
    fn shell() -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 600 & echo child $!; wait"]);
        shell
    }

    fn read_pid(from: impl Read) -> String {
        let mut lines = BufReader::new(from).lines().map_while(Result::ok);
        lines.find_map(|line| Some(line.split_once("child ")?.1.to_string())).expect("the shell prints it")
    }

    #[test]
    fn a_dropped_group_leaves_no_grandchild() {
        let mut group = ProcessGroup::spawn(shell().stdout(Stdio::piped())).unwrap();
        let grandchild = read_pid(group.child().stdout.take().unwrap());
        assert!(runs(&grandchild));
        drop(group);
        wait_for_end(&grandchild);
    }

    /// This test program again, with one test that does something only there.
    fn child_process(test: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Signals end the whole process: it is this test program again, with the test below.
    #[test]
    fn a_signal_ends_the_process_and_its_groups() {
        let test = "interrupt::tests::holds_a_group_in_a_child";
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            let mut process = child_process(test);
            let grandchild = read_pid(process.stdout.take().unwrap());
            assert!(runs(&grandchild));
            nix::sys::signal::kill(pid(&process), signal).unwrap();
            assert_eq!(process.wait().unwrap().signal(), Some(signal as i32));
            wait_for_end(&grandchild);
        }
    }

    /// Does nothing but in the child of the test above.
    #[test]
    fn holds_a_group_in_a_child() {
        if std::env::var_os(CHILD).is_some() {
            let mut group = ProcessGroup::spawn(&mut shell()).unwrap();
            let _ = group.child().wait();
        }
    }

    #[test]
    fn a_hold_leaves_the_end_to_its_owner() {
        let mut process = child_process("interrupt::tests::holds_on_in_a_child");
        let grandchild = read_pid(process.stdout.take().unwrap());
        nix::sys::signal::kill(pid(&process), Signal::SIGINT).unwrap();
        assert_eq!(process.wait().unwrap().code(), Some(7));
        wait_for_end(&grandchild);
    }

    /// Does nothing but in the child of the test above: outlives the group, which the signal ends.
    #[test]
    fn holds_on_in_a_child() {
        if std::env::var_os(CHILD).is_some() {
            let _hold = Hold::take().unwrap();
            let mut group = ProcessGroup::spawn(&mut shell()).unwrap();
            let _ = group.child().wait();
            std::process::exit(7);
        }
    }
}
