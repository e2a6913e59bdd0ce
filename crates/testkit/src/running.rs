//! A machine that goes on after its smoke boot.

use crate::folders::project_root;
use crate::tool::tool_path;
use serde_json::Value;
use std::io::BufReader;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ends when it is dropped.
pub struct Running {
    pub tool: Child,
    /// The document of `--json`.
    pub report: Value,
}

impl Running {
    /// `smoke --keep` with these arguments; returns when the expectations are reached. The console goes to `console`.
    pub fn boot(args: &[String], console: Stdio) -> Self {
        let running = Self::keep(args, console);
        assert_eq!(running.report["passed"], true, "{:#}", running.report);
        running
    }

    /// The same for a machine that does not reach them.
    pub fn keep_failed(args: &[String], console: Stdio) -> Self {
        let running = Self::keep(args, console);
        assert_eq!(running.report["passed"], false, "{:#}", running.report);
        running
    }

    fn keep(args: &[String], console: Stdio) -> Self {
        let mut command = Command::new(tool_path());
        command.current_dir(project_root()).args(["smoke", "--keep", "--json"]).args(args);
        let mut tool =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(console).spawn().expect("the tool was built");
        let stdout = BufReader::new(tool.stdout.take().expect("standard output was set to a pipe"));
        // The tool has a deadline, so this has one too.
        let report = serde_json::Deserializer::from_reader(stdout).into_iter().next();
        let report: Value = report.expect("the tool prints a report").expect("the report is JSON");
        Self { tool, report }
    }

    pub fn ssh_port(&self) -> u16 {
        let port = self.report["ssh_port"].as_u64().and_then(|port| port.try_into().ok());
        port.expect("a kept machine has an SSH port")
    }

    pub fn qemu_pid(&self) -> u64 {
        self.report["qemu_pid"].as_u64().expect("a kept machine has a process")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // QEMU dies with it; both calls only fail when it has ended already.
        let _ = self.tool.kill();
        let _ = self.tool.wait();
    }
}

/// Whether a process runs: neither gone nor a zombie (proc(5), third field of `stat`).
pub fn runs(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Waits until a condition holds.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {} s: {what}", limit.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A port of the loopback address that nobody has.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}
