//! Smoke boots by way of the tool. As many run at once as the tests have threads: one for each processor.

use crate::console;
use crate::folders::project_root;
use crate::image::Image;
use crate::qmp::qmp;
pub use crate::running::{Running, free_port, runs, wait_until};
use crate::tool::{tool, tool_path};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Longer than any deadline of a recipe.
const LIMIT: Duration = Duration::from_secs(600);

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

    /// What the machine has said.
    pub fn console(&self) -> String {
        console::read(&self.logs.join("console.log"))
    }

    /// The guest's uptime at which an expectation was reached.
    pub fn uptime_s(&self, expectation: &str) -> Option<f64> {
        uptime_s(&self.report, expectation)
    }

    #[track_caller]
    pub fn assert_passed(&self) {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stderr, self.console());
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
    let mut command = std::process::Command::new(tool_path());
    command.current_dir(project_root()).arg("smoke").args(image.arguments()).args(args);
    let mut tool = command.stdout(Stdio::null()).spawn().expect("the tool was built");
    // The tool has a deadline, so this has one too.
    while !image.console().contains(text) && tool.try_wait().expect("it is our child").is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    // QEMU dies with it; both calls only fail when it has ended already.
    let _ = tool.kill();
    let _ = tool.wait();
    let console = image.console();
    assert!(console.contains(text), "no {text:?} in\n{console}");
    console
}

impl Running {
    /// Boots with `--keep` and returns when the expectations are reached.
    pub fn start(image: &Image, args: &[&str]) -> Self {
        let args = image.arguments().into_iter().chain(args.iter().map(|arg| arg.to_string()));
        Running::boot(&args.collect::<Vec<_>>(), Stdio::inherit())
    }

    /// As for [`Outcome`].
    pub fn uptime_s(&self, expectation: &str) -> Option<f64> {
        uptime_s(&self.report, expectation)
    }

    /// One command of QEMU's machine protocol.
    pub fn command(&self, name: &str, arguments: Value) {
        qmp(Path::new(self.report["qmp_socket"].as_str().expect("a kept machine has a monitor")), name, arguments);
    }

    /// Sends the tool a signal by name.
    pub fn signal(&self, name: &str) {
        let pid = self.tool.id().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().expect("kill runs").success());
    }
}
