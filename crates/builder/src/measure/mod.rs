//! What firmware and the kernel's EFI stub measure of an image into a TPM, worked out from its files: `measurements.json`. A machine's
//! event log tells by it what was booted (TCG PC Client Platform Firmware Profile, section "Event Logging").

mod command_line;
pub mod pe;

pub use command_line::{CommandLine, load_options_sha256};

use crate::entry::Sha256;
use crate::error::{Exit, Failure};
use pe::{PeError, authenticode};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Its name in an image's folder.
pub const MEASUREMENTS: &str = "measurements.json";
/// Layout of the document.
pub const VERSION: u32 = 1;

/// PCR of EFI programs that firmware starts.
const PROGRAMS: u32 = 4;
/// PCR of what the kernel's EFI stub takes beside the kernel (Documentation/arch/x86/boot.rst; drivers/firmware/efi/libstub/efi-stub-helper.c).
const STUB: u32 = 9;

/// What a boot of the image by UEFI leaves in the event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurements {
    /// [`VERSION`].
    pub version: u32,
    pub recipe: String,
    pub image_id: String,
    /// Absent: the kernel is no EFI program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<MeasuredProgram>,
    pub initrd: MeasuredFile,
    pub command_line: CommandLine,
}

impl Measurements {
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("measurements are plain data");
        json.push(b'\n');
        json
    }
}

/// An EFI program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasuredProgram {
    /// Below the image's folder.
    pub path: String,
    pub pcr: u32,
    pub authenticode_sha256: Sha256,
}

impl MeasuredProgram {
    /// `None` for a kernel without EFI stub.
    ///
    /// # Errors
    /// [`PeError::Short`] for a program that is damaged.
    pub fn of(path: &str, bytes: &[u8]) -> Result<Option<Self>, PeError> {
        match authenticode(bytes) {
            Ok(hash) => Ok(Some(Self { path: path.into(), pcr: PROGRAMS, authenticode_sha256: hash })),
            Err(PeError::NotPe) => Ok(None),
            Err(short) => Err(short),
        }
    }
}

/// A file that is measured as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasuredFile {
    /// Below the image's folder.
    pub path: String,
    pub pcr: u32,
    pub sha256: Sha256,
}

impl MeasuredFile {
    /// An initrd that the EFI stub loads.
    pub fn initrd(path: &str, sha256: Sha256) -> Self {
        Self { path: path.into(), pcr: STUB, sha256 }
    }
}

/// What is wrong with an image's `measurements.json`. Exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    #[error("cannot read `{}`: {cause}", path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("`{}` cannot be read as measurements: {problem}", path.display())]
    Document { path: PathBuf, problem: String },
}

impl From<MeasureError> for Failure {
    fn from(e: MeasureError) -> Self {
        let help = match &e {
            MeasureError::Read { .. } => "build the image first, or name the folder of images with --out",
            MeasureError::Document { .. } => "build the recipe again with this version",
        };
        Self { exit: Exit::Other, message: e.to_string(), help: Some(help.into()) }
    }
}

/// Reads the measurements of an image's folder.
///
/// # Errors
/// [`MeasureError`], also for another [`VERSION`].
pub fn load_measurements(dir: &Path) -> Result<Measurements, MeasureError> {
    let path = dir.join(MEASUREMENTS);
    let bytes =
        crate::input_file::read_bytes(&path).map_err(|cause| MeasureError::Read { path: path.clone(), cause })?;
    let bad = |problem: String| MeasureError::Document { path: path.clone(), problem };
    let found: Measurements = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    match found.version {
        VERSION => Ok(found),
        other => Err(bad(format!("they have version {other}, this program reads {VERSION}"))),
    }
}
