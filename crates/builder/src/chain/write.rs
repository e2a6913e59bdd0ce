//! Writes a plan's files into a folder.

use super::{ChainError, INDEX, Index, Plan, dnsmasq, grub, ipxe, matchbox, pxelinux, segment};
use crate::emit::{EmitError, write_file};
use serde::Serialize;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Files directly in the folder.
pub const FILES: [&str; 5] = [ENTRY, MENU, GRUB, DNSMASQ, INDEX];
const ENTRY: &str = "boot.ipxe";
const MENU: &str = "menu.ipxe";
const GRUB: &str = "grub.cfg";
const DNSMASQ: &str = "dnsmasq.conf";

/// Folders, also those in others.
pub const FOLDERS: [&str; 8] =
    ["nodes", "by-mac", "by-uuid", "pxelinux.cfg", grub::MODULES, "matchbox", "matchbox/groups", "matchbox/profiles"];

/// Writes everything; the folder must be empty.
pub fn write_all(plan: &Plan<'_>, index: &Index, dir: &Path) -> Result<(), ChainError> {
    for folder in FOLDERS {
        make_folder(&dir.join(folder))?;
    }
    let put = |name: &str, bytes: &[u8]| write_file(&dir.join(name), bytes);
    put(ENTRY, ipxe::entry_script(plan).as_bytes())?;
    put(MENU, ipxe::menu_script(plan).as_bytes())?;
    put("pxelinux.cfg/default", pxelinux::default_config(plan).as_bytes())?;
    put(GRUB, grub::config(plan).as_bytes())?;
    for list in grub::LISTS {
        put(&format!("{}/{list}", grub::MODULES), b"")?;
    }
    if let Some(config) = dnsmasq::config(plan) {
        put(DNSMASQ, config.as_bytes())?;
    }
    for entry in &plan.nodes {
        let node = entry.node;
        put(&format!("nodes/{}.ipxe", node.name), ipxe::node_script(plan, entry).as_bytes())?;
        if let Some(segment) = &entry.segment {
            put(&format!("nodes/{}", segment::file_name(node)), &segment.bytes)?;
        }
        let (link, config) = (ipxe::link_script(entry), pxelinux::node_config(plan, entry));
        for mac in &node.macs {
            put(&format!("by-mac/{}.ipxe", mac.hyphens()), link.as_bytes())?;
            put(&format!("pxelinux.cfg/01-{}", mac.hyphens()), config.as_bytes())?;
        }
        if let Some(uuid) = &node.uuid {
            put(&format!("by-uuid/{uuid}.ipxe"), link.as_bytes())?;
            put(&format!("pxelinux.cfg/{uuid}"), config.as_bytes())?;
        }
    }
    for profile in matchbox::profiles(plan) {
        put(&format!("matchbox/profiles/{}.json", profile.id), &json(&profile))?;
    }
    for group in matchbox::groups(plan) {
        put(&format!("matchbox/groups/{}.json", group.id), &json(&group))?;
    }
    Ok(put(INDEX, &json(index))?)
}

/// Readable by a web server of another user, whatever the umask.
pub fn make_folder(path: &Path) -> Result<(), EmitError> {
    std::fs::create_dir(path).map_err(EmitError::io("make", path))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(EmitError::io("make", path))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("plain data");
    text.push(b'\n');
    text
}
