//! The logs of the kernel and of services, which PID1 hands out on the third serial port when it is asked: the way of a boot that
//! failed, on which neither the network nor sshd can be counted.

use super::SmokeError;
use super::artifacts::Files;
use bootwright_contract::log_port::{self, Piece, next_piece};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A machine that sends nothing for so long has no PID1 that could answer; QEMU's emulation may be slow.
const SILENCE: Duration = Duration::from_secs(10);
/// Time for all logs. A serial port of an emulated machine brings some 100 kB a second.
const WHOLE: Duration = Duration::from_secs(60);
/// How often signals are looked at.
const TICK: Duration = Duration::from_millis(200);
/// More services than any recipe has, and a longer name than `check` lets one have: the answer may be anything.
const MOST_SERVICES: usize = 256;
const LONGEST_NAME: usize = 128;
/// Lines shown of the log of a service that failed.
const TAIL_LINES: usize = 20;
/// Longest line shown, in characters.
const LINE_CHARS: usize = 500;

/// What a machine handed out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// Records of `/dev/kmsg`.
    kernel: Vec<u8>,
    /// By service; the log before the present one comes first.
    services: BTreeMap<String, Vec<u8>>,
    /// Nothing is missing at the end.
    is_whole: bool,
}

/// The log of a service, for the report of a boot that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTail {
    pub service: String,
    /// Where all of it is; absent: the machine handed out none.
    pub path: Option<PathBuf>,
    /// The last lines, oldest first.
    pub lines: Vec<String>,
}

impl std::fmt::Display for ServiceTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.path {
            Some(path) if !self.lines.is_empty() => {
                write!(f, "last lines of `{}` ({}):", self.service, path.display())?;
                self.lines.iter().try_for_each(|line| write!(f, "\n    {line}"))
            }
            _ => write!(f, "`{}` failed; its log is not there or empty", self.service),
        }
    }
}

/// Why there are no logs, or not all.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    #[error("PID1 had not begun")]
    NoPid1,
    #[error("the machine has ended")]
    Ended,
    #[error("cannot reach the machine's third serial port: {0}")]
    Port(io::Error),
    #[error("PID1 sent nothing for {} s", SILENCE.as_secs())]
    Silent,
    #[error("they were too long for {} s", WHOLE.as_secs())]
    Slow,
    #[error("interrupted")]
    Interrupted,
}

impl Logs {
    /// Asks for all logs at the socket of the machine's third serial port. What came before an error is given beside it.
    pub fn ask(socket: &Path, is_interrupted: impl Fn() -> bool) -> (Self, Option<LogsError>) {
        let mut answer = Vec::new();
        let problem = read_answer(socket, &mut answer, is_interrupted).err();
        (Self::parse(&answer), problem)
    }

    fn parse(mut answer: &[u8]) -> Self {
        let mut logs = Self::default();
        loop {
            match next_piece(answer) {
                Piece::Bytes { log, bytes, rest } => {
                    logs.add(log, bytes);
                    answer = rest;
                }
                Piece::Cut { log, bytes } => {
                    logs.add(log, bytes);
                    return logs;
                }
                Piece::End => {
                    logs.is_whole = true;
                    return logs;
                }
                Piece::Nothing => return logs,
            }
        }
    }

    /// The image may be anybody's: only names of services become files.
    fn add(&mut self, log: &str, bytes: &[u8]) {
        if log == log_port::KERNEL {
            return self.kernel.extend_from_slice(bytes);
        }
        let service = log.strip_suffix(".1").unwrap_or(log).strip_suffix(".log");
        let is_name = |name: &&str| {
            name.len() <= LONGEST_NAME
                && (self.services.len() < MOST_SERVICES || self.services.contains_key(*name))
                && name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
        };
        if let Some(service) = service.filter(is_name) {
            self.services.entry(service.into()).or_default().extend_from_slice(bytes);
        }
    }

