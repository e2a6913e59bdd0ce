//! A service's log: a bounded file and its one predecessor, and the console when that is wanted.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A longer line is cut into pieces of this many bytes on the console.
const LONGEST_LINE: usize = 1024;

/// Writes `<name>.log`; when that would pass the bound it becomes `<name>.log.1`.
pub struct Log {
    path: PathBuf,
    limit: u64,
    file: Option<File>,
    size: u64,
    /// Prefix and unfinished line for the console; `None` when it is not wanted there.
    console: Option<(String, Vec<u8>)>,
}

impl Log {
    /// The log of a service, at most `limit` bytes a file.
    pub fn new(folder: &Path, name: &str, limit: u64, console: bool) -> Log {
        Log {
            path: log_path(folder, name),
            limit,
            file: None,
            size: 0,
            console: console.then(|| ([name, ": "].concat(), Vec::new())),
        }
    }

    /// Adds output. A log that cannot be written (a full `/var/log`) loses output and never stops the service.
    pub fn write(&mut self, mut bytes: &[u8], console: &mut dyn Write) {
        self.write_console(bytes, console);
        while !bytes.is_empty() && self.limit > 0 {
            if self.open().is_err() {
                return;
            }
            if self.size >= self.limit {
                self.rotate();
                continue;
            }
            let room = usize::try_from(self.limit - self.size).unwrap_or(usize::MAX).min(bytes.len());
            // Whole lines go together unless the line is longer than the file may be.
            let cut = match bytes[..room].iter().rposition(|b| *b == b'\n') {
                _ if room == bytes.len() => room,
                Some(end) => end + 1,
                None if self.size > 0 => {
                    self.rotate();
                    continue;
                }
                None => room,
            };
            let Some(file) = &mut self.file else { return };
            if file.write_all(&bytes[..cut]).is_err() {
                self.file = None;
                return;
            }
            self.size += cut as u64;
            bytes = &bytes[cut..];
        }
    }

    fn open(&mut self) -> std::io::Result<()> {
        if self.file.is_none() {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        Ok(())
    }

    fn rotate(&mut self) {
        self.file = None;
        if fs::rename(&self.path, predecessor(&self.path)).is_err() {
            // Better to lose old lines than to grow without bound.
            let _ = fs::remove_file(&self.path);
        }
    }

    fn write_console(&mut self, bytes: &[u8], console: &mut dyn Write) {
        let Some((prefix, line)) = &mut self.console else { return };
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            line.extend_from_slice(part);
            if !part.ends_with(b"\n") && line.len() < LONGEST_LINE {
                continue;
            }
            let mut whole = prefix.clone().into_bytes();
            whole.append(line);
            if !whole.ends_with(b"\n") {
                whole.push(b'\n');
            }
            // A console that is gone stops nothing.
            let _ = console.write_all(&whole);
        }
    }
}

/// Where a service's log is.
pub fn log_path(folder: &Path, name: &str) -> PathBuf {
    folder.join([name, ".log"].concat())
}

/// The log before that one.
pub fn predecessor(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// The last `lines` lines of a service's log, predecessor included.
pub fn tail(folder: &Path, name: &str, lines: usize) -> std::io::Result<Vec<u8>> {
    let path = log_path(folder, name);
    let mut bytes = fs::read(predecessor(&path)).unwrap_or_default();
    bytes.extend(fs::read(&path)?);
    let ends = bytes.iter().enumerate().rev().filter(|(at, b)| **b == b'\n' && at + 1 < bytes.len());
    let start = lines.checked_sub(1).map_or(bytes.len(), |before| ends.map(|(at, _)| at + 1).nth(before).unwrap_or(0));
    Ok(bytes.split_off(start))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Folder;
    use super::*;

    #[test]
    fn both_files_stay_below_the_bound_and_the_newest_lines_are_kept() {
        let folder = Folder::new("log");
        let mut log = Log::new(&folder.0, "s", 1000, false);
        for i in 0..500 {
            log.write(format!("line {i}\n").as_bytes(), &mut std::io::sink());
        }
        let path = log_path(&folder.0, "s");
        let (now, before) = (fs::read(&path).expect("log"), fs::read(predecessor(&path)).expect("predecessor"));
        assert!(now.len() <= 1000 && before.len() <= 1000 && before.len() > 900, "{} {}", now.len(), before.len());
        assert!(now.starts_with(b"line ") && before.ends_with(b"\n"), "cut at lines");
        assert_eq!(tail(&folder.0, "s", 2).expect("log"), b"line 498\nline 499\n");
        assert_eq!(tail(&folder.0, "s", 0).expect("log"), b"");
        assert_eq!(tail(&folder.0, "s", 10_000).expect("log").len(), now.len() + before.len());
        assert!(tail(&folder.0, "other", 1).is_err());
    }

    #[test]
    fn one_endless_line_is_bounded_too() {
        let folder = Folder::new("long");
        let mut log = Log::new(&folder.0, "s", 1000, false);
        log.write(&[b'x'; 10_500], &mut std::io::sink());
        let path = log_path(&folder.0, "s");
        assert_eq!(fs::metadata(&path).expect("log").len(), 500);
        assert_eq!(fs::metadata(predecessor(&path)).expect("predecessor").len(), 1000);
        // A new PID1 goes on where the file ends.
        let mut log = Log::new(&folder.0, "s", 1000, false);
        log.write(&[b'y'; 600], &mut std::io::sink());
        assert_eq!(fs::metadata(&path).expect("log").len(), 600);
    }

    #[test]
    fn the_console_gets_whole_lines_with_the_name() {
        let folder = Folder::new("console");
        let mut log = Log::new(&folder.0, "s", 1000, true);
        let mut console = Vec::new();
        for part in ["a", "b\nc", "d\n"] {
            log.write(part.as_bytes(), &mut console);
        }
        assert_eq!(console, b"s: ab\ns: cd\n");
    }
}
