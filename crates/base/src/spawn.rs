//! Starts programs: fork(2) or clone3(2), a few system calls, execve(2).
//!
//! A program is read from the root, whose server may be away: then the child waits in execve(2), for hours if need be. The
//! parent never waits along unless it asks to; a pipe tells it when the program runs, or why it does not.
//!
//! Not by `std::process::Command`: it waits for exec to be over, and it costs 25 kB.

use crate::children::{self, Child};
use crate::order::sort_by_key;
use crate::sys::errno;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, pipe2, read};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

/// linux/prctl.h, since Linux 5.6: a thread that the kernel does not make wait for I/O to find memory. Programs that are
/// started drop it.
pub const PR_SET_IO_FLUSHER: libc::c_int = 57;

/// What to start, and with what around it. The process gets a session of its own, no blocked signals, and `/` as its
/// folder.
#[derive(Default)]
pub struct Program<'a> {
    /// Absolute path of the program, and its arguments.
    pub argv: &'a [String],
    /// `KEY=value`; nothing else is inherited.
    pub env: Vec<String>,
    /// Becomes standard input; else that is empty.
    pub input: Option<BorrowedFd<'a>>,
    /// Takes standard output and error. With neither this nor `terminal` output is lost.
    pub output: Option<BorrowedFd<'a>>,
    /// Becomes the controlling terminal and all three standard streams.
    pub terminal: Option<&'a Path>,
    /// A file that is removed before the program starts, if it is there.
    pub remove: Option<&'a Path>,
    /// Folder of the cgroup to enter.
    pub cgroup: Option<&'a Path>,
    /// `/proc/self/oom_score_adj`, -1000 to 1000.
    pub oom_score_adj: i32,
}

/// An argument of prctl(2), as wide as the kernel reads it.
const ZERO: libc::c_ulong = 0;

/// All that the child needs, made before the fork: between fork and exec nothing may be allocated.
struct Prepared {
    argv: Vec<CString>,
    env: Vec<CString>,
    stdin: Option<RawFd>,
    output: Option<RawFd>,
    input: CString,
    remove: Option<CString>,
    cgroup: Option<File>,
    oom_score_adj: CString,
    is_terminal: bool,
}

/// A program that is being started: the child is there, its program may still have to be read.
#[derive(Debug)]
pub struct Launch {
    pub child: Child,
    report: OwnedFd,
}

