//! Logs of services: for each a file of bounded size, and the file before it.
//!
//! A write can hang, when the file is on a root or volume whose server is away. So a thread does all writes. Output
//! that it cannot take in time is lost, and the file says how much that was.

use crate::base::backlog::Backlog;
use crate::base::timeline::Timeline;
use crate::run::service::copy::ConsoleCopy;
use bootwright_base::background;
use bootwright_contract::Service;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// At most so many bytes of a service's output wait for the thread. Others are lost.
const MOST_PENDING: usize = 64 << 10;
/// Stack of the thread, in bytes.
const STACK: usize = 64 << 10;
/// How long the thread may take for its last writes in a shutdown.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// The logs of all services, in the order of the services. No method waits for a file, except for a moment in `close`.
#[derive(Default)]
pub struct ServiceLogs {
    queue: Arc<LogQueue>,
    /// For services whose output is also copied to the console.
    copies: Vec<Option<ConsoleCopy>>,
}

#[derive(Default)]
struct LogQueue {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    /// For each service the bytes that the thread has not taken yet.
    pending: Vec<Backlog>,
    is_closing: bool,
    /// Whether the thread has closed all files.
    is_closed: bool,
}

impl ServiceLogs {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(folder: &Path, services: &[Service], timeline: Arc<Timeline>) -> ServiceLogs {
        if services.is_empty() {
            return ServiceLogs::default();
        }
        let copy = |service: &Service| service.console.then(|| ConsoleCopy::new(&service.name, timeline.clone()));
        let logs = ServiceLogs { queue: Arc::default(), copies: services.iter().map(copy).collect() };
        logs.queue.lock().pending.resize_with(services.len(), Backlog::default);
        let open = |service: &Service| LogFile::new(folder, &service.name, u64::from(service.log_kib) * 1024);
        let mut files: Vec<LogFile> = services.iter().map(open).collect();
        let queue = logs.queue.clone();
        let work = move || {
            queue.write_to(&mut files);
            drop(files);
            queue.lock().is_closed = true;
            queue.changed.notify_all();
        };
        if let Err(error) = background::spawn_small("logs", STACK, Box::new(work)) {
            timeline.note(&["services have no logs: ", &error.to_string()].concat());
        }
        logs
    }

    /// Takes output of a service.
    pub fn take(&mut self, service: usize, bytes: &[u8]) {
        if let Some(Some(copy)) = self.copies.get_mut(service) {
            copy.write(bytes);
        }
        if let Some(pending) = self.queue.lock().pending.get_mut(service) {
            pending.add(bytes, MOST_PENDING);
        }
        self.queue.changed.notify_all();
    }

    /// Has the thread write what is left and close the files; waits for that up to [`CLOSE_WAIT`].
    pub fn close(self) {
        let mut state = self.queue.lock();
        state.is_closing = true;
        self.queue.changed.notify_all();
        let is_open = |state: &mut LogState| !state.is_closed && !state.pending.is_empty();
        // A write that has not ended by then hangs.
        drop(self.queue.changed.wait_timeout_while(state, CLOSE_WAIT, is_open));
    }
}

