//! Starts programs: fork(2) or clone3(2), a few system calls, execve(2).
//!
//! The program is read from the root. While the root's server is away, the child waits in execve(2), perhaps for hours.
//! The parent does not wait with it unless it asks to: a pipe tells whether the program runs, or why it does not.
//!
//! `std::process::Command` is not used: it waits until exec is over, and it costs 25 kB.

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

/// linux/prctl.h, since Linux 5.6. A thread with this flag never waits for I/O when it allocates memory. Started
/// programs lose the flag.
pub const PR_SET_IO_FLUSHER: libc::c_int = 57;

/// A program to start, and its surroundings. The process gets its own session, no blocked signals, and `/` as its
/// working directory.
#[derive(Default)]
pub struct Program<'a> {
    /// Absolute path of the program, then its arguments.
    pub argv: &'a [String],
    /// `KEY=value`; the process inherits no other variables.
    pub env: Vec<String>,
    /// Becomes standard input. Default: `/dev/null`.
    pub input: Option<BorrowedFd<'a>>,
    /// Becomes standard output and standard error. Default: the terminal if there is one, else `/dev/null`.
    pub output: Option<BorrowedFd<'a>>,
    /// Becomes the controlling terminal and all three standard streams.
    pub terminal: Option<&'a Path>,
    /// A file that is removed before the program starts, if it exists.
    pub remove: Option<&'a Path>,
    /// Folder of the cgroup that the process is started in.
    pub cgroup: Option<&'a Path>,
    /// Value for `/proc/self/oom_score_adj`, -1000 to 1000.
    pub oom_score_adj: i32,
}

/// A zero as an argument of prctl(2), which reads unsigned longs.
const ZERO: libc::c_ulong = 0;

/// All that the child needs, made before the fork: between fork and exec nothing may allocate memory.
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

/// A program that is being started. The child exists, but may still be reading its program.
#[derive(Debug)]
pub struct Launch {
    pub child: Child,
    report: OwnedFd,
}

/// Starts the program and waits until it runs. Only for threads that may wait for the root.
pub fn spawn(program: &Program) -> Result<Child, Errno> {
    let launch = launch(program)?;
    loop {
        if let Some(outcome) = launch.outcome() {
            return outcome.map(|()| launch.child);
        }
        // When the poll was interrupted, the loop asks again.
        let _ = poll(&mut [PollFd::new(launch.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
    }
}

/// Starts the program and returns at once.
pub fn launch(program: &Program) -> Result<Launch, Errno> {
    let prepared = Prepared::new(program)?;
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (pointers(&prepared.argv), pointers(&prepared.env));
    let mut result = None;
    // No other child can be made while the write end of the pipe is open here: it would inherit that end and hold it
    // until its own exec.
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
    // `result` is set whenever a child was made.
    Ok(Launch { child, report: result.ok_or(Errno::EIO)? })
}

impl Launch {
    /// Whether the program runs, or the errno of why it does not; `None` while neither is known. A child that was
    /// killed before its exec counts as running: its end tells the rest. After an answer it must not be called again.
    pub fn outcome(&self) -> Option<Result<(), Errno>> {
        let mut errno = [0; size_of::<i32>()];
        match read(&self.report, &mut errno) {
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            // exec has closed the pipe.
            Ok(0) | Err(_) => Some(Ok(())),
            Ok(_) => Some(Err(Errno::from_raw(i32::from_ne_bytes(errno)))),
        }
    }
}

/// Readable as soon as [`Launch::outcome`] has an answer.
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

    /// Ranges of descriptors from 3 on that the child does not need, for close_range(2). `report` is kept.
    fn all_but_needed(&self, report: RawFd) -> Vec<(libc::c_uint, libc::c_uint)> {
        let needed = [Some(report), self.stdin, self.output].into_iter().flatten();
        let mut needed: Vec<libc::c_uint> = needed.filter_map(|fd| fd.try_into().ok()).filter(|fd| *fd > 2).collect();
        sort_by_key(&mut needed, |fd| *fd);
        let firsts = [3].into_iter().chain(needed.iter().map(|fd| fd + 1));
        let lasts = needed.iter().map(|fd| fd.saturating_sub(1)).chain([libc::c_uint::MAX]);
        firsts.zip(lasts).filter(|(first, last)| first <= last).collect()
    }

    /// Runs in the child. Returns only when a step failed; errno says why.
    fn become_program(
        &self,
        argv: &[*const libc::c_char],
        env: &[*const libc::c_char],
        unwanted: &[(libc::c_uint, libc::c_uint)],
    ) -> i32 {
        // SAFETY: plain system calls; every pointer is to a NUL-terminated string or a list that ends in NULL.
        unsafe {
            // First of all: clients wait for the end of their connection to PID1, which must not be held open until
            // this child's exec. Kernels before 5.9 lack the call, and then clients do wait.
            for (first, last) in unwanted {
                libc::syscall(libc::SYS_close_range, *first, *last, 0);
            }
            libc::setsid();
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            // PID1 ignores SIGPIPE. Programs expect that a broken pipe ends them.
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
                // Usually the file does not exist, so the result is ignored.
                libc::unlink(path.as_ptr());
            }
            // PID1 has this flag while its root is on the network. A program with it could use up the last memory. The
            // call fails where the flag is not allowed, and then PID1 does not have it either.
            libc::prctl(PR_SET_IO_FLUSHER, ZERO, ZERO, ZERO, ZERO);
            libc::chdir(c"/".as_ptr());
            libc::execve(argv[0], argv.as_ptr(), env.as_ptr());
        }
        Errno::last_raw()
    }
}

/// fork(2), directly into the cgroup of the given folder. Entering a cgroup later waits for an RCU grace period of the
/// kernel, which would delay the program.
///
/// # Safety
/// As for fork(2): the child may only make system calls.
unsafe fn fork(cgroup: Option<&File>) -> libc::pid_t {
    let Some(cgroup) = cgroup else {
        // SAFETY: the caller promises it.
        return unsafe { libc::fork() };
    };
    let exit_signal = libc::SIGCHLD as u64;
    let args =
        CloneArgs { flags: CLONE_INTO_CGROUP, exit_signal, cgroup: cgroup.as_raw_fd() as u64, ..Default::default() };
    // SAFETY: a valid structure of that size. Without a stack of its own the child goes on on a copy of this one, as
    // after fork.
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

/// Writes a whole small file with system calls only. Returns false with errno set when that fails.
fn write_file(path: &CStr, text: &CStr) -> bool {
    // SAFETY: both are NUL-terminated, and the length is that of the text.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return false;
        }
        let length = text.count_bytes();
        // The descriptor is closed by exec or _exit.
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
        // The pipe is closed although both children still wait in front of exec, which would close what they have
        // inherited.
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
