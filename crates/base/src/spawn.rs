//! Starts programs: fork(2) or clone3(2), a few system calls, execve(2).
//!
//! Not by `std::process::Command`: it waits for a child whose exec failed, which the main loop may have reaped already,
//! and it costs 25 kB.

use crate::sys::errno;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::{Pid, pipe2, read};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
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
    cgroup: Option<File>,
    oom_score_adj: CString,
    is_terminal: bool,
}

/// Starts the program and gives its pid: the caller (in the end the main loop) waits for it. When exec failed, the
/// error says why; the child that is left then is one more for the main loop.
pub fn spawn(program: &Program) -> Result<Pid, Errno> {
    let prepared = Prepared::new(program)?;
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (pointers(&prepared.argv), pointers(&prepared.env));
    let (result, report) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the child only makes system calls on what was prepared, and ends in exec or _exit.
    let pid = unsafe { fork(prepared.cgroup.as_ref()) };
    if pid == 0 {
        let errno = prepared.become_program(&argv, &env);
        // SAFETY: an integer on the stack, an open descriptor, and an end without destructors.
        unsafe {
            libc::write(report.as_raw_fd(), (&raw const errno).cast(), size_of::<i32>());
            libc::_exit(127);
        }
    }
    let pid = Errno::result(pid)?;
    drop(report);
    let mut errno = [0; size_of::<i32>()];
    loop {
        match read(&result, &mut errno) {
            Err(Errno::EINTR) => {}
            // Closed by exec: it runs.
            Ok(0) | Err(_) => return Ok(Pid::from_raw(pid)),
            Ok(_) => return Err(Errno::from_raw(i32::from_ne_bytes(errno))),
        }
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
            cgroup: program.cgroup.map(File::open).transpose().map_err(errno)?,
            oom_score_adj: text(&program.oom_score_adj.to_string())?,
            is_terminal: program.terminal.is_some(),
        })
    }

    /// In the child. Comes back only when something failed, with its errno.
    fn become_program(&self, argv: &[*const libc::c_char], env: &[*const libc::c_char]) -> i32 {
        // SAFETY: plain system calls; every pointer is to a NUL-terminated string or a list that ends in NULL.
        unsafe {
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
    unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) as libc::pid_t }
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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};
    use std::io::Read;
    use std::os::fd::AsFd;

    fn run(script: &str, env: &[&str]) -> (String, WaitStatus) {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let argv = ["/bin/sh", "-c", script].map(String::from);
        let env = env.iter().map(|e| e.to_string()).collect();
        let program = Program { argv: &argv, env, output: Some(writer.as_fd()), ..Program::default() };
        let pid = spawn(&program).expect("a shell");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("UTF-8");
        (text, waitpid(pid, None).expect("our child"))
    }

    #[test]
    fn what_a_program_finds() {
        let (text, status) = run(
            "echo $A; pwd; cat; echo err >&2; test $$ = $(ps -o sid= -p $$) && echo leader; exit 3",
            &["A=b", "PATH=/bin:/usr/bin"],
        );
        assert_eq!(text, "b\n/\nerr\nleader\n");
        assert!(matches!(status, WaitStatus::Exited(_, 3)));
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
            assert_eq!(spawn(&Program { argv: &argv, cgroup: group, ..Program::default() }), Err(errno), "{argv:?}");
        }
    }
}
