//! What the guest's iPXE is given before the image's own `boot.ipxe`: QEMU's DHCP names a small script, served by its TFTP, that sets
//! the smoke boot's words for the kernel command line and chains on.

use super::SmokeError;
use super::qemu::Tftp;
use std::path::Path;

/// The variable that `boot.ipxe` appends to the kernel command line; undefined it expands to nothing.
pub const ARGS_VARIABLE: &str = "bw-args";
/// Scripts below the folder of the smoke artifacts.
const OVER_HTTP: &str = "netboot.ipxe";
const OVER_TFTP: &str = "rerun.ipxe";

/// Script that chains to `url`, an absolute URL or one relative to the script.
fn script(extra: &str, url: &str) -> String {
    format!("#!ipxe\nset {ARGS_VARIABLE} {extra}\nchain {url} || shell\n")
}

/// Writes both scripts into `smoke_dir`: one for the server in this process, and one for the command
/// that a person runs later, which fetches everything by TFTP.
pub fn write_scripts(smoke_dir: &Path, extra: &str, http_port: u16) -> Result<(), SmokeError> {
    // 10.0.2.2 is the host as the guest of user networking sees it (qemu(1), -netdev user).
    let over_http = script(extra, &format!("http://10.0.2.2:{http_port}/boot.ipxe"));
    for (name, text) in [(OVER_HTTP, over_http), (OVER_TFTP, script(extra, "/boot.ipxe"))] {
        let path = smoke_dir.join(name);
        std::fs::write(&path, text).map_err(|cause| SmokeError::io("write", &path, cause))?;
    }
    Ok(())
}

/// What QEMU serves in this boot.
pub fn tftp(smoke_dir: &Path) -> Tftp<'_> {
    Tftp { dir: smoke_dir, bootfile: OVER_HTTP.into() }
}

/// What the command for a person serves: the whole image, with the script in `smoke_dir` below it.
pub fn rerun_tftp<'a>(image_dir: &'a Path, smoke_dir: &Path) -> Tftp<'a> {
    let script = smoke_dir.join(OVER_TFTP);
    let bootfile = script.strip_prefix(image_dir).unwrap_or(&script).to_string_lossy().into_owned();
    Tftp { dir: image_dir, bootfile }
}
