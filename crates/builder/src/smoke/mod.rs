//! Boots an image in QEMU and waits for what the recipe expects, with a deadline; fails at once where nothing good can come any more.

pub mod accel;
mod artifacts;
mod boot;
mod console;
mod error;
mod firmware;
mod junit;
mod kept;
mod logs;
mod machine;
mod min_ram;
mod netboot;
mod qemu;
mod qmp;
mod ram;
mod ssh;

pub use accel::{AccelChoice, KvmProblem};
pub use console::{SeenPhase, Trouble};
pub use error::{FailedBoot, SmokeError, Why};
pub use firmware::{Firmware, Ovmf};
pub use kept::Kept;
pub use logs::{LogsError, ServiceTail};
pub use min_ram::{MinRam, Try, find_min_ram};
pub use qemu::{Engine, QEMU};

use crate::interrupt::Interrupts;
use crate::nodes::Mac;
use crate::recipe::Expectation;
use crate::report::renew_report;
use crate::ui::Ui;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How the guest gets kernel and initrd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// QEMU loads them into memory.
    #[default]
    Kernel,
    /// QEMU's iPXE ROM fetches `boot.ipxe` and what it names over HTTP.
    Ipxe,
}

/// A smoke boot as asked for.
#[derive(Debug, Clone)]
pub struct SmokeOptions {
    /// Name of the image.
    pub recipe: String,
    /// The image has its root fetched over HTTP and names no server: this one serves it.
    pub fetched_root: bool,
    /// What has to be reached; the order does not matter.
    pub expect: Vec<Expectation>,
    /// The recipe's kernel command line. Via iPXE it comes from `boot.ipxe` instead.
    pub kernel_cmdline: Vec<String>,
    /// More words for this boot.
    pub smoke_cmdline: Vec<String>,
    pub ram_mib: u32,
    pub smp: u32,
    /// For all expectations together.
    pub deadline: Duration,
    pub via: Via,
    pub firmware: Firmware,
    /// What DHCP names instead of the image's own script: an address, or a path below the folder of images, by TFTP.
    pub bootfile: Option<String>,
    /// Of the machine's card; absent: QEMU's own.
    pub mac: Option<Mac>,
    /// SMBIOS; absent: QEMU gives none.
    pub uuid: Option<String>,
    pub accel: AccelChoice,
    /// Press the power button once everything is reached and wait for an orderly end.
    pub powerdown: bool,
    /// Leave the machine running, whether it got there or not: [`SmokeReport::kept`].
    pub keep: bool,
    /// Have PID1 hand out all logs of a boot that passed too.
    pub keep_logs: bool,
    /// Where it is remembered that KVM does not work.
    pub cache_dir: PathBuf,
}

impl SmokeOptions {
    /// What this boot adds to the kernel command line: a console on the first serial port, PID1's timeline on the second one, logs on
    /// the third one when they are asked for.
    fn extra_cmdline(&self) -> String {
        // On a busy host the kernel's look at the timer comes too late, and it panics; as a guest of KVM it does not look either.
        let mut words =
            vec!["console=ttyS0", "panic=-1", "no_timer_check", "bw.timeline=/dev/ttyS1", "bw.logs=/dev/ttyS2"];
        words.extend(self.smoke_cmdline.iter().map(String::as_str));
        words.join(" ")
    }

    /// Whether the root comes from the server of this boot.
    fn serves_root(&self) -> bool {
        self.fetched_root && self.named_root().is_none()
    }

    /// The root that the words for this boot name.
    fn named_root(&self) -> Option<&str> {
        self.smoke_cmdline.iter().flat_map(|w| w.split_ascii_whitespace()).find_map(|w| w.strip_prefix("bw.root="))
    }

    /// The kernel command line of a boot by [`Via::Kernel`].
    pub fn whole_cmdline(&self) -> String {
        let mut words = self.kernel_cmdline.clone();
        words.push(self.extra_cmdline());
        words.join(" ")
    }
}

/// The expectations up to and including `until`; just `until` when the recipe does not list it.
pub fn expect_until(expect: &[Expectation], until: &Expectation) -> Vec<Expectation> {
    match expect.iter().position(|e| e == until) {
        Some(at) => expect[..=at].to_vec(),
        None => vec![until.clone()],
    }
}

