//! Chooses what runs the guest: KVM where it really boots the image's kernel, else TCG.
//!
//! `/dev/kvm` can be there and still not run a guest: nested hosts were seen that hang a few milliseconds into the
//! kernel, or stop with an emulation failure, while a guest of a few instructions runs well. So the probe boots the kernel itself.

use super::SmokeError;
use super::machine::{Machine, Output};
use super::qemu::{Engine, QEMU};
use crate::ui::Ui;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum AccelChoice {
    /// KVM if it boots the kernel, else TCG.
    #[default]
    Auto,
    Kvm,
    Tcg,
}

/// The kernel's first line under KVM: a working one takes well below a second.
const FIRST_LINE: Duration = Duration::from_secs(4);
/// The kernel's whole way to the panic over the missing root.
const WHOLE_PROBE: Duration = Duration::from_secs(15);
const DEVICE: &str = "/dev/kvm";

/// Decides on an engine. That KVM does not work is remembered in `cache_dir` until the host boots again.
pub fn choose(choice: AccelChoice, kernel: &Path, cache_dir: &Path, ui: &Ui) -> Result<Engine, SmokeError> {
    match choice {
        AccelChoice::Tcg => Ok(Engine::Tcg),
        AccelChoice::Kvm => probe(kernel).map(|()| Engine::Kvm).map_err(|problem| SmokeError::Kvm { problem }),
        AccelChoice::Auto => {
            let known_bad = cache_dir.join("kvm-does-not-work");
            let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            if !boot_id.is_empty() && std::fs::read_to_string(&known_bad).is_ok_and(|known| known == boot_id) {
                ui.detail("KVM is known not to work here since the last boot of this host: using TCG");
                return Ok(Engine::Tcg);
            }
            match probe(kernel) {
                Ok(()) => Ok(Engine::Kvm),
                Err(problem) => {
                    ui.say(format!("no KVM ({problem}): using TCG, which is several times slower"));
                    if matches!(problem, KvmProblem::Hangs { .. } | KvmProblem::Stopped { .. }) {
                        // Only a shortcut: without it the next run probes again.
                        let _ = std::fs::create_dir_all(cache_dir).and_then(|()| std::fs::write(&known_bad, &boot_id));
                    }
                    Ok(Engine::Tcg)
                }
            }
        }
    }
}

/// Why KVM is not used.
#[derive(Debug, thiserror::Error)]
pub enum KvmProblem {
    #[error("cannot open `{DEVICE}`: {cause}")]
    Closed { cause: std::io::Error },
    #[error("the kernel hangs under KVM, nothing came within {after_s} s")]
    Hangs { after_s: u64 },
    #[error("QEMU stopped: {complaint}")]
    Stopped { complaint: String },
    #[error("the probe did not start: {problem}")]
    Start { problem: String },
}

/// Boots the kernel without an initramfs: it panics for want of a root, and `panic=-1` with `-no-reboot` ends QEMU.
fn probe(kernel: &Path) -> Result<(), KvmProblem> {
    std::fs::OpenOptions::new().read(true).write(true).open(DEVICE).map_err(|cause| KvmProblem::Closed { cause })?;
    let start = |problem: String| KvmProblem::Start { problem };
    let dir = tempfile::tempdir().map_err(|e| start(e.to_string()))?;
    let log = std::fs::File::create(dir.path().join("console.log")).map_err(|e| start(e.to_string()))?;
    let stderr: PathBuf = dir.path().join("stderr");
    let mut machine = Machine::start(QEMU, &arguments(kernel), log, &stderr, None).map_err(|e| start(e.to_string()))?;
    let begin = Instant::now();
    let mut deadline = begin + FIRST_LINE;
    loop {
        match machine.output.recv_timeout(Duration::from_millis(50)) {
            Ok(Output::Line(line)) if line.contains("Linux version") => deadline = begin + WHOLE_PROBE,
            Ok(Output::Line(_)) => {}
            Ok(Output::End) | Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
        }
        // An emulation failure pauses the guest: QEMU says so and stays.
        if machine.complaint().contains("KVM internal error") {
            return Err(KvmProblem::Stopped { complaint: "KVM internal error".into() });
        }
        if Instant::now() >= deadline {
            return Err(KvmProblem::Hangs { after_s: begin.elapsed().as_secs() });
        }
    }
    match machine.wait(deadline) {
        Some(status) if status.success() => Ok(()),
        Some(_) => {
            let complaint = machine.complaint();
            Err(KvmProblem::Stopped { complaint: complaint.lines().last().unwrap_or("no reason given").into() })
        }
        None => Err(KvmProblem::Hangs { after_s: begin.elapsed().as_secs() }),
    }
}

fn arguments(kernel: &Path) -> Vec<OsString> {
    let fixed = "-nodefaults -no-user-config -display none -no-reboot -machine q35 -accel kvm -cpu host -m 256 \
                 -chardev stdio,id=console,signal=off -serial chardev:console";
    let mut args: Vec<OsString> = fixed.split_whitespace().map(OsString::from).collect();
    args.extend(["-kernel".into(), kernel.into(), "-append".into()]);
    args.push("console=ttyS0 earlyprintk=ttyS0 panic=-1".into());
    args
}