/// Starts the program and waits until it runs: for threads that may wait for the root.
pub fn spawn(program: &Program) -> Result<Child, Errno> {
    let launch = launch(program)?;
    loop {
        if let Some(outcome) = launch.outcome() {
            return outcome.map(|()| launch.child);
        }
        // Interrupted or not: it is looked at again.
        let _ = poll(&mut [PollFd::new(launch.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
    }
}

/// Starts the program and waits for nothing.
pub fn launch(program: &Program) -> Result<Launch, Errno> {
    let prepared = Prepared::new(program)?;
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (pointers(&prepared.argv), pointers(&prepared.env));
    let mut result = None;
    // The pipe's other end is open here only while no other child can be made, which would keep it open until its exec.
    let child = children::adopt(|| {
        let (ours, report) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let unwanted = prepared.all_but_needed(report.as_raw_fd());
        // SAFETY: the child only makes system calls on what was prepared, and ends in exec or _exit.
        let pid = unsafe { fork(prepared.cgroup.as_ref()) };
        if pid == 0 {
            let errno = prepared.become_program(&argv, &env, &unwanted);
            // SAFETY: an integer on the stack, an open descriptor, and an end without destructors.
            unsafe {
                libc::write(report.as_raw_fd(), (&raw const errno).cast(), size_of::<i32>());
                libc::_exit(127);
            }
        }
        result = Some(ours);
        Errno::result(pid).map(Pid::from_raw)
    })?;
    // It was made with the child.
    Ok(Launch { child, report: result.ok_or(Errno::EIO)? })
}

impl Launch {
    /// Whether the program runs, or why it does not; `None`: neither is known yet. One that was killed on its way counts as
    /// running: its end tells the rest. To be asked until there is an answer.
    pub fn outcome(&self) -> Option<Result<(), Errno>> {
        let mut errno = [0; size_of::<i32>()];
        match read(&self.report, &mut errno) {
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            // Closed by exec.
            Ok(0) | Err(_) => Some(Ok(())),
            Ok(_) => Some(Err(Errno::from_raw(i32::from_ne_bytes(errno)))),
        }
    }
}

/// Readable once there is an outcome.
impl AsFd for Launch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

impl Prepared {
    fn new(program: &Program) -> Result<Prepared, Errno> {
        let text = |text: &str| CString::new(text).map_err(|_| Errno::EINVAL);
        let path = |path: &Path| CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::EINVAL);
        let all = |texts: &[String]| texts.iter().map(|t| text(t)).collect::<Result<Vec<_>, _>>();
        if program.argv.is_empty() {
            return Err(Errno::EINVAL);
        }
        Ok(Prepared {
            argv: all(program.argv)?,
            env: all(&program.env)?,
            stdin: program.input.map(|fd| fd.as_raw_fd()),
            output: program.output.map(|fd| fd.as_raw_fd()),
            input: path(program.terminal.unwrap_or(Path::new("/dev/null")))?,
            remove: program.remove.map(path).transpose()?,
            cgroup: program.cgroup.map(File::open).transpose().map_err(errno)?,
            oom_score_adj: text(&program.oom_score_adj.to_string())?,
            is_terminal: program.terminal.is_some(),
        })
    }

    /// The descriptors from 3 on that the child has no use for, as ranges for close_range(2).
    fn all_but_needed(&self, report: RawFd) -> Vec<(libc::c_uint, libc::c_uint)> {
        let needed = [Some(report), self.stdin, self.output].into_iter().flatten();
        let mut needed: Vec<libc::c_uint> = needed.filter_map(|fd| fd.try_into().ok()).filter(|fd| *fd > 2).collect();
        sort_by_key(&mut needed, |fd| *fd);
        let firsts = [3].into_iter().chain(needed.iter().map(|fd| fd + 1));
        let lasts = needed.iter().map(|fd| fd.saturating_sub(1)).chain([libc::c_uint::MAX]);
        firsts.zip(lasts).filter(|(first, last)| first <= last).collect()
    }

    /// In the child. Comes back only when something failed, with its errno.
    fn become_program(
        &self,
        argv: &[*const libc::c_char],
        env: &[*const libc::c_char],
        unwanted: &[(libc::c_uint, libc::c_uint)],
    ) -> i32 {
        // SAFETY: plain system calls; every pointer is to a NUL-terminated string or a list that ends in NULL.
        unsafe {
            // At once: what waits for the end of a connection of PID1's must not wait for this child's exec. A kernel
            // before 5.9 does not know the call: then that is so.
            for (first, last) in unwanted {
                libc::syscall(libc::SYS_close_range, *first, *last, 0);
            }
            libc::setsid();
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            // std ignores it in PID1; a program expects that a broken pipe ends it.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let input = libc::open(self.input.as_ptr(), libc::O_RDWR | libc::O_NOCTTY);
            if input < 0 {
                return Errno::last_raw();
            }
            if self.is_terminal {
                libc::ioctl(input, libc::TIOCSCTTY, 1);
            }
            let output = self.output.unwrap_or(input);
            if libc::dup2(self.stdin.unwrap_or(input), 0) < 0 || libc::dup2(output, 1) < 0 || libc::dup2(output, 2) < 0
            {
                return Errno::last_raw();
            }
            if input > 2 {
                libc::close(input);
            }
            if !write_file(c"/proc/self/oom_score_adj", &self.oom_score_adj) {
                return Errno::last_raw();
            }
            if let Some(path) = &self.remove {
                // Usually it is not there.
                libc::unlink(path.as_ptr());
            }
            // PID1 may be one for its network root; a program that is one could use up the last memory. Fails where
            // it is not allowed, and then PID1 is none either.
            libc::prctl(PR_SET_IO_FLUSHER, ZERO, ZERO, ZERO, ZERO);
            libc::chdir(c"/".as_ptr());
            libc::execve(argv[0], argv.as_ptr(), env.as_ptr());
        }
        Errno::last_raw()
    }
}

/// fork(2); into the cgroup whose folder is given, at once: to enter it later takes the kernel a RCU grace period, for which
/// the program would wait.
///
/// # Safety
/// As for fork(2): the child may only make system calls.
unsafe fn fork(cgroup: Option<&File>) -> libc::pid_t {
    let Some(cgroup) = cgroup else {
        // SAFETY: the caller's promise.
        return unsafe { libc::fork() };
    };
    let exit_signal = libc::SIGCHLD as u64;
    let args =
        CloneArgs { flags: CLONE_INTO_CGROUP, exit_signal, cgroup: cgroup.as_raw_fd() as u64, ..Default::default() };
    // SAFETY: a valid structure of that size; without a stack of its own the child goes on here, as after fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    libc::pid_t::try_from(pid).unwrap_or(-1)
}

/// `struct clone_args` of linux/sched.h, version 2 (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Of linux/sched.h.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Writes a whole small file with system calls only; `errno` says what failed.
fn write_file(path: &CStr, text: &CStr) -> bool {
    // SAFETY: both are NUL-terminated, and the length is that of the text.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return false;
        }
        let length = text.count_bytes();
        // The descriptor goes with exec or _exit.
        libc::write(fd, text.as_ptr().cast(), length) == length as isize
    }
}

#[cfg(any(test, feature = "fake"))]
pub mod closed;

