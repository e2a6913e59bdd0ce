//! The machine id, and files that every node needs and few images have: `/etc/machine-id`, `/etc/hosts`,
//! `/etc/resolv.conf`; and `/etc/os-release`, which names the image.

use crate::firmware_uuid::FirmwareUuid;
use bootwright_contract::{BootConfig, hex};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{path}`: {source}")]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// What an image says of its system (os-release(5)).
const VENDOR_RELEASE: &str = "/usr/lib/os-release";
const RELEASE: &str = "/etc/os-release";

/// Writes those of the first three files that are missing, and `/etc/os-release` of an image that has
/// `/usr/lib/os-release`. Returns one error for each that could not be written.
pub fn write_files(config: &BootConfig) -> Vec<WriteError> {
    // Images ship an empty machine id (machine-id(5)), so an empty file counts as missing.
    let has_id = fs::read_to_string("/etc/machine-id").is_ok_and(|t| is_machine_id(t.trim()));
    let id = if has_id { None } else { Some(format!("{}\n", machine_id(Path::new("/sys")))) };
    let absent = |path: &str| fs::symlink_metadata(path).is_err();
    let files = [
        ("/etc/machine-id", id),
        ("/etc/hosts", absent("/etc/hosts").then(|| HOSTS.into())),
        // Container runtimes fail without this file. The network fills it later.
        ("/etc/resolv.conf", absent("/etc/resolv.conf").then(String::new)),
        (RELEASE, os_release(fs::read_to_string(VENDOR_RELEASE).ok(), fs::read_to_string(RELEASE).ok(), config)),
    ];
    let write = |(path, text): (&str, Option<String>)| {
        let source = fs::write(path, text?).err()?;
        Some(WriteError { path: path.into(), source })
    };
    files.into_iter().filter_map(write).collect()
}

/// The vendor's text with the image's name and id, also in `PRETTY_NAME`, which is what Kubernetes shows of a node's system.
/// `None` where an image has an `/etc/os-release` of its own: that has no `IMAGE_VERSION`.
fn os_release(vendor: Option<String>, current: Option<String>, config: &BootConfig) -> Option<String> {
    let is_ours = |text: &String| text.lines().any(|line| line.starts_with("IMAGE_VERSION="));
    if current.is_some_and(|text| !is_ours(&text)) {
        return None;
    }
    let BootConfig { recipe, image_id, .. } = config;
    let mut text = String::new();
    for line in vendor?.lines() {
        match line.strip_prefix("PRETTY_NAME=\"").and_then(|rest| rest.strip_suffix('"')) {
            Some(name) => {
                text += &format!("PRETTY_NAME=\"{name}, {recipe} {}\"\n", image_id.get(..12).unwrap_or(image_id))
            }
            None => text += &format!("{line}\n"),
        }
    }
    let version = env!("CARGO_PKG_VERSION");
    Some(text + &format!("VERSION_ID={version}\nVARIANT_ID={recipe}\nIMAGE_ID={recipe}\nIMAGE_VERSION={image_id}\n"))
}

/// The machine id: 32 hex digits (machine-id(5)), the same at each boot. Taken from the firmware's UUID, else from the
/// lowest MAC address, else random. `sys` is `/sys`.
pub fn machine_id(sys: &Path) -> String {
    match firmware_uuid(sys) {
        Some(uuid) => hex::encode(&uuid.bytes()),
        None => digest(&first_mac(&sys.join("class/net")).map_or_else(random_bytes, String::into_bytes)),
    }
}

/// 32 hex digits for what must not be shared by two machines, such as an NFS client id: a digest of the machine id and
/// the lowest MAC address. Two machines with the same firmware UUID differ in it; another network card changes it.
pub fn unshared_id(sys: &Path) -> String {
    let mac = first_mac(&sys.join("class/net")).unwrap_or_default();
    digest([machine_id(sys), mac].concat().as_bytes())
}

/// The firmware's UUID; `None` if there is none or it is a placeholder. `sys` is `/sys`.
pub fn firmware_uuid(sys: &Path) -> Option<FirmwareUuid> {
    FirmwareUuid::parse(&fs::read_to_string(sys.join("class/dmi/id/product_uuid")).ok()?)
}

fn digest(seed: &[u8]) -> String {
    hex::encode(&Sha256::digest([b"bootwright machine id ", seed].concat())[..16])
}

/// 32 hex digits that are not all the same.
fn is_machine_id(text: &str) -> bool {
    let first = text.bytes().next();
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) && text.bytes().any(|b| Some(b) != first)
}

/// The lowest MAC address of the Ethernet interfaces that belong to a device. A member of a bond shows the bond's
/// address, and its own one as `bonding_slave/perm_hwaddr`: the latter counts.
fn first_mac(net: &Path) -> Option<String> {
    let interfaces = fs::read_dir(net).ok()?.filter_map(|e| e.ok()).map(|e| e.path());
    let devices = interfaces.filter(|p| p.join("device").exists());
    let read = |path: PathBuf| Some(fs::read_to_string(path).ok()?.trim().to_string());
    let own = |p: PathBuf| read(p.join("bonding_slave/perm_hwaddr")).or_else(|| read(p.join("address")));
    devices.filter_map(own).filter(|mac| mac.bytes().any(|b| !b"0:".contains(&b))).min()
}

/// The lowest MAC address, else the machine id.
pub fn first_mac_or_id(sys: &Path) -> String {
    first_mac(&sys.join("class/net")).unwrap_or_else(|| machine_id(sys))
}

fn random_bytes() -> Vec<u8> {
    let mut bytes = vec![0; 16];
    // Without `/dev/urandom` the id is the digest of zeros.
    let _ = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_names_the_image_of_this_boot() {
        let mut config = bootwright_contract::fixture::boot_config();
        (config.recipe, config.image_id) = ("worker".into(), "0123456789abcdef0123456789abcdef".into());
        let vendor = || Some("ID=bootwright\nPRETTY_NAME=\"bootwright\"\n".to_string());
        let written = os_release(vendor(), None, &config).expect("there is none");
        let lines = [
            "ID=bootwright",
            "PRETTY_NAME=\"bootwright, worker 0123456789ab\"",
            "VERSION_ID=0.1.0",
            "VARIANT_ID=worker",
            "IMAGE_ID=worker",
            "IMAGE_VERSION=0123456789abcdef0123456789abcdef",
        ];
        assert_eq!(written.lines().collect::<Vec<_>>(), lines);
        // One of an earlier boot, kept on a volume.
        config.image_id = "f".repeat(32);
        let renewed = os_release(vendor(), Some(written), &config).expect("it was ours");
        assert!(renewed.contains("worker ffffffffffff") && !renewed.contains("0123456789ab"), "{renewed}");
        assert_eq!(os_release(vendor(), Some("ID=mine\n".into()), &config), None);
        assert_eq!(os_release(None, None, &config), None);
    }

    #[test]
    fn firmware_then_mac_then_random() {
        let sys = std::env::temp_dir().join(format!("bootwright-identity-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            fs::create_dir_all(sys.join(path).parent().unwrap()).unwrap();
            fs::write(sys.join(path), text).unwrap();
        };
        let random = machine_id(&sys);
        assert!(is_machine_id(&random) && random != machine_id(&sys));
        write("class/net/eth1/address", "52:54:00:12:34:57\n");
        write("class/net/eth0/address", "52:54:00:12:34:56\n");
        write("class/net/eth1/device", "");
        write("class/net/lo/address", "00:00:00:00:00:00\n");
        let by_mac = machine_id(&sys);
        assert_eq!(by_mac, machine_id(&sys));
        write("class/net/eth2/address", "00:00:00:00:00:00\n");
        write("class/net/eth2/device", "");
        assert_eq!(by_mac, machine_id(&sys), "no driver has given it an address");
        write("class/net/eth0/device", "");
        assert_ne!(by_mac, machine_id(&sys), "the lower address decides");
        let before = machine_id(&sys);
        write("class/net/eth0/address", "52:54:00:12:34:57\n");
        write("class/net/eth0/bonding_slave/perm_hwaddr", "52:54:00:12:34:56\n");
        assert_eq!(machine_id(&sys), before, "in a bond all have one address");
        write("class/net/eth0/address", "52:54:00:12:34:56\n");
        let by_mac = machine_id(&sys);
        for placeholder in ["00000000-0000-0000-0000-000000000000\n", "03000200-0400-0500-0006-000700080009\n", "x"] {
            write("class/dmi/id/product_uuid", placeholder);
            assert_eq!(machine_id(&sys), by_mac, "{placeholder}");
        }
        write("class/dmi/id/product_uuid", "0E3C1A5B-0000-4000-8000-0123456789AB\n");
        assert_eq!(machine_id(&sys), "0e3c1a5b0000400080000123456789ab");
        // Another machine with the same UUID.
        let (uuid, ours) = (machine_id(&sys), unshared_id(&sys));
        assert_eq!((ours.len(), unshared_id(&sys)), (32, ours.clone()));
        write("class/net/eth1/address", "52:54:00:12:34:50\n");
        assert_eq!(machine_id(&sys), uuid);
        assert_ne!(unshared_id(&sys), ours);
        fs::remove_dir_all(sys).unwrap();
    }
}
