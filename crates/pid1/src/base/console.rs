//! The console, to which PID1 writes its lines.
//!
//! A terminal can be stopped for any time: by Ctrl-S (n_tty's IXON), or by flow control of a serial line whose other
//! end does not read. Then a write waits, and so does the last close, which drains the line
//! (drivers/tty/serial/serial_core.c, `closing_wait`). So one thread does all writes to the console and never closes
//! it.

use crate::base::backlog::Backlog;
use bootwright_base::background;
use bootwright_base::sys;
use bootwright_contract::console::{Event, Line};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub const CONSOLE: &str = "/dev/console";
const KMSG: &str = "/dev/kmsg";

/// A terminal that takes no byte for so long counts as stopped.
const PATIENCE: Duration = Duration::from_secs(2);
/// After so long a terminal is tried again, even when poll(2) does not report it as writable.
const ASK_AGAIN_MS: u16 = 1000;

/// At most so many bytes wait for the console. Others are lost.
const MOST_WAITING: usize = 32 << 10;
/// At most so many of them are copies of services' output. The rest is for PID1's own lines.
const MOST_COPIES: usize = MOST_WAITING / 2;
/// Stack of the thread, in bytes.
const STACK: usize = 32 << 10;

/// Takes lines. No method waits.
pub trait Screen: Send {
    /// Takes a line of PID1.
    fn say(&mut self, line: &[u8]);
    /// Takes lines of a service's output.
    fn copy(&mut self, lines: &[u8]);
    /// Whether all lines were written.
    fn is_idle(&self) -> bool;
}

/// Writes to the console, or to the kernel's log when there is no console. The thread starts with the first line.
#[derive(Default)]
pub struct Console {
    queue: Arc<ConsoleQueue>,
    has_thread: bool,
}

#[derive(Default)]
struct ConsoleQueue {
    state: Mutex<ConsoleState>,
    changed: Condvar,
}

#[derive(Default)]
struct ConsoleState {
    waiting: Backlog,
    /// Whether the thread holds lines that it has not written yet.
    is_writing: bool,
}

impl Console {
    fn add(&mut self, text: &[u8], most: usize) {
        self.queue.lock().waiting.add(text, most);
        self.queue.changed.notify_one();
        if !self.has_thread {
            let queue = self.queue.clone();
            // If there is no thread now, the next line tries again.
            self.has_thread = background::spawn_small("console", STACK, Box::new(move || queue.write())).is_ok();
        }
    }
}

impl Screen for Console {
    fn say(&mut self, line: &[u8]) {
        self.add(line, MOST_WAITING);
    }

    fn copy(&mut self, lines: &[u8]) {
        self.add(lines, MOST_COPIES);
    }

    fn is_idle(&self) -> bool {
        let state = self.queue.lock();
        state.waiting.is_empty() && !state.is_writing
    }
}

impl ConsoleQueue {
    fn lock(&self) -> MutexGuard<'_, ConsoleState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of the thread, which never ends.
    fn write(&self) {
        let mut terminal = None;
        loop {
            let empty = |state: &mut ConsoleState| state.waiting.is_empty();
            let state = self.changed.wait_while(self.lock(), empty);
            let mut state = state.unwrap_or_else(PoisonError::into_inner);
            let Backlog { bytes, lost } = std::mem::take(&mut state.waiting);
            state.is_writing = true;
            drop(state);
            // A terminal that has failed is opened again for the next lines.
            if write_lines(&mut terminal, &bytes, lost).is_err() {
                terminal = None;
            }
            self.lock().is_writing = false;
        }
    }
}

fn write_lines(terminal: &mut Option<Terminal>, bytes: &[u8], lost: u64) -> io::Result<()> {
    let terminal = match terminal {
        Some(terminal) => terminal,
        None => {
            let open = |path| Terminal::open(Path::new(path));
            terminal.insert(open(CONSOLE).or_else(|_| open(KMSG))?)
        }
    };
    // Each line is one write, so that other writers cannot put text into the middle of it.
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        terminal.write_until(line, None)?;
    }
    if lost > 0 {
        let text = [&lost.to_string(), " bytes were lost here: the console took no text"].concat();
        let line = Line { uptime_s: sys::uptime().as_secs_f64(), event: Event::Note { text } };
        terminal.write_until(format!("{line}\n").as_bytes(), None)?;
    }
    Ok(())
}

/// A terminal that is written without blocking, with a limit of the caller's.
pub struct Terminal {
    file: File,
    stopped: bool,
}

impl Terminal {
    pub fn open(path: &Path) -> io::Result<Terminal> {
        let file = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
        Ok(Terminal { file, stopped: false })
    }

