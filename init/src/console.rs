//! The console: where PID1's lines go, and the shell of last resort.

use crate::boot::Machine;
use crate::phases::PhaseError;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const CONSOLE: &str = "/dev/console";
const KMSG: &str = "/dev/kmsg";
/// Shells that are tried, in order.
const SHELLS: &[&str] = &["/bin/sh", "/bin/busybox", "/usr/bin/busybox"];

/// Where PID1's lines go: the console, else the kernel's log. Opened on the first line, and again after `/dev` moved.
#[derive(Default)]
pub struct Console {
    file: Option<File>,
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_none() {
            let open = |path| OpenOptions::new().write(true).open(path);
            self.file = Some(open(CONSOLE).or_else(|_| open(KMSG))?);
        }
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => Ok(0),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum ConsoleError {
    #[error("cannot open `{CONSOLE}`: {0}")]
    Open(#[source] io::Error),
    #[error("cannot make it the standard streams: {0}")]
    Stdio(#[source] Errno),
    #[error("cannot open `{path}` of bw.timeline: {source}")]
    TimelineDevice { path: String, source: io::Error },
}

/// Phase `console`: standard streams on `/dev/console`, and the timeline's device.
pub fn take_console(machine: &Machine) -> Result<(), PhaseError> {
    let cmdline = machine.cmdline();
    machine.timeline.set_verbose(cmdline.flag("bw.debug"));
    // A session of its own, so that a shell can take the console as its terminal. Fails if PID1 leads one already.
    let _ = setsid();
    take_stdio().map_err(PhaseError::from)?;
    if let Some(path) = cmdline.value("bw.timeline") {
        let opened = machine.timeline.open_device(Path::new(path));
        opened.map_err(|source| ConsoleError::TimelineDevice { path: path.into(), source })?;
    }
    Ok(())
}

/// Puts `/dev/console` on the three standard streams.
pub fn take_stdio() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let console = OpenOptions::new().read(true).write(true).open(CONSOLE).map_err(ConsoleError::Open)?;
    dup2_stdin(console.as_fd()).map_err(ConsoleError::Stdio)?;
    dup2_stdout(console.as_fd()).map_err(ConsoleError::Stdio)?;
    dup2_stderr(console.as_fd()).map_err(ConsoleError::Stdio)?;
    Ok(())
}

/// A shell on the console until it ends. False when the image holds none.
pub fn run_shell() -> bool {
    let Some(shell) = SHELLS.iter().find(|s| Path::new(s).exists()) else { return false };
    let mut command = Command::new(shell);
    command.arg0("sh").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
    if let Ok(console) = CString::new(CONSOLE) {
        // SAFETY: between fork and exec only system calls, no allocation.
        unsafe { command.pre_exec(move || take_terminal(&console)) };
    }
    match command.spawn() {
        Ok(mut child) => {
            // The main loop, which waits for all children, may have got this one: then it has ended too.
            let _ = child.wait();
            true
        }
        Err(_) => false,
    }
}

/// Makes the console the controlling terminal of a new session, so that Ctrl-C works in the shell.
fn take_terminal(console: &CString) -> io::Result<()> {
    use nix::libc;
    // PID1 blocks the signals that its main loop reads; a shell wants them.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    // SAFETY: system calls on a descriptor that this function opens itself.
    unsafe {
        libc::setsid();
        let fd = libc::open(console.as_ptr(), libc::O_RDWR);
        if fd >= 0 {
            libc::ioctl(fd, libc::TIOCSCTTY, 1);
            libc::close(fd);
        }
    }
    Ok(())
}
