//! `logs NAME`: reads the files that PID1 writes; following them needs no help from PID1.

use crate::service::{log_path, tail};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Lines shown without `-n`.
const LINES: usize = 50;
/// Between two looks at a log that is followed.
const INTERVAL: Duration = Duration::from_millis(250);

/// The arguments of `logs`.
#[derive(Debug, PartialEq, Eq)]
pub struct LogsArgs {
    pub name: String,
    pub follow: bool,
    pub lines: usize,
}

/// Reads `NAME [-f] [-n N]` in any order.
pub fn parse_logs_args(args: &[&str]) -> Option<LogsArgs> {
    let mut found = LogsArgs { name: String::new(), follow: false, lines: LINES };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match *arg {
            "-f" => found.follow = true,
            "-n" => found.lines = args.next()?.parse().ok()?,
            // A name is a file name: it must not lead elsewhere.
            name if !name.starts_with(['-', '.']) && !name.contains('/') && found.name.is_empty() => {
                found.name = name.into();
            }
            _ => return None,
        }
    }
    (!found.name.is_empty()).then_some(found)
}

/// Writes the last lines, and with `-f` all that follows until the reader is gone.
pub fn show(folder: &Path, args: &LogsArgs, out: &mut dyn Write) -> io::Result<()> {
    let path = log_path(folder, &args.name);
    // Opened first: what is added meanwhile is not lost.
    let mut file = File::open(&path)?;
    let mut size = file.metadata()?.len();
    out.write_all(&tail(folder, &args.name, args.lines)?)?;
    out.flush()?;
    io::copy(&mut (&mut file).take(size), &mut io::sink())?;
    while args.follow {
        std::thread::sleep(INTERVAL);
        size = io::copy(&mut file, out)?;
        out.flush()?;
        // Rotated: the old file is read to its end, then comes the new one.
        if size == 0
            && let Ok(now) = File::open(&path)
            && now.metadata()?.ino() != file.metadata()?.ino()
        {
            file = now;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
