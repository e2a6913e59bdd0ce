//! Signatures for iPXE's `imgverify` (<https://ipxe.org/crypto>): CMS, detached, DER, made by openssl.

use super::write::make_folder;
use super::{ChainError, Plan};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folder of the signatures of images, below `out/boot/`.
pub const FOLDER: &str = "signatures";
/// What is signed of an image.
const FILES: [&str; 2] = ["vmlinuz", "initrd.img"];

/// A code signing certificate that iPXE trusts, and its key. PEM files.
#[derive(Debug, Clone)]
pub struct Signer {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Signs kernel and initrd of every image, and every node's own segment, into the folder `dir`.
pub fn sign_all(plan: &Plan<'_>, signer: &Signer, out: &Path, dir: &Path) -> Result<(), ChainError> {
    let signatures = dir.join(FOLDER);
    make_folder(&signatures)?;
    for image in plan.images {
        let folder = signatures.join(&image.name);
        make_folder(&folder)?;
        for file in FILES {
            sign(signer, &out.join(&image.name).join(file), &folder.join(format!("{file}.sig")))?;
        }
    }
    for entry in plan.nodes.iter().filter(|entry| entry.segment.is_some()) {
        let segment = dir.join("nodes").join(super::segment::file_name(entry.node));
        let mut signature = segment.clone().into_os_string();
        signature.push(".sig");
        sign(signer, &segment, Path::new(&signature))?;
    }
    Ok(())
}

fn sign(signer: &Signer, file: &Path, signature: &Path) -> Result<(), ChainError> {
    let mut command = Command::new("openssl");
    // No signing time: the same files give the same signatures.
    command.args(["cms", "-sign", "-binary", "-noattr", "-outform", "DER", "-signer"]).arg(&signer.certificate);
    command.arg("-inkey").arg(&signer.key).arg("-in").arg(file).arg("-out").arg(signature);
    let output = command.output().map_err(|cause| ChainError::NoOpenssl { cause })?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let complaint = String::from_utf8_lossy(&output.stderr).trim().to_string();
            Err(ChainError::Signing { path: file.into(), complaint })
        }
    }
}
