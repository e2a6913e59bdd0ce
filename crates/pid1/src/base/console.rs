//! The console: where PID1's lines go, and the shell of last resort.

use bootwright_base::spawn::{Program, spawn};
use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const CONSOLE: &str = "/dev/console";
const KMSG: &str = "/dev/kmsg";
/// Shells that are tried, in order.
const SHELLS: &[&[&str]] = &[&["/bin/sh"], &["/bin/busybox", "sh"], &["/usr/bin/busybox", "sh"]];

/// A terminal that takes no byte for so long is stopped: Ctrl-S, or a serial line with nobody at its other end.
const PATIENCE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(1);

/// A terminal that PID1 writes to, which holds it up once and not for long. What a stopped one does not take is lost.
pub struct Terminal {
    file: File,
    stopped: bool,
}

impl Terminal {
    pub fn open(path: &Path) -> io::Result<Terminal> {
        let file = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        Ok(Terminal { file, stopped: false })
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let until = Instant::now() + PATIENCE;
        loop {
            let written = self.file.write(bytes);
            let full = written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            if !full || self.stopped || Instant::now() >= until {
                self.stopped = full;
                return written;
            }
            thread::sleep(STEP);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where PID1's lines go: the console, else the kernel's log. Opened on the first line, and again after `/dev` moved.
#[derive(Default)]
pub struct Console {
    terminal: Option<Terminal>,
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.terminal.is_none() {
            let open = |path| Terminal::open(Path::new(path));
            self.terminal = Some(open(CONSOLE).or_else(|_| open(KMSG))?);
        }
        match &mut self.terminal {
            Some(terminal) => terminal.write(bytes),
            None => Ok(0),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    #[error("cannot open `{CONSOLE}`: {0}")]
    Open(#[source] io::Error),
    #[error("cannot make it the standard streams: {0}")]
    Stdio(#[source] Errno),
}

/// Puts `/dev/console` on the three standard streams.
pub fn take_stdio() -> Result<(), ConsoleError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// A pipe that nobody reads is full after 64 kB (pipe(7)), as a stopped terminal is after 4.
    #[test]
    fn a_stopped_terminal_holds_up_once() {
        let path = std::env::temp_dir().join(format!("bootwright-terminal-{}", std::process::id()));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let mut terminal = Terminal::open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let begin = Instant::now();
        for _ in 0..100 {
            assert!(terminal.write_all(&[b'y'; 65_537]).is_err());
        }
        assert!(begin.elapsed() >= PATIENCE && begin.elapsed() < 2 * PATIENCE, "{:?}", begin.elapsed());
        reader.read_exact(&mut [0; 65_536]).unwrap();
        terminal.write_all(b"again").unwrap();
    }
}
