//! What can go wrong in a smoke boot.

use super::accel::KvmProblem;
use super::console::Trouble;
use super::logs::{LogsError, ServiceTail};
use super::{SmokeReport, qemu};
use crate::error::{Exit, Failure};
use crate::recipe::Expectation;
use crate::report::ReportError;
use std::fmt;
use std::path::{Path, PathBuf};

/// Exit code 5 for a boot that did not get there, 1 for what kept it from being tried.
#[derive(Debug, thiserror::Error)]
pub enum SmokeError {
    #[error("no image to boot: `{}` is missing", path.display())]
    NoImage { path: PathBuf, recipe: String },
    #[error("`{program}` is missing")]
    MissingQemu { program: String },
    #[error("there is no UEFI firmware for QEMU here")]
    NoFirmware,
    #[error("cannot start `{program}`: {cause}")]
    Start { program: String, cause: std::io::Error },
    #[error("KVM does not work here: {problem}")]
    Kvm { problem: KvmProblem },
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("cannot talk to QEMU's monitor: {problem}")]
    Qmp { problem: String },
    #[error("cannot serve the image over HTTP: {cause}")]
    Server { cause: std::io::Error },
    #[error("cannot watch for signals: {cause}")]
    Signals { cause: std::io::Error },
    #[error("cannot write the JUnit report: {problem}")]
    Junit { problem: String },
    #[error(transparent)]
    Report(ReportError),
    #[error("PID1 did not hand out its logs: {problem}")]
    Logs { problem: LogsError },
    #[error("interrupted")]
    Interrupted,
    #[error("{0}")]
    Failed(Box<FailedBoot>),
    #[error("nothing to try: {ram_mib} MiB is less than {least_mib} MiB")]
    NothingToTry { ram_mib: u32, least_mib: u32 },
    #[error("`{recipe}` does not get there with {ram_mib} MiB, the most that was tried")]
    NotEvenWithMost { recipe: String, ram_mib: u32, last: Box<FailedBoot> },
}

impl SmokeError {
    pub(super) fn io(action: &'static str, path: &Path, cause: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), cause }
    }

    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::NoImage { recipe, .. } => format!("build it first: `bootwright build --recipe {recipe}`"),
            Self::MissingQemu { .. } => {
                "install it (Debian: `apt-get install qemu-system-x86`); `bootwright doctor` lists all tools".into()
            }
            Self::NoFirmware => "install OVMF (Debian: `apt-get install ovmf`), or use --firmware bios".into(),
            Self::Start { .. } => "run the program by hand to see more".into(),
            Self::Kvm { .. } => "use --accel tcg, or auto".into(),
            Self::Io { .. } => "check the path, its permissions and the free space".into(),
            Self::Qmp { .. } => "try again; `qemu.log` in the smoke folder holds what QEMU said".into(),
            Self::Server { cause } if cause.kind() == std::io::ErrorKind::Unsupported => {
                "it keeps links from leading out of the image's folder: Linux has it since 5.6".into()
            }
            Self::Server { .. } => "check that ports on 127.0.0.1 can be opened".into(),
            Self::Signals { .. } => "this should not happen: report it with the output of `bootwright doctor`".into(),
            Self::Junit { .. } => "this should not happen: report it with the console log".into(),
            Self::Report(_) => ReportError::HELP.into(),
            Self::Logs { .. } => "try again; the console log in the smoke folder says what the machine did".into(),
            Self::Interrupted => "QEMU was ended; the logs so far are in the smoke folder".into(),
            Self::Failed(failed) => failed.help().into(),
            Self::NothingToTry { .. } => "start from more with --ram-mib".into(),
            Self::NotEvenWithMost { last, .. } => format!("the last try: {}; {}", last.why, last.help()),
        }
    }
}

impl From<SmokeError> for Failure {
    fn from(e: SmokeError) -> Self {
        let exit = match e {
            SmokeError::Failed(_) | SmokeError::NotEvenWithMost { .. } => Exit::SmokeFailed,
            _ => Exit::Other,
        };
        Self { exit, message: e.to_string(), help: Some(e.help()) }
    }
}

/// Why a boot was given up.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Why {
    #[error("{0}")]
    Trouble(Trouble),
    #[error("not reached within {after_s} s")]
    Deadline { after_s: u64 },
    #[error("QEMU ended ({status}){}", said(complaint))]
    Exited { status: String, complaint: String },
    #[error("the power button did not switch it off within {after_s} s")]
    Powerdown { after_s: u64 },
}

fn said(complaint: &str) -> String {
    if complaint.is_empty() { String::new() } else { format!(": {complaint}") }
}

/// A boot that did not get there.
#[derive(Debug)]
pub struct FailedBoot {
    pub why: Why,
    /// Where it was: `phase network`, `services`, ...
    pub stage: String,
    pub missing: Vec<Expectation>,
    /// The last console lines.
    pub tail: Vec<String>,
    /// Services that failed, and those that were waited for in vain.
    pub services: Vec<ServiceTail>,
    /// Why logs are missing.
    pub logs_problem: Option<LogsError>,
    pub report: SmokeReport,
}

impl FailedBoot {
    /// What to do.
    pub fn help(&self) -> &'static str {
        match &self.why {
            Why::Trouble(Trouble::Unpack { reason }) if reason.contains("write error") => {
                "the unpacked initramfs needs more than half of the RAM: raise --ram-mib, or make the image smaller"
            }
            Why::Trouble(Trouble::Unpack { .. }) => "the initrd is damaged: build the image again",
            Why::Trouble(Trouble::OutOfMemory { .. }) => {
                "raise --ram-mib; `bootwright smoke --min-ram` finds the least that does"
            }
            Why::Trouble(Trouble::Panic { .. }) if self.report.engine == qemu::Engine::Tcg => {
                "read the console log; a crash in the kernel itself can be QEMU's own under TCG: try again with --smp 1"
            }
            Why::Trouble(_) => "the console log holds the whole boot",
            Why::Deadline { .. } => {
                "raise --deadline-s if the machine was just slow; the console log holds the whole boot"
            }
            Why::Exited { .. } => "run the command above by hand to see more",
            Why::Powerdown { .. } => "the console log shows what was still running",
        }
    }
}

impl fmt::Display for FailedBoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "smoke boot of `{}` failed in {}: {}", self.report.recipe, self.stage, self.why)?;
        if !self.missing.is_empty() {
            let missing: Vec<String> = self.missing.iter().map(|e| format!("`{e}`")).collect();
            write!(f, "\n  not reached: {}", missing.join(", "))?;
        }
        write!(f, "\n  last lines of the console:")?;
        for line in &self.tail {
            write!(f, "\n    {line}")?;
        }
        for service in &self.services {
            write!(f, "\n  {service}")?;
        }
        if let Some(problem) = &self.logs_problem {
            write!(f, "\n  logs of services and of the kernel are missing: {problem}")?;
        }
        write!(f, "\n  console log: {}", self.report.console_log.display())?;
        write!(f, "\n  run it again (Ctrl-A X ends it): {}", self.report.command)
    }
}
