//! A running QEMU: started so that it never outlives this process, ended on drop.

use super::SmokeError;
use super::qmp::Qmp;
use crate::interrupt;
use bootwright_contract::console::untangle::Untangler;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Longest console line; what exceeds it is split.
const LINE_BYTES: u64 = 16 * 1024;
/// How long a killed QEMU may take to go away before it is left to the kernel: one that hangs in KVM may be stuck.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// What a QEMU process tells.
#[derive(Debug)]
pub enum Output {
    /// A whole line of the first serial port, control characters dropped.
    Line(String),
    /// Standard output was closed: QEMU has ended, or is about to.
    End,
}

/// A child process with its console.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    pub output: Receiver<Output>,
    pub input: Option<ChildStdin>,
    stderr: PathBuf,
    qmp: Option<PathBuf>,
}

impl Machine {
    /// Starts `program` with `args`. Each console byte goes to `log` as it comes; standard error goes to the file `stderr`.
    ///
    /// The calling thread has to live as long as the machine: its death kills QEMU (PR_SET_PDEATHSIG, prctl(2)).
    pub fn start(
        program: &str,
        args: &[OsString],
        log: std::fs::File,
        stderr: &Path,
        qmp: Option<&Path>,
    ) -> Result<Self, SmokeError> {
        let errors = std::fs::File::create(stderr).map_err(|cause| SmokeError::io("write", stderr, cause))?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        // A group of its own: Ctrl-C reaches this process alone, which then ends QEMU in order.
        command.process_group(0);
        interrupt::die_with_parent(&mut command);
        let mut child = command.spawn().map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound => SmokeError::MissingQemu { program: program.into() },
            _ => SmokeError::Start { program: program.into(), cause },
        })?;
        let stdout = child.stdout.take().expect("standard output was set to a pipe");
        let input = child.stdin.take();
        let (sender, output) = channel();
        std::thread::spawn(move || read_console(stdout, log, &sender));
        Ok(Self { child, output, input, stderr: stderr.into(), qmp: qmp.map(Path::to_path_buf) })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status if QEMU has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until QEMU has ended, at most until `deadline`.
    pub fn wait(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            match self.ended() {
                Some(status) => return Some(status),
                None if Instant::now() >= deadline => return None,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// What QEMU itself complained about, trimmed.
    pub fn complaint(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default().trim().into()
    }

    /// A QMP connection, made anew: QEMU serves one at a time.
    pub fn qmp(&self, deadline: Instant) -> Result<Qmp, SmokeError> {
        let socket = self.qmp.as_deref().ok_or(SmokeError::Qmp { problem: "no socket was asked for".into() })?;
        Qmp::connect(socket, deadline)
    }

    /// Kills QEMU and waits for its end.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            // An error means that it has ended in between.
            let _ = self.child.kill();
            self.wait(Instant::now() + KILL_WAIT);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_console(stdout: impl Read, mut log: std::fs::File, sender: &Sender<Output>) {
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    let mut untangler = Untangler::default();
    loop {
        line.clear();
        match (&mut stdout).take(LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        // The log is for people: a full disk must not stop the boot from being watched.
        let _ = log.write_all(&line);
        let whole = untangler.feed(&String::from_utf8_lossy(&line));
        if whole.into_iter().any(|line| sender.send(Output::Line(line)).is_err()) {
            break;
        }
    }
    // Nobody may listen any more.
    let rest = untangler.end().map(Output::Line);
    let _ = rest.into_iter().chain([Output::End]).try_for_each(|last| sender.send(last));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str, dir: &Path) -> Machine {
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let args = ["-c", script].map(OsString::from);
        Machine::start("sh", &args, log, &dir.join("err"), None).unwrap()
    }

    #[test]
    fn lines_log_and_complaint_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut machine = start(
            "printf '\\033[1mo[    1.000000] two\\r\\nne\\r\\nthr[    1.000001] four\\r\\n'; echo bad >&2; exit 3",
            dir.path(),
        );
        let lines: Vec<String> = machine
            .output
            .iter()
            .map_while(|o| match o {
                Output::Line(line) => Some(line),
                Output::End => None,
            })
            .collect();
        assert_eq!(lines, ["[    1.000000] two", "one", "[    1.000001] four", "thr"]);
        let status = machine.wait(Instant::now() + Duration::from_secs(10)).unwrap();
        assert_eq!((status.code(), machine.complaint().as_str()), (Some(3), "bad"));
        assert_eq!(
            std::fs::read(dir.path().join("log")).unwrap(),
            b"\x1b[1mo[    1.000000] two\r\nne\r\nthr[    1.000001] four\r\n"
        );
    }

    #[test]
    fn drop_ends_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let machine = start("exec sleep 1000", dir.path());
        let proc = PathBuf::from(format!("/proc/{}", machine.pid()));
        assert!(proc.exists());
        drop(machine);
        assert!(!proc.exists());
    }

    #[test]
    fn a_missing_program_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let error = Machine::start("no-such-qemu", &[], log, &dir.path().join("err"), None).unwrap_err();
        assert!(matches!(error, SmokeError::MissingQemu { program } if program == "no-such-qemu"));
    }
}
