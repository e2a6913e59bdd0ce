//! Which files of an image a boot opens, and which it carries for nothing.
//!
//! The kernel itself records: words on its command line put a probe on the function that every open of a file by name passes,
//! also those of programs, their libraries and modules (Documentation/trace/kprobetrace.rst, "Kernel Boot Parameter"), and what it
//! finds goes to the kernel's log (`tp_printk`, Documentation/admin-guide/kernel-parameters.txt), which PID1 hands out on a serial
//! port. So the image is booted as it is, and nothing runs in it that a real boot has not.

mod opened;
mod report;
#[cfg(test)]
mod tests;

pub use opened::Opened;
pub use report::{ComponentTrace, FileTrace, TraceReport};

use crate::error::{Exit, Failure};
use crate::inspect::{InspectError, load_image};
use crate::loader_limits::COMMAND_LINE;
use crate::smoke::{self, SmokeError, SmokeOptions};
use crate::ui::Ui;
use std::path::{Path, PathBuf};

/// Logs of the boot, below the image's folder for smoke boots.
const FOLDER: &str = "trace";

/// Exit code 5 for a boot that did not get there, else 1.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error(transparent)]
    Image(#[from] InspectError),
    #[error(transparent)]
    Boot(#[from] SmokeError),
    #[error("the kernel command line has {length} characters with the words that record opens, limit {COMMAND_LINE}")]
    CommandLine { length: usize },
    #[error("cannot read `{}`: {cause}", path.display())]
    Log { path: PathBuf, cause: std::io::Error },
    #[error("the kernel recorded no opens")]
    NothingRecorded,
    #[error("the kernel's log was too small for this boot: records are missing in the middle")]
    Lost,
}

impl TraceError {
    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::Image(cause) => cause.help(),
            Self::Boot(cause) => cause.help(),
            Self::CommandLine { .. } => "take words out of the recipe's `cmdline` for this boot".into(),
            Self::Log { .. } => "check the path and its permissions".into(),
            Self::NothingRecorded => {
                "it takes a kernel with CONFIG_KPROBE_EVENTS and its function `may_open`, as Debian's has them; smoke/trace/kernel.log says more".into()
            }
            Self::Lost => "give it more room: `--append log_buf_len=64M`, and `--ram-mib` to match".into(),
        }
    }
}

impl From<TraceError> for Failure {
    fn from(e: TraceError) -> Self {
        match e {
            TraceError::Image(e) => e.into(),
            TraceError::Boot(e) => e.into(),
            e => Self { exit: Exit::Other, message: e.to_string(), help: Some(e.help()) },
        }
    }
}

/// Boots the image in `image_dir` until it reaches what `options` expect, and compares what was opened with what is in it.
pub fn trace(image_dir: &Path, options: &SmokeOptions, ui: &Ui) -> Result<TraceReport, TraceError> {
    let manifest = load_image(image_dir)?;
    let mut options = SmokeOptions { keep_logs: true, ..options.clone() };
    // What is said last counts, so the caller's own words stay.
    options.smoke_cmdline.splice(0..0, opened::words());
    let length = options.whole_cmdline().len();
    if length > COMMAND_LINE {
        return Err(TraceError::CommandLine { length });
    }
    let booted = smoke::run_smoke_in(image_dir, FOLDER, &options, ui)?;
    let path = booted.kernel_log.ok_or(TraceError::NothingRecorded)?;
    let log = std::fs::read(&path).map_err(|cause| TraceError::Log { path, cause })?;
    let opened = Opened::parse(&String::from_utf8_lossy(&log))?;
    Ok(TraceReport::new(&manifest, &opened, booted.wall_s))
}
