//! The firmware of the machine: SeaBIOS, which QEMU brings along, or UEFI, which is OVMF.

use super::SmokeError;
use std::path::PathBuf;

/// What the machine starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    #[default]
    Bios,
    Uefi,
}

/// OVMF's code and its variables, as Debian, Arch and Fedora install them; without secure boot, which no image is signed for.
const PLACES: [(&str, &str); 4] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
];

/// The files of OVMF.
#[derive(Debug, Clone, PartialEq)]
pub struct Ovmf {
    pub code: PathBuf,
    pub variables: PathBuf,
}

impl Firmware {
    /// What QEMU has to be given; `None` for its own.
    ///
    /// # Errors
    /// [`SmokeError::NoFirmware`].
    pub fn find(self) -> Result<Option<Ovmf>, SmokeError> {
        if self == Self::Bios {
            return Ok(None);
        }
        let found = PLACES.iter().map(|(code, variables)| Ovmf { code: code.into(), variables: variables.into() });
        match found.into_iter().find(|ovmf| ovmf.code.is_file() && ovmf.variables.is_file()) {
            Some(ovmf) => Ok(Some(ovmf)),
            None => Err(SmokeError::NoFirmware),
        }
    }
}
