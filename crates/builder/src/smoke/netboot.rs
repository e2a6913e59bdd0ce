//! What the guest's iPXE is given before the image's own `boot.ipxe`: QEMU's DHCP names a small script, served by its TFTP, that sets
//! the smoke boot's words for the kernel command line and chains on.

use super::qemu::Tftp;
use super::{SmokeError, SmokeOptions};
use std::path::Path;

/// The variable that `boot.ipxe` appends to the kernel command line; undefined it expands to nothing.
pub const ARGS_VARIABLE: &str = "bw-args";
/// Scripts below the folder of the smoke artifacts.
const OVER_HTTP: &str = "netboot.ipxe";
const OVER_TFTP: &str = "rerun.ipxe";

/// The variable that `boot.ipxe` takes a network root from, `bw.root=...`.
const ROOT_VARIABLE: &str = "bw-root";
/// The variable that tells `boot.ipxe` where it lies.
const URL_VARIABLE: &str = "bw-url";

/// What a server on this machine's loopback is for the guest of user networking (qemu(1), -netdev user).
pub fn address(port: u16) -> String {
    format!("http://10.0.2.2:{port}")
}

/// Script that chains to `url`, an absolute URL or one relative to the script. `folder`: where the image is, for an iPXE that does
/// not know where a script came from.
fn script(options: &SmokeOptions, url: &str, folder: Option<&str>) -> String {
    let extra = options.extra_cmdline();
    // In the place of the script's own root, not after it.
    let (root, args): (Vec<&str>, Vec<&str>) = extra.split_ascii_whitespace().partition(|w| w.starts_with("bw.root="));
    let root = if root.is_empty() { String::new() } else { format!("set {ROOT_VARIABLE} {}\n", root.join(" ")) };
    let folder = folder.map(|folder| format!("set {URL_VARIABLE} {folder}\n")).unwrap_or_default();
    format!("#!ipxe\nset {ARGS_VARIABLE} {}\n{root}{folder}chain {url} || shell\n", args.join(" "))
}

/// Writes both scripts into `smoke_dir`: one for the server in this process, or the one that the boot file's address leads to, and
/// one for the command that a person runs later, which fetches everything by TFTP.
pub fn write_scripts(smoke_dir: &Path, options: &SmokeOptions, http_port: Option<u16>) -> Result<(), SmokeError> {
    let folder = http_port.map(|port| format!("{}/", address(port)));
    let own = folder.as_ref().map(|folder| format!("{folder}boot.ipxe"));
    let Some(url) = own.or(options.bootfile.clone()) else { return Ok(()) };
    let over_http = script(options, &url, folder.as_deref());
    for (name, text) in [(OVER_HTTP, over_http), (OVER_TFTP, script(options, "/boot.ipxe", None))] {
        let path = smoke_dir.join(name);
        std::fs::write(&path, text).map_err(|cause| SmokeError::io("write", &path, cause))?;
    }
    Ok(())
}

/// What QEMU serves in this boot.
pub fn tftp<'a>(options: &SmokeOptions, image_dir: &'a Path, smoke_dir: &'a Path) -> Tftp<'a> {
    match &options.bootfile {
        Some(path) if !path.contains("://") => {
            Tftp { dir: image_dir.parent().unwrap_or(image_dir), bootfile: path.clone() }
        }
        _ => Tftp { dir: smoke_dir, bootfile: OVER_HTTP.into() },
    }
}

/// What the command for a person serves: the whole image, with the script in `smoke_dir` below it; a boot file of somebody else's
/// as in the boot itself.
pub fn rerun_tftp<'a>(options: &SmokeOptions, image_dir: &'a Path, smoke_dir: &'a Path) -> Tftp<'a> {
    if options.bootfile.is_some() {
        return tftp(options, image_dir, smoke_dir);
    }
    let script = smoke_dir.join(OVER_TFTP);
    let bootfile = script.strip_prefix(image_dir).unwrap_or(&script).to_string_lossy().into_owned();
    Tftp { dir: image_dir, bootfile }
}