/// An expectation and when it was reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reached {
    pub expectation: Expectation,
    /// Seconds of guest uptime as PID1 said it; absent for what is seen from outside (`ssh-answers`), or not reached.
    pub uptime_s: Option<f64>,
    /// Seconds since QEMU was started; absent when not reached.
    pub wall_s: Option<f64>,
}

/// What a smoke boot found. Serialised it is the document of `--json`.
#[derive(Debug, Serialize)]
pub struct SmokeReport {
    /// Layout of this document; 1.
    pub version: u32,
    pub recipe: String,
    pub passed: bool,
    /// Where and why it failed.
    pub failure: Option<String>,
    pub engine: Engine,
    pub via: Via,
    pub firmware: Firmware,
    pub ram_mib: u32,
    pub smp: u32,
    pub wall_s: f64,
    pub expectations: Vec<Reached>,
    pub phases: Vec<SeenPhase>,
    /// Seconds from the power button to the end of QEMU, when that was asked for.
    pub powerdown_s: Option<f64>,
    pub console_log: PathBuf,
    /// Of a boot that failed, if PID1 could hand it out, and of one whose logs were asked for.
    pub kernel_log: Option<PathBuf>,
    /// The same of each service, by its name.
    pub service_logs: BTreeMap<String, PathBuf>,
    /// The QEMU command that boots the same by hand.
    pub command: String,
    /// Of a machine that was kept.
    pub ssh_port: Option<u16>,
    /// Of a machine that was kept: QMP's unix socket.
    pub qmp_socket: Option<PathBuf>,
    /// Of a machine that was kept: QEMU's process id.
    pub qemu_pid: Option<u32>,
    #[serde(skip)]
    pub kept: Option<Kept>,
}

/// Boots the image in `image_dir` (`out/<recipe>`) and leaves logs and reports in its `smoke/` folder, also when the boot failed.
pub fn run_smoke(image_dir: &Path, options: &SmokeOptions, ui: &Ui) -> Result<SmokeReport, SmokeError> {
    let result = run_smoke_in(image_dir, "", options, ui);
    // A boot that could not be tried has left nothing new.
    if matches!(result, Ok(_) | Err(SmokeError::Failed(_))) {
        renew_report(image_dir).map_err(SmokeError::Report)?;
    }
    result
}

/// A boot with its logs in that folder below `smoke/`, of which the image's page tells nothing.
pub fn run_smoke_in(
    image_dir: &Path,
    folder: &str,
    options: &SmokeOptions,
    ui: &Ui,
) -> Result<SmokeReport, SmokeError> {
    let prepared = Prepared::new(image_dir, options, ui)?;
    let plan = prepared.boot(options.ram_mib);
    boot::boot_once(&plan, options, &prepared.image_dir.join("smoke").join(folder), &prepared.interrupts, ui)
}

/// What boots of the same image share.
struct Prepared<'a> {
    image_dir: PathBuf,
    engine: Engine,
    firmware: Option<Ovmf>,
    interrupts: Arc<Interrupts>,
    options: &'a SmokeOptions,
}

impl<'a> Prepared<'a> {
    fn new(image_dir: &Path, options: &'a SmokeOptions, ui: &Ui) -> Result<Self, SmokeError> {
        let image_dir = std::path::absolute(image_dir).map_err(|cause| SmokeError::io("find", image_dir, cause))?;
        let boot_script = (options.via == Via::Ipxe && options.bootfile.is_none()).then_some("boot.ipxe");
        for name in ["vmlinuz", "initrd.img"].into_iter().chain(boot_script) {
            let path = image_dir.join(name);
            if !path.is_file() {
                return Err(SmokeError::NoImage { path, recipe: options.recipe.clone() });
            }
        }
        let firmware = options.firmware.find()?;
        let interrupts = Arc::new(Interrupts::watch().map_err(|cause| SmokeError::Signals { cause })?);
        let engine = accel::choose(options.accel, &image_dir.join("vmlinuz"), &options.cache_dir, ui)?;
        Ok(Self { image_dir, engine, firmware, interrupts, options })
    }

    fn boot(&self, ram_mib: u32) -> qemu::Boot {
        qemu::Boot {
            image_dir: self.image_dir.clone(),
            engine: self.engine,
            ram_mib,
            smp: self.options.smp,
            via: self.options.via,
            firmware: self.firmware.clone(),
            mac: self.options.mac,
            uuid: self.options.uuid.clone(),
            cmdline: self.options.whole_cmdline(),
            serves_root: self.options.serves_root(),
        }
    }
}

#[cfg(test)]
mod tests;