    /// Writes them into the folder of the boot. Returns the files of services.
    pub fn write(&self, files: &Files) -> Result<BTreeMap<String, PathBuf>, SmokeError> {
        let write = |path: &Path, bytes: &[u8]| {
            std::fs::write(path, bytes).map_err(|cause| SmokeError::io("write", path, cause))
        };
        if !self.kernel.is_empty() {
            write(&files.kernel_log, format_kernel_log(&self.kernel).as_bytes())?;
        }
        let dir = &files.services;
        std::fs::create_dir_all(dir).map_err(|cause| SmokeError::io("make", dir, cause))?;
        let mut paths = BTreeMap::new();
        for (service, log) in &self.services {
            let path = dir.join(format!("{service}.log"));
            write(&path, log)?;
            paths.insert(service.clone(), path);
        }
        Ok(paths)
    }

    /// The last lines of a service's log, whatever it has written: not more than a screen takes.
    pub fn tail(&self, service: &str) -> Vec<String> {
        let log = self.services.get(service).map_or(&[][..], Vec::as_slice);
        let log = log.strip_suffix(b"\n").unwrap_or(log);
        if log.is_empty() {
            return Vec::new();
        }
        let mut lines: Vec<String> = log.rsplit(|byte| *byte == b'\n').take(TAIL_LINES).map(shown).collect();
        lines.reverse();
        lines
    }
}

fn read_answer(socket: &Path, answer: &mut Vec<u8>, is_interrupted: impl Fn() -> bool) -> Result<(), LogsError> {
    let mut port = UnixStream::connect(socket).map_err(LogsError::Port)?;
    port.set_read_timeout(Some(TICK)).map_err(LogsError::Port)?;
    port.write_all(&[log_port::REQUEST]).map_err(LogsError::Port)?;
    let begin = Instant::now();
    let mut last = begin;
    let end = [log_port::END, "\n"].concat();
    let mut buffer = [0; 16 * 1024];
    // A log may hold the same line.
    while !(answer.ends_with(end.as_bytes()) && Logs::parse(answer).is_whole) {
        match port.read(&mut buffer) {
            Ok(0) => return Err(LogsError::Ended),
            Ok(length) => {
                answer.extend_from_slice(&buffer[..length]);
                last = Instant::now();
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(LogsError::Port(error)),
        }
        if is_interrupted() {
            return Err(LogsError::Interrupted);
        }
        if last.elapsed() > SILENCE {
            return Err(LogsError::Silent);
        }
        if begin.elapsed() > WHOLE {
            return Err(LogsError::Slow);
        }
    }
    Ok(())
}

/// A line without its end, cut where it is too long. What a terminal would obey is escaped where it is printed.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
    match text.char_indices().nth(LINE_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into_owned(),
    }
}