    /// Writes all bytes that the terminal takes within [`PATIENCE`]. A terminal that was stopped before gets no second
    /// chance.
    pub fn write(&mut self, bytes: &[u8]) {
        let patience = if self.stopped { Duration::ZERO } else { PATIENCE };
        self.stopped = self.write_until(bytes, Some(Instant::now() + patience)).is_err();
    }

    /// Writes all bytes, at most until `until`; without it, for as long as the terminal is stopped.
    pub fn write_until(&mut self, mut bytes: &[u8], until: Option<Instant>) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                    let left_ms = left.map_or(u128::MAX, |left| left.as_millis());
                    if left_ms == 0 {
                        return Err(error);
                    }
                    let timeout = u16::try_from(left_ms).unwrap_or(ASK_AGAIN_MS).min(ASK_AGAIN_MS);
                    // An interrupted poll is repeated by the loop.
                    let _ = poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)], PollTimeout::from(timeout));
                }
                Err(error) => return Err(error),
            }
        }
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

/// Makes `/dev/console` standard input, output and error.
pub fn take_stdio() -> Result<(), ConsoleError> {
    let console = OpenOptions::new().read(true).write(true).open(CONSOLE).map_err(ConsoleError::Open)?;
    dup2_stdin(console.as_fd()).map_err(ConsoleError::Stdio)?;
    dup2_stdout(console.as_fd()).map_err(ConsoleError::Stdio)?;
    dup2_stderr(console.as_fd()).map_err(ConsoleError::Stdio)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// What lines go to in tests, which may wait for it.
    impl<W: Write + Send> Screen for W {
        fn say(&mut self, line: &[u8]) {
            self.write_all(line).expect("a test's writer takes all");
        }

        fn copy(&mut self, lines: &[u8]) {
            self.say(lines);
        }

        fn is_idle(&self) -> bool {
            true
        }
    }

    /// A pipe that nobody reads is full after 64 kB (pipe(7)), as a stopped terminal is after 4.
    fn stopped(name: &str) -> (File, Terminal) {
        let path = std::env::temp_dir().join(format!("bootwright-{name}-{}", std::process::id()));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let mut terminal = Terminal::open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        terminal.write_until(&[b'y'; 65_536], None).unwrap();
        (reader, terminal)
    }

    #[test]
    fn a_stopped_terminal_holds_up_once() {
        let (mut reader, mut terminal) = stopped("terminal");
        let begin = Instant::now();
        (0..100).for_each(|_| terminal.write(b"lost"));
        let took = begin.elapsed();
        // poll(2) counts whole milliseconds.
        assert!(took + Duration::from_millis(1) >= PATIENCE && took < 2 * PATIENCE, "{took:?}");
        reader.read_exact(&mut [0; 65_536]).unwrap();
        terminal.write(b"again");
        let mut again = [0; 5];
        reader.read_exact(&mut again).unwrap();
        assert_eq!(&again, b"again");
    }

    #[test]
    fn nobody_waits_for_a_stopped_console_and_what_is_lost_is_told() {
        let (mut reader, terminal) = stopped("console");
        let mut console = Console { has_thread: true, ..Console::default() };
        let queue = console.queue.clone();
        let begin = Instant::now();
        console.say(b"first\n");
        for _ in 0..100 {
            console.copy(&[&[b'c'; 999][..], b"\n"].concat());
        }
        assert_eq!(queue.lock().waiting.bytes.len(), 6 + 16_000, "copies have half of it");
        queue.lock().waiting.lost = 0;
        for _ in 0..100 {
            console.say(&[&[b's'; 999][..], b"\n"].concat());
        }
        assert!(begin.elapsed() < Duration::from_secs(10) && !console.is_idle());
        let Backlog { bytes, lost } = std::mem::take(&mut queue.lock().waiting);
        assert_eq!((bytes.len(), lost), (6 + 32_000, 84_000));
        let writer = std::thread::spawn(move || write_lines(&mut Some(terminal), &bytes, lost));
        let mut text = Vec::new();
        let is_over = |text: &[u8]| text.ends_with(b"took no text\n");
        while !is_over(&text) {
            let mut buffer = [0; 4096];
            match reader.read(&mut buffer) {
                Ok(length) => text.extend_from_slice(&buffer[..length]),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "the writer hangs");
        }
        writer.join().unwrap().unwrap();
        let text = String::from_utf8(text.split_off(65_536)).unwrap();
        assert!(text.starts_with("first\nccc"), "{text:.40}");
        assert!(
            text.contains(" 84000 bytes were lost here: the console took no text\n"),
            "{}",
            &text[text.len() - 99..]
        );
    }
}
