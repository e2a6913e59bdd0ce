//! `logs NAME`: reads the log files directly, also to follow them, without asking PID1.

use crate::base::printable::printable;
use crate::run::service::{log_path, tail};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Lines shown without `-n`.
const LINES: usize = 50;
/// Pause between two looks at a log that is followed.
const INTERVAL: Duration = Duration::from_millis(250);

/// The arguments of `logs`.
#[derive(Debug, PartialEq, Eq)]
pub struct LogsArgs {
    pub name: String,
    pub follow: bool,
    pub lines: usize,
}

/// Parses `NAME [-f] [-n N]`, in any order.
pub fn parse_logs_args(args: &[&str]) -> Option<LogsArgs> {
    let mut found = LogsArgs { name: String::new(), follow: false, lines: LINES };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match *arg {
            "-f" => found.follow = true,
            "-n" => found.lines = args.next()?.parse().ok()?,
            // The name becomes a file name, so it must not lead to another folder.
            name if !name.starts_with(['-', '.']) && !name.contains('/') && found.name.is_empty() => {
                found.name = name.into();
            }
            _ => return None,
        }
    }
    (!found.name.is_empty()).then_some(found)
}

/// Writes to a terminal nothing that it would obey, because services write text that others have sent them. Bytes that
/// are not UTF-8 become U+FFFD.
pub struct TerminalWriter<W: Write> {
    out: W,
    /// The beginning of a character whose other bytes come with the next write.
    rest: Vec<u8>,
}

impl<W: Write> TerminalWriter<W> {
    pub fn new(out: W) -> TerminalWriter<W> {
        TerminalWriter { out, rest: Vec::new() }
    }
}

impl<W: Write> Write for TerminalWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        let last = self.rest.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
        let is_cut = std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none());
        let whole = self.rest.len() - if is_cut { last.len() } else { 0 };
        let text: Vec<u8> = self.rest.drain(..whole).collect();
        self.out.write_all(printable(&String::from_utf8_lossy(&text)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes the last lines, and with `-f` all further ones until the reader is gone.
///
/// # Errors
/// When the log cannot be read, or `out` cannot be written.
pub fn show(folder: &Path, args: &LogsArgs, out: &mut dyn Write) -> io::Result<()> {
    let path = log_path(folder, &args.name);
    // Opened before the last lines are read, so that no later line is missed.
    let mut file = File::open(&path)?;
    let size = file.metadata()?.len();
    out.write_all(&tail(folder, &args.name, args.lines)?)?;
    out.flush()?;
    io::copy(&mut (&mut file).take(size), &mut io::sink())?;
    if !args.follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(INTERVAL);
        let added = io::copy(&mut file, out)?;
        out.flush()?;
        // After a rotation the old file is read to its end, then the new one from its start.
        if added == 0
            && let Ok(now) = File::open(&path)
            && now.metadata()?.ino() != file.metadata()?.ino()
        {
            // Lines that were added between the last read and the rotation.
            io::copy(&mut file, out)?;
            file = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::channel::{Sender, channel};

    /// Takes what is written until a word comes; says when the first bytes came.
    struct Until<'a>(Vec<u8>, &'a [u8], Sender<()>);

    impl Write for Until<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(bytes);
            self.2.send(()).expect("the test listens");
            match self.0.ends_with(self.1) {
                true => Err(io::ErrorKind::BrokenPipe.into()),
                false => Ok(bytes.len()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_is_followed_over_its_rotation() {
        let folder = std::env::temp_dir().join(format!("bootwright-ctl-logs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("writable");
        let path = log_path(&folder, "s");
        std::fs::write(&path, "a\nb\n").expect("writable");
        let args = |follow| LogsArgs { name: "s".into(), follow, lines: 1 };
        let mut out = Vec::new();
        show(&folder, &args(false), &mut out).expect("a log");
        assert_eq!(out, b"b\n");
        let (began, has_begun) = channel();
        let reader = {
            let folder = folder.clone();
            std::thread::spawn(move || {
                let mut out = Until(Vec::new(), b"end\n", began);
                let error = show(&folder, &LogsArgs { name: "s".into(), follow: true, lines: 1 }, &mut out);
                (out.0, error.map_err(|e| e.kind()))
            })
        };
        has_begun.recv().expect("the reader runs");
        std::fs::OpenOptions::new().append(true).open(&path).expect("there").write_all(b"c\n").expect("writable");
        std::fs::rename(&path, folder.join("s.log.1")).expect("ours");
        std::fs::write(&path, "end\n").expect("writable");
        let (text, end) = reader.join().expect("no panic");
        assert_eq!(end, Err(io::ErrorKind::BrokenPipe));
        assert_eq!(text, b"b\nc\nend\n");
        std::fs::remove_dir_all(folder).expect("ours");
    }

    #[test]
    fn a_terminal_is_given_nothing_to_obey_wherever_a_read_ends() {
        let log = "a\tä\u{1b}]0;title\u{7}\u{9b}2J\r\n€\n".as_bytes();
        let bytes = [log, b"\xff\xe2\x82\n"].concat();
        let shown = "a\tä\\u001b]0;title\\u0007\\u009b2J\\u000d\n€\n\u{fffd}\u{fffd}\n";
        for step in 1..=bytes.len() {
            let mut out = TerminalWriter::new(Vec::new());
            for part in bytes.chunks(step) {
                out.write_all(part).expect("a vector takes all");
            }
            assert_eq!(String::from_utf8(out.out).expect("text"), shown, "{step} bytes at a time");
        }
    }

    #[test]
    fn arguments() {
        let args = |follow, lines| Some(LogsArgs { name: "kubelet".into(), follow, lines });
        for (text, expected) in [
            ("kubelet", args(false, 50)),
            ("kubelet -f", args(true, 50)),
            ("-n 3 -f kubelet", args(true, 3)),
            ("", None),
            ("kubelet -n", None),
            ("kubelet -n x", None),
            ("kubelet -x", None),
            ("kubelet sshd", None),
            ("../passwd", None),
            (".x", None),
        ] {
            let words: Vec<&str> = text.split_whitespace().collect();
            assert_eq!(parse_logs_args(&words), expected, "{text}");
        }
    }
}
