//! dnsmasq as a child: DHCP or proxyDHCP, and TFTP, with the configuration of the boot chain.

use super::ServeError;
use super::http::Folder;
use super::log::{Log, Weight};
use super::text::shown;
use super::tftp::TftpRoot;
use crate::interrupt::ProcessGroup;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Transfers by TFTP at the same time: a rack that starts; dnsmasq's own number is 50.
const TRANSFERS: u32 = 500;
/// Bytes of a line of dnsmasq's; what a machine sends may stand in it.
const LINE: u64 = 1000;
/// Lines of dnsmasq's that wait to be said.
const LINES: usize = 1000;

/// Runs the command that it is given, and kills the whole group when standard input is closed: as long as this process lives, nobody
/// closes the other end. The kernel's own signal for that (PR_SET_PDEATHSIG) does not reach dnsmasq, which changes its user.
const GUARD: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
dnsmasq=$!
{ read -r never; kill -s KILL 0; } <&3 &
wait $dnsmasq
"#;

/// A running dnsmasq; it ends on drop, and when this process ends, however it does.
#[derive(Debug)]
pub struct Dnsmasq {
    group: ProcessGroup,
    lines: Receiver<String>,
    last: String,
    tftp: TftpRoot,
}

impl Dnsmasq {
    /// Starts it with `config`. TFTP serves iPXE from `loaders`, and what is for machines in `folder`.
    pub fn start(config: &Path, folder: &Folder, loaders: &Path) -> Result<Self, ServeError> {
        let tftp = TftpRoot::new(folder.clone(), loaders)?;
        let program = find().ok_or(ServeError::NoDnsmasq { cause: ErrorKind::NotFound.into() })?;
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh"]).arg(program);
        command.args(["--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--leasefile-ro", "--pid-file="]);
        command.arg(format!("--conf-file={}", config.display())).arg("--enable-tftp");
        command.arg(format!("--tftp-root={}", tftp.path().display())).arg(format!("--tftp-max={TRANSFERS}"));
        // Whoever holds the child holds the other end of its standard input.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut group = ProcessGroup::spawn(&mut command).map_err(|cause| ServeError::NoDnsmasq { cause })?;
        let stderr = group.child().stderr.take().expect("standard error was set to a pipe");
        let (sender, lines) = sync_channel(LINES);
        std::thread::spawn(move || pass_on(stderr, &sender));
        Ok(Self { group, lines, last: String::new(), tftp })
    }

    /// Passes on what it said; an error when it has ended.
    pub fn check(&mut self, log: &Log) -> Result<(), ServeError> {
        let ended = self.group.child().try_wait().ok().flatten();
        for line in self.lines.try_iter() {
            log.say(Weight::Line, line.clone());
            self.last = line;
        }
        if let Some(status) = ended {
            return Err(ServeError::DnsmasqEnded { status: status.to_string(), said: self.last.clone() });
        }
        self.tftp.renew()
    }
}

/// Reads lines until the end: a pipe that is not read holds dnsmasq up. What finds no room is dropped.
fn pass_on(stderr: impl Read, lines: &SyncSender<String>) {
    let mut stderr = BufReader::new(stderr);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        // A longer line comes in pieces.
        match stderr.by_ref().take(LINE).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&bytes);
        let line = shown(line.trim_end_matches(['\n', '\r']), bytes.len()).into_owned();
        if let Err(TrySendError::Disconnected(_)) = lines.try_send(line) {
            return;
        }
    }
}

/// Debian has dnsmasq in a folder that is not on everybody's path.
fn find() -> Option<PathBuf> {
    let mut path: OsString = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    std::env::split_paths(&path).map(|dir| dir.join("dnsmasq")).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_to_the_end_whatever_stands_in_them() {
        let (sender, lines) = sync_channel(LINES);
        let said = [&b"one\nfile \xff\x1b[2J\x9b not found\r\n"[..], &[b'x'; 2500], b"\nlast"].concat();
        pass_on(&said[..], &sender);
        drop(sender);
        let lines: Vec<String> = lines.iter().collect();
        assert_eq!(lines[..2], ["one", "file \u{fffd}\u{fffd}[2J\u{fffd} not found"]);
        assert_eq!(lines.last().unwrap(), "last");
        assert!(lines.iter().all(|line| line.len() <= LINE as usize));
    }
}
