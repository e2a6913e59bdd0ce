//! `[state]` and `[watchdog]`, as written.

use super::{SecretsWord, program_mode, yes};
use schemars::JsonSchema;
use serde::Deserialize;

/// Exactly one of `tmpfs` and `volume`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateFile {
    /// In memory, of this size: `64M`, `50%`.
    pub tmpfs: Option<String>,
    /// On a volume that outlives the boot, `nfs://`, `iscsi://` or `nbd://`; `${mac}`, `${hostname}` and `${ip}` are
    /// filled in on the node.
    pub volume: Option<String>,
    /// Octal permissions of a tmpfs.
    #[serde(default = "program_mode")]
    pub mode: String,
    /// Make this file system on an iSCSI or NBD volume that is empty. One that holds anything is never overwritten.
    pub format: Option<Format>,
    /// Folder of the volume; default: its top.
    pub folder: Option<String>,
    /// Keep the image's files visible below what is written; default: for `/etc` only.
    pub overlay: Option<bool>,
    /// `allowed`: secrets may be in it, which whoever can fetch the image can read. With `secrets_reason`.
    pub secrets: Option<SecretsWord>,
    /// Why they are there.
    pub secrets_reason: Option<String>,
}

/// A file system that can be made on first use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Ext4,
}

impl Format {
    /// Its name for mount(2), and of its kernel module.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
        }
    }
}

/// The hardware watchdog, which resets a machine whose PID1 hangs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchdogFile {
    #[serde(default = "watchdog_device")]
    pub device: String,
    /// Seconds without a sign of life.
    #[serde(default = "watchdog_timeout_s")]
    #[schemars(range(min = 5, max = 3600))]
    pub timeout_s: u32,
    /// Stop it when the machine is switched off or halted in order.
    #[serde(default = "yes")]
    pub disarm: bool,
}

fn watchdog_device() -> String {
    "/dev/watchdog".into()
}

fn watchdog_timeout_s() -> u32 {
    60
}
