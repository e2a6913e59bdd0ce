//! The console: where PID1's lines go, and the shell of last resort.

use crate::boot::Machine;
use crate::phases::PhaseError;
use crate::spawn::{Program, spawn};
use nix::errno::Errno;
use nix::sys::wait::waitpid;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

const CONSOLE: &str = "/dev/console";
const KMSG: &str = "/dev/kmsg";
/// Shells that are tried, in order.
const SHELLS: &[&[&str]] = &[&["/bin/sh"], &["/bin/busybox", "sh"], &["/usr/bin/busybox", "sh"]];

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
    take_stdio()?;
    if let Some(path) = cmdline.value("bw.timeline") {
        let opened = machine.timeline.open_device(Path::new(path));
        opened.map_err(|source| ConsoleError::TimelineDevice { path: path.into(), source })?;
    }
    Ok(())
}

/// Puts `/dev/console` on the three standard streams.
pub fn take_stdio() -> Result<(), PhaseError> {
    let console = OpenOptions::new().read(true).write(true).open(CONSOLE).map_err(ConsoleError::Open)?;
    dup2_stdin(console.as_fd()).map_err(ConsoleError::Stdio)?;
    dup2_stdout(console.as_fd()).map_err(ConsoleError::Stdio)?;
    dup2_stderr(console.as_fd()).map_err(ConsoleError::Stdio)?;
    Ok(())
}

/// A shell on the console until it ends. False when the image holds none.
pub fn run_shell() -> bool {
    let Some(shell) = SHELLS.iter().find(|s| Path::new(s[0]).exists()) else { return false };
    let env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=linux"].map(String::from).into();
    let argv: Vec<String> = shell.iter().map(|word| word.to_string()).collect();
    let program = Program { argv: &argv, env, terminal: Some(Path::new(CONSOLE)), ..Program::default() };
    let Ok(pid) = spawn(&program) else { return false };
    // ECHILD: the main loop, which waits for all children, has got this one; then it has ended too.
    while waitpid(pid, None) == Err(Errno::EINTR) {}
    true
}
