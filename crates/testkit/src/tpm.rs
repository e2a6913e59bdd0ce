//! A TPM 2.0 in software (swtpm), for machines of QEMU.

use crate::folders::new_folder;
use crate::running::wait_until;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// The program that it is.
pub const SWTPM: &str = "swtpm";

/// A TPM without an owner, for one machine. It ends with its owner.
pub struct Tpm {
    child: Child,
    folder: TempDir,
}

impl Tpm {
    pub fn start() -> Self {
        let folder = new_folder();
        let (state, control) = (format!("dir={}", folder.path().display()), folder.path().join("control"));
        let mut swtpm = Command::new(SWTPM);
        swtpm.args(["socket", "--tpm2", "--tpmstate", &state, "--ctrl"]);
        swtpm.arg(format!("type=unixio,path={}", control.display()));
        let child = swtpm.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it was looked for");
        wait_until("the TPM listens", Duration::from_secs(30), || control.exists());
        Self { child, folder }
    }

    /// QEMU's arguments for a machine with it.
    pub fn arguments(&self) -> Vec<String> {
        let control = format!("socket,id=tpm,path={}", self.folder.path().join("control").display());
        let emulator = ["-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm0"];
        ["-chardev", &control].into_iter().chain(emulator).map(String::from).collect()
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        // Both only fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
