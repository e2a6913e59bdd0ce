//! Hands out the logs of the kernel and of all services on a serial port, whenever the other end asks: `bw.logs=DEVICE`. A smoke
//! test has no other way to them when the network or sshd is what failed. What is written there is
//! [`bootwright_contract::log_port`].
//!
//! A thread does all of it, because the port and the files of the logs can hang. It sleeps until it is asked.

use crate::base::console::Terminal;
use crate::base::node::Node;
use crate::run::service::{ServicePaths, log_path, predecessor};
use bootwright_base::background;
use bootwright_contract::log_port::{END, KERNEL, REQUEST, header};
use nix::errno::Errno;
use nix::libc;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Longest record of `/dev/kmsg`, in bytes: read(2) refuses a shorter buffer (kernel/printk/internal.h,
/// `PRINTK_MESSAGE_MAX`).
const RECORD: usize = 8192;
/// At most so many bytes of the kernel's log are written: it may grow faster than the port takes it.
const MOST_KERNEL: usize = 4 << 20;
/// Stack of the thread in bytes.
const STACK: usize = 64 << 10;

/// Starts the thread if the kernel command line names a port.
pub fn spawn(node: &Arc<Node>) {
    let Some(path) = node.cmdline.value("bw.logs").map(String::from) else { return };
    let for_thread = node.clone();
    let work = move || {
        if let Err(error) = answer_requests(&for_thread, Path::new(&path)) {
            for_thread.timeline.note(&["no logs to `", &path, "` of bw.logs: ", &error.to_string()].concat());
        }
    };
    if let Err(error) = background::spawn_small("log port", STACK, Box::new(work)) {
        node.timeline.note(&["no logs to the port of bw.logs: ", &error.to_string()].concat());
    }
}

/// The body of the thread, which ends when the port fails.
fn answer_requests(node: &Node, path: &Path) -> io::Result<()> {
    let mut requests = OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY).open(path)?;
    // Otherwise the line discipline would send requests back, and change newlines.
    let mut mode = tcgetattr(&requests)?;
    cfmakeraw(&mut mode);
    tcsetattr(&requests, SetArg::TCSANOW, &mode)?;
    let mut port = Terminal::open(path)?;
    let names: Vec<&str> = node.config.services.iter().map(|service| service.name.as_str()).collect();
    let mut byte = [0];
    loop {
        requests.read_exact(&mut byte)?;
        if byte == [REQUEST] {
            let mut send = |bytes: &[u8]| port.write_until(bytes, None);
            write_logs(&ServicePaths::node().logs, &names, &mut send)?;
        }
    }
}

/// Writes all logs. One that cannot be read is left out.
fn write_logs(folder: &Path, services: &[&str], send: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    write_kernel_log(send)?;
    for name in services {
        let path = log_path(folder, name);
        // Opened before the log that precedes it: a rotation in between would hide it.
        let (Ok(log), before) = (open_file(&path), open_file(&predecessor(&path))) else { continue };
        let before = before.ok().filter(|before| !is_same(before, &log));
        if let Some(before) = before {
            write_file(&[name, ".log.1"].concat(), before, send)?;
        }
        write_file(&[name, ".log"].concat(), log, send)?;
    }
    send([END, "\n"].concat().as_bytes())
}

fn write_kernel_log(send: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let Ok(mut log) = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg") else {
        return Ok(());
    };
    let (mut buffer, mut written) = (vec![0; RECORD], 0);
    while written < MOST_KERNEL {
        match log.read(&mut buffer) {
            Ok(length) => {
                write_piece(KERNEL, buffer.get(..length).unwrap_or_default(), send)?;
                written += length;
            }
            // Records were overwritten meanwhile; the next read gives the oldest that is left. Their numbers show the gap.
            Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => {}
            // It was the last record.
            Err(_) => break,
        }
    }
    Ok(())
}

/// A log is a file. A service may have put something there that would hang.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn is_same(a: &File, b: &File) -> bool {
    let id = |file: &File| file.metadata().map(|data| (data.dev(), data.ino())).ok();
    id(a) == id(b)
}

/// Writes as much of a log as it holds now.
fn write_file(name: &str, file: File, send: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let size = file.metadata().map_or(0, |data| data.len());
    let (mut file, mut buffer) = (file.take(size), [0; 4096]);
    while let Ok(length @ 1..) = file.read(&mut buffer) {
        write_piece(name, buffer.get(..length).unwrap_or_default(), send)?;
    }
    Ok(())
}

fn write_piece(name: &str, bytes: &[u8], send: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    send(header(name, bytes.len()).as_bytes())?;
    send(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_contract::log_port::{Piece, next_piece};
    use std::collections::BTreeMap;

    fn written(folder: &Path, services: &[&str]) -> BTreeMap<String, Vec<u8>> {
        let mut answer = Vec::new();
        let mut send = |bytes: &[u8]| {
            answer.extend_from_slice(bytes);
            Ok(())
        };
        write_logs(folder, services, &mut send).expect("a vector takes all");
        let (mut logs, mut answer) = (BTreeMap::<String, Vec<u8>>::new(), &answer[..]);
        while let Piece::Bytes { log, bytes, rest } = next_piece(answer) {
            logs.entry(log.into()).or_default().extend_from_slice(bytes);
            answer = rest;
        }
        assert_eq!(next_piece(answer), Piece::End);
        // The host's own, where a test may read it.
        logs.remove(KERNEL);
        logs
    }

    #[test]
    fn each_service_gives_the_log_that_it_has() {
        let folder = tempfile::tempdir().expect("writable");
        let path = |name: &str| folder.path().join(name);
        let long: Vec<u8> = (0..10_000).map(|i: u32| i.to_le_bytes()[0]).collect();
        std::fs::write(path("web.log"), &long).expect("writable");
        std::fs::write(path("web.log.1"), "before\n").expect("writable");
        std::fs::write(path("silent.log"), "").expect("writable");
        std::os::unix::fs::symlink("web.log", path("link.log")).expect("a link");
        nix::unistd::mkfifo(&path("fifo.log"), nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        let logs = written(folder.path(), &["web", "silent", "link", "fifo", "none"]);
        let expected = [("web.log.1".to_string(), b"before\n".to_vec()), ("web.log".into(), long)];
        assert_eq!(logs, BTreeMap::from(expected));
    }

    #[test]
    fn a_log_that_was_rotated_meanwhile_is_not_given_twice() {
        let folder = tempfile::tempdir().expect("writable");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("web.log"), "x\n").expect("writable");
        std::fs::hard_link(path("web.log"), path("web.log.1")).expect("a link");
        let logs = written(folder.path(), &["web"]);
        assert_eq!(logs, BTreeMap::from([("web.log".to_string(), b"x\n".to_vec())]));
    }
}