impl LogQueue {
    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of the thread.
    fn write_to(&self, files: &mut [LogFile]) {
        let mut state = self.lock();
        loop {
            let next = state.pending.iter_mut().zip(&mut *files).find(|(pending, _)| !pending.is_empty());
            let Some((pending, file)) = next else {
                if state.is_closing {
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let Backlog { bytes, lost } = std::mem::take(pending);
            drop(state);
            file.write(&bytes);
            file.lose(lost);
            state = self.lock();
        }
    }
}

/// Writes `<name>.log`. When the file would exceed its limit, it becomes `<name>.log.1`, and a new one begins.
struct LogFile {
    path: PathBuf,
    limit: u64,
    file: Option<File>,
    size: u64,
    /// Bytes that were lost since the last successful write.
    lost: u64,
}

impl LogFile {
    /// The log of a service, with at most `limit` bytes in each file.
    fn new(folder: &Path, name: &str, limit: u64) -> LogFile {
        LogFile { path: log_path(folder, name), limit, file: None, size: 0, lost: 0 }
    }

    /// Writes output. Bytes that cannot be written (`/var/log` is full) are lost; the next successful write says how
    /// many.
    fn write(&mut self, bytes: &[u8]) {
        if self.lost > 0 {
            let mark = ["\nbootwright: ", &self.lost.to_string(), " bytes of output were lost here\n"].concat();
            if self.append(mark.as_bytes()).is_err() {
                self.lost += bytes.len() as u64;
                return;
            }
            self.lost = 0;
        }
        self.lost += self.append(bytes).err().unwrap_or(0);
    }

    /// Counts bytes that were lost before they came here.
    fn lose(&mut self, bytes: u64) {
        self.lost += bytes;
        if bytes > 0 {
            self.write(b"");
        }
    }

    /// Appends bytes. The error is the number of bytes that were not written.
    fn append(&mut self, mut bytes: &[u8]) -> Result<(), u64> {
        while !bytes.is_empty() && self.limit > 0 {
            let lost = Err(bytes.len() as u64);
            if self.open().is_err() {
                return lost;
            }
            if self.size >= self.limit {
                self.rotate();
                continue;
            }
            let room = usize::try_from(self.limit - self.size).unwrap_or(usize::MAX).min(bytes.len());
            // A rotation does not split lines, unless a line is longer than the limit.
            let cut = match bytes[..room].iter().rposition(|b| *b == b'\n') {
                _ if room == bytes.len() => room,
                Some(end) => end + 1,
                None if self.size > 0 => {
                    self.rotate();
                    continue;
                }
                None => room,
            };
            let Some(file) = &mut self.file else { return lost };
            if file.write_all(&bytes[..cut]).is_err() {
                self.file = None;
                return lost;
            }
            self.size += cut as u64;
            bytes = &bytes[cut..];
        }
        Ok(())
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
            // When the rename fails, old lines are dropped, because the log must not exceed its limit.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The path of a service's log.
pub fn log_path(folder: &Path, name: &str) -> PathBuf {
    folder.join([name, ".log"].concat())
}

/// The path of the log before it.
pub fn predecessor(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// The last `lines` lines of a service's log, also from the file before it.
///
/// # Errors
/// When the log cannot be read.
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
    use bootwright_contract::fixture::service;
    use std::time::Instant;

    #[test]
    fn both_files_stay_below_the_bound_and_the_newest_lines_are_kept() {
        let folder = Folder::new("log");
        let mut log = LogFile::new(&folder.0, "s", 1000);
        for i in 0..500 {
            log.write(format!("line {i}\n").as_bytes());
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
        let mut log = LogFile::new(&folder.0, "s", 1000);
        log.write(&[b'x'; 10_500]);
        let path = log_path(&folder.0, "s");
        assert_eq!(fs::metadata(&path).expect("log").len(), 500);
        assert_eq!(fs::metadata(predecessor(&path)).expect("predecessor").len(), 1000);
        // A new PID1 goes on where the file ends.
        let mut log = LogFile::new(&folder.0, "s", 1000);
        log.write(&[b'y'; 600]);
        assert_eq!(fs::metadata(&path).expect("log").len(), 600);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let folder = Folder::new("lost");
        let mut log = LogFile::new(&folder.0.join("sub"), "s", 1000);
        // A file in place of the folder.
        fs::write(folder.0.join("sub"), "").expect("writable");
        log.write(b"abc\n");
        log.write(b"de\n");
        fs::remove_file(folder.0.join("sub")).expect("ours");
        log.write(b"f\n");
        log.write(b"g\n");
        let text = tail(&folder.0.join("sub"), "s", 10).expect("log");
        assert_eq!(String::from_utf8_lossy(&text), "\nbootwright: 7 bytes of output were lost here\nf\ng\n");
    }

    fn fill(logs: &mut ServiceLogs, service: usize, count: usize) {
        for _ in 0..count {
            logs.take(service, &[b'x'; 1024]);
        }
    }

    /// Opening a fifo for writing waits for a reader (fifo(7)), as a file waits for a server that is away.
    #[test]
    fn a_file_that_hangs_holds_up_nobody_and_what_is_lost_is_counted() {
        let folder = Folder::new("hangs");
        let path = log_path(&folder.0, "s");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        let timeline = Arc::new(Timeline::new(&[], Box::new(std::io::sink())));
        let mut logged = service("s", &["/bin/true"]);
        logged.log_kib = 1000;
        let mut logs = ServiceLogs::start(&folder.0, &[logged], timeline);
        let begin = Instant::now();
        logs.take(0, b"first\n");
        fill(&mut logs, 0, 200);
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        // The thread takes the first line, or some more, before it hangs: the rest fills the queue.
        let (kept, lost) = {
            let state = logs.queue.lock();
            (state.pending[0].bytes.len(), state.pending[0].lost)
        };
        assert!(kept <= MOST_PENDING && lost >= 200 * 1024 - 2 * MOST_PENDING as u64, "{kept} {lost}");
        let reader = std::thread::spawn(move || fs::read(path).expect("readable"));
        logs.close();
        let text = String::from_utf8(reader.join().expect("no panic")).expect("text");
        assert!(text.starts_with("first\nxxx"), "{text:.80}");
        assert!(text.ends_with(&format!("\nbootwright: {lost} bytes of output were lost here\n")), "{lost}");
        assert_eq!(text.matches('x').count() as u64 + lost, 200 * 1024);
    }

    #[test]
    fn a_hanging_file_does_not_hold_the_way_down() {
        let folder = Folder::new("down-hangs");
        nix::unistd::mkfifo(&log_path(&folder.0, "s"), nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        let timeline = Arc::new(Timeline::new(&[], Box::new(std::io::sink())));
        let mut logs = ServiceLogs::start(&folder.0, &[service("s", &["/bin/true"])], timeline);
        logs.take(0, b"x\n");
        let begin = Instant::now();
        logs.close();
        assert!(begin.elapsed() >= CLOSE_WAIT && begin.elapsed() < 10 * CLOSE_WAIT, "{:?}", begin.elapsed());
        let begin = Instant::now();
        ServiceLogs::default().close();
        assert!(begin.elapsed() < CLOSE_WAIT, "there is nothing to close");
    }
}
