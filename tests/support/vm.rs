//! Smoke boots by way of the tool, one at a time: several at once on few processors would miss each other's deadlines.

use super::image::{Image, tool};
use serde_json::Value;
use std::io::BufReader;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longer than any deadline of a recipe.
const LIMIT: Duration = Duration::from_secs(600);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Held while a machine runs.
pub fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a smoke boot ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    /// The document of `--json`; null where there is none.
    pub report: Value,
    pub stderr: String,
    /// The image's `smoke/` folder.
    pub logs: PathBuf,
}

impl Outcome {
    pub fn log(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.logs.join(name)).unwrap_or_default()).into_owned()
    }

    /// The guest's uptime at which an expectation was reached.
    pub fn uptime_s(&self, expectation: &str) -> Option<f64> {
        uptime_s(&self.report, expectation)
    }

    #[track_caller]
    pub fn assert_passed(&self) {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stderr, self.log("console.log"));
        assert_eq!(self.report["passed"], true);
    }

    /// Exit code 5 and a reason that says so.
    #[track_caller]
    pub fn assert_failed(&self, reason: &str) {
        assert_eq!(self.code, Some(5), "{}", self.stderr);
        assert!(self.stderr.contains(reason), "no {reason:?} in:\n{}", self.stderr);
        assert_eq!(self.report["passed"], false);
        assert!(self.report["failure"].is_string(), "{:#}", self.report);
        assert!(self.stderr.contains("run it again (Ctrl-A X ends it): qemu-system-x86_64 "), "{}", self.stderr);
        assert!(self.log("junit.xml").contains("<failure"), "{}", self.log("junit.xml"));
    }
}

fn uptime_s(report: &Value, expectation: &str) -> Option<f64> {
    let all = report["expectations"].as_array()?;
    all.iter().find(|e| e["expectation"] == expectation)?["uptime_s"].as_f64()
}

/// Boots an image to the end of its smoke test.
pub fn smoke(image: &Image, args: &[&str]) -> Outcome {
    let _turn = turn();
    let output = tool().args(["smoke", "--json"]).args(image.arguments()).args(args).timeout(LIMIT).output();
    let output = output.expect("the tool was built and ends within the limit");
    Outcome {
        code: output.status.code(),
        report: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        logs: image.dir().join("smoke"),
    }
}

/// Boots an image, and ends the machine when its console has said `text`; all that it said.
pub fn boot_until(image: &Image, args: &[&str], text: &str) -> String {
    let _turn = turn();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bootwright"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("smoke").args(image.arguments()).args(args);
    let mut tool = command.stdout(Stdio::null()).spawn().expect("the tool was built");
    let log = image.dir().join("smoke/console.log");
    let read = || String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    // The tool has a deadline, so this has one too.
    while !read().contains(text) && tool.try_wait().expect("it is our child").is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    // QEMU dies with it; both calls only fail when it has ended already.
    let _ = tool.kill();
    let _ = tool.wait();
    let console = read();
    assert!(console.contains(text), "no {text:?} in\n{console}");
    console
}

/// A machine that goes on after its smoke boot.
pub struct Running {
    pub tool: Child,
    /// The document of `--json`.
    pub report: Value,
    _turn: MutexGuard<'static, ()>,
}

impl Running {
    /// Boots with `--keep` and returns when the expectations are reached.
    pub fn start(image: &Image, args: &[&str]) -> Self {
        let turn = turn();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bootwright"));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["smoke", "--keep", "--json"]);
        command.args(image.arguments()).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut tool = command.spawn().expect("the tool was built");
        let stdout = BufReader::new(tool.stdout.take().expect("standard output was set to a pipe"));
        // The tool has a deadline, so this has one too.
        let report = serde_json::Deserializer::from_reader(stdout).into_iter().next();
        let report: Value = report.expect("the tool prints a report").expect("the report is JSON");
        assert_eq!(report["passed"], true, "{report:#}");
        Self { tool, report, _turn: turn }
    }

    /// As for [`Outcome`].
    pub fn uptime_s(&self, expectation: &str) -> Option<f64> {
        uptime_s(&self.report, expectation)
    }

    pub fn ssh_port(&self) -> u16 {
        let port = self.report["ssh_port"].as_u64().and_then(|port| port.try_into().ok());
        port.expect("a kept machine has an SSH port")
    }

    pub fn qemu_pid(&self) -> u64 {
        self.report["qemu_pid"].as_u64().expect("a kept machine has a process")
    }

    /// Sends the tool a signal by name.
    pub fn signal(&self, name: &str) {
        let pid = self.tool.id().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().expect("kill runs").success());
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
