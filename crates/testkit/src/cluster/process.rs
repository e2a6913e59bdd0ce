//! One program of a control plane, with its log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a failure shows of a log.
const SHOWN_LINES: usize = 40;

pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with its log in `folder`.
    pub fn start(program: &Path, arguments: &[String], folder: &Path) -> Self {
        let name = program.file_name().expect("a program has a name").to_string_lossy();
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).expect("the folder is the test's own");
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).stdin(Stdio::null());
        command.stdout(file.try_clone().expect("a descriptor")).stderr(file);
        bootwright::interrupt::die_with_parent(&mut command);
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a condition holds; fails with the end of its log when it does not, or when the program ends.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + limit;
        while !holds() {
            let ended = self.child.try_wait().expect("it is our child");
            assert!(ended.is_none() && Instant::now() < deadline, "not so: {what}; {ended:?}\n{}", self.log_end());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn log_end(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // By SIGKILL: in order an API server takes up to a minute. Both calls only fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