#[cfg(test)]
mod tests {
    use super::closed::Closed;
    use super::*;
    use crate::children::End;
    use nix::sys::signal::Signal;
    use std::io::Read;
    use std::time::{Duration, Instant};

    fn run(script: &str, env: &[&str]) -> (String, Option<End>) {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let argv = ["/bin/sh", "-c", script].map(String::from);
        let env = env.iter().map(|e| e.to_string()).collect();
        let program = Program { argv: &argv, env, output: Some(writer.as_fd()), ..Program::default() };
        let child = spawn(&program).expect("a shell");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("UTF-8");
        (text, child.wait(None))
    }

    fn outcome(launch: &Launch) -> Result<(), Errno> {
        let began = Instant::now();
        loop {
            if let Some(outcome) = launch.outcome() {
                return outcome;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "no outcome");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_a_program_finds() {
        let (text, status) = run(
            "echo $A; pwd; cat; echo err >&2; test $$ = $(ps -o sid= -p $$) && echo leader; exit 3",
            &["A=b", "PATH=/bin:/usr/bin"],
        );
        assert_eq!(text, "b\n/\nerr\nleader\n");
        assert_eq!(status, Some(End::Exited(3)));
        assert_eq!(run("env | grep -vE '^(PWD|SHLVL|_|OLDPWD)='", &["X=y"]).0, "X=y\n", "nothing is inherited");
        let (text, _) = run("grep SigBlk /proc/self/status; cat /proc/self/oom_score_adj", &["PATH=/bin:/usr/bin"]);
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["SigBlk:", "0000000000000000", "0"]);
    }

    #[test]
    fn why_a_program_does_not_start() {
        for (argv, group, errno) in [
            (&["/nowhere/x"][..], None, Errno::ENOENT),
            (&["/etc"], None, Errno::EACCES),
            (&["/bin/a\0b"], None, Errno::EINVAL),
            (&[], None, Errno::EINVAL),
            (&["/bin/true"], Some(Path::new("/nowhere")), Errno::ENOENT),
        ] {
            let argv: Vec<String> = argv.iter().map(|a| a.to_string()).collect();
            let spawned = spawn(&Program { argv: &argv, cgroup: group, ..Program::default() });
            assert_eq!(spawned.expect_err("it cannot start"), errno, "{argv:?}");
        }
    }

    #[test]
    fn a_program_that_cannot_be_read_holds_up_nobody() {
        let closed = [Closed::new("a"), Closed::new("b")];
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
        let begin = Instant::now();
        let launches = closed.each_ref().map(|closed| {
            let argv = [closed.path.clone(), "0".into()];
            launch(&Program { argv: &argv, ..Program::default() }).expect("a child")
        });
        let argv = ["/bin/sh", "-c", "exit 7"].map(String::from);
        let other = spawn(&Program { argv: &argv, ..Program::default() }).expect("others start meanwhile");
        assert_eq!(other.wait(None), Some(End::Exited(7)));
        assert!(begin.elapsed() < Duration::from_secs(20), "they still hang: {:?}", begin.elapsed());
        assert!(launches.iter().all(|launch| launch.outcome().is_none() && launch.child.end().is_none()));
        // What PID1 closes is closed, though the two have not come to exec, which closes what they inherited.
        drop(ours);
        theirs.set_read_timeout(Some(Duration::from_secs(5))).expect("a time limit");
        assert_eq!(theirs.read(&mut [0]).expect("the end"), 0);
        let [first, second] = launches;
        first.child.signal(Signal::SIGKILL);
        assert_eq!(first.child.wait(None), Some(End::Killed(libc::SIGKILL)), "it can be given up");
        closed[1].open_up();
        assert_eq!(outcome(&second), Ok(()));
        assert_eq!(second.child.wait(None), Some(End::Exited(0)), "it was only late");
    }

    #[test]
    fn only_what_is_needed_stays_open() {
        let argv = ["/bin/true".to_string()];
        let mut prepared = Prepared::new(&Program { argv: &argv, ..Program::default() }).expect("no NUL");
        (prepared.stdin, prepared.output) = (Some(7), Some(4));
        assert_eq!(prepared.all_but_needed(5), [(3, 3), (6, 6), (8, u32::MAX)]);
        (prepared.stdin, prepared.output) = (Some(0), None);
        assert_eq!(prepared.all_but_needed(3), [(4, u32::MAX)]);
    }

    #[test]
    fn a_file_is_removed_first() {
        let path = std::env::temp_dir().join(format!("bootwright-removed-{}", std::process::id()));
        std::fs::write(&path, "").expect("a temporary file");
        let argv = ["/bin/sh", "-c", "test ! -e \"$0\"", path.to_str().expect("UTF-8")].map(String::from);
        let child = spawn(&Program { argv: &argv, remove: Some(&path), ..Program::default() }).expect("a shell");
        assert_eq!(child.wait(None), Some(End::Exited(0)));
    }
}