/// Lines as dmesg(1) shows them, of records `<priority>,<number>,<microseconds>,<flags>[,...];<text>`, after each of which may come
/// lines that begin with a blank (Documentation/ABI/testing/dev-kmsg). Numbers that are missing are told.
fn format_kernel_log(records: &[u8]) -> String {
    let mut text = String::with_capacity(records.len());
    let mut next = None;
    for line in String::from_utf8_lossy(records).lines().filter(|line| !line.starts_with(' ')) {
        let Some((head, message)) = line.split_once(';') else { continue };
        let mut fields = head.split(',').skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
        let (number, micros) = (fields.next().unwrap_or(0), fields.next().unwrap_or(0));
        // A `String` takes everything.
        if let Some(lost) = next.and_then(|next| number.checked_sub(next)).filter(|lost| *lost > 0) {
            let _ = writeln!(text, "... {lost} records were lost here");
        }
        next = Some(number.saturating_add(1));
        let _ = writeln!(text, "[{:5}.{:06}] {message}", micros / 1_000_000, micros % 1_000_000);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_contract::log_port::header;

    fn piece(log: &str, bytes: &[u8]) -> Vec<u8> {
        [header(log, bytes.len()).as_bytes(), bytes].concat()
    }

    #[test]
    fn logs_are_put_together_from_pieces() {
        let answer = [
            piece("kernel", b"6,0,0,-;Linux\n"),
            piece("web.log.1", b"old\n"),
            piece("web.log", b"n"),
            piece("web.log", b"ew\n"),
            b"end\n".to_vec(),
        ];
        let logs = Logs::parse(&answer.concat());
        assert!(logs.is_whole);
        assert_eq!(logs.services, BTreeMap::from([("web".to_string(), b"old\nnew\n".to_vec())]));
        assert_eq!(logs.kernel, b"6,0,0,-;Linux\n");
        let cut = Logs::parse(&answer[..4].concat()[..answer[..4].concat().len() - 2]);
        assert_eq!((cut.is_whole, cut.tail("web")), (false, vec!["old".to_string(), "ne".into()]));
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for name in ["../x.log", "/etc/x.log", "..log", ".log", "x", "a/b.log", "x.log.2", "kernel.1", "a\u{1b}.log"] {
            let logs = Logs::parse(&piece(name, b"x"));
            assert_eq!(logs, Logs::default(), "{name:?}");
        }
    }

    #[test]
    fn a_tail_is_short_whatever_the_log_holds() {
        let mut logs = Logs::default();
        let lines: String = (0..100).map(|i| format!("line {i}\r\n")).collect();
        logs.add("many.log", lines.as_bytes());
        logs.add("long.log", &[b'x'; 1 << 20]);
        logs.add("odd.log", b"\xff\0\x1b[2J\n\nlast");
        logs.add("empty.log", b"");
        let many = logs.tail("many");
        assert_eq!((many.len(), many[0].as_str(), many[19].as_str()), (20, "line 80", "line 99"));
        assert_eq!(logs.tail("long"), ["x".repeat(LINE_CHARS) + "..."]);
        assert_eq!(logs.tail("odd"), ["\u{fffd}\0\u{1b}[2J", "", "last"]);
        assert!(logs.tail("empty").is_empty() && logs.tail("none").is_empty());
    }

    #[test]
    fn records_of_the_kernel_are_shown_as_dmesg_does() {
        let records = "6,0,0,-;Linux version 6.12\n5,1,1234567,-;usb: new\n SUBSYSTEM=usb\n DEVICE=+usb:1\n\
                       4,5,61000001,c,caller=T1;late; text\nodd\n";
        let shown = "[    0.000000] Linux version 6.12\n[    1.234567] usb: new\n... 3 records were lost here\n\
                     [   61.000001] late; text\n";
        assert_eq!(format_kernel_log(records.as_bytes()), shown);
    }

    /// A machine that answers with `answer`, and then neither ends nor speaks.
    fn machine(answer: Vec<u8>) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            client.read_exact(&mut [0]).unwrap();
            for part in answer.chunks(7) {
                client.write_all(part).unwrap();
            }
            // Until the client goes.
            let _ = client.read(&mut [0]);
        });
        (dir, path)
    }

    #[test]
    fn an_answer_ends_where_pid1_ends_it() {
        let log = [b"a\nend\n".as_slice(), &[b'x'; 40_000], b"\nend\n"].concat();
        let (_dir, path) = machine([piece("web.log", &log), piece("web.log", b"rest"), b"end\n".to_vec()].concat());
        let (logs, problem) = Logs::ask(&path, || false);
        assert!(problem.is_none() && logs.is_whole, "{problem:?}");
        assert_eq!(logs.services["web"], [log, b"rest".to_vec()].concat());
    }

    #[test]
    fn a_silent_machine_is_not_waited_for_after_a_signal() {
        let (_dir, path) = machine(piece("web.log", b"x\n"));
        let (logs, problem) = Logs::ask(&path, || true);
        assert!(matches!(problem, Some(LogsError::Interrupted)) && !logs.is_whole, "{problem:?}");
        let (_, problem) = Logs::ask(Path::new("/nonexistent/socket"), || false);
        assert!(matches!(problem, Some(LogsError::Port(_))), "{problem:?}");
    }
}
