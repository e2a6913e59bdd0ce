//! Loads modules for devices: for those that exist, and for those that appear later.

use super::{ModuleIndex, ModuleLoader, Uevents};
use crate::base::node::Node;
use bootwright_base::background;
use bootwright_base::order;
use bootwright_base::uevent::parse_uevent;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Classes whose devices have modaliases. Devices of other classes are on a bus, where the modalias is.
const CLASSES: [&str; 2] = ["dmi", "input"];

/// The devices that were found at one time, and events about those that have appeared since.
pub struct SeenDevices {
    pub modaliases: Vec<String>,
    pub events: Uevents,
}

impl SeenDevices {
    pub fn find() -> io::Result<SeenDevices> {
        // Before the walk, so that an event tells of devices that appear during it.
        let events = Uevents::open()?;
        Ok(SeenDevices { modaliases: walk(), events })
    }
}

fn walk() -> Vec<String> {
    modaliases(Path::new("/sys"))
}

/// Loads modules for the devices, and for devices that appear because of that, such as those on a bus. Returns lines
/// about failures.
pub fn load_for_devices(loader: &mut ModuleLoader, devices: &SeenDevices) -> Vec<String> {
    let mut known = HashSet::new();
    let mut failed = Vec::new();
    let mut found = devices.modaliases.clone();
    while !found.is_empty() {
        for alias in found {
            if known.insert(alias.clone()) {
                failed.extend(loader.load_serving(&alias).err().map(|e| e.to_string()));
            }
        }
        found = devices.events.pending().unwrap_or_else(walk);
    }
    failed
}

/// Modaliases of devices below `sys` without a driver, for which the image has no module. Sorted, without duplicates.
pub fn unserved(sys: &Path, index: &ModuleIndex) -> Vec<String> {
    let devices = entries(&sys.join("bus")).into_iter().flat_map(|bus| entries(&bus.join("devices")));
    // A device has a driver when the driver is built in or was loaded from the initramfs.
    let without_driver = devices.filter(|device| !device.join("driver").exists());
    let mut found: Vec<String> = without_driver.filter_map(|device| modalias(&device)).collect();
    found.retain(|alias| index.serving(alias).is_empty());
    order::sort_and_dedup(&mut found);
    found
}

/// The modaliases of the devices below `sys`, one a line, sorted: the format of files in `[kernel] modaliases`.
pub fn hardware(sys: &Path) -> String {
    let name = |file: &str| fs::read_to_string(sys.join("class/dmi/id").join(file)).unwrap_or_default();
    let mut aliases = modaliases(sys);
    order::sort_and_dedup(&mut aliases);
    let mut text = ["# ", name("sys_vendor").trim(), " ", name("product_name").trim()].concat().trim_end().to_string();
    for alias in aliases {
        text.push('\n');
        text.push_str(&alias);
    }
    text.push('\n');
    text
}

/// All modaliases below `sys`: of devices on buses, of devices of some classes, and of the processor.
fn modaliases(sys: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for bus in entries(&sys.join("bus")) {
        found.extend(entries(&bus.join("devices")).iter().filter_map(|d| modalias(d)));
    }
    for class in CLASSES {
        found.extend(entries(&sys.join("class").join(class)).iter().filter_map(|d| modalias(d)));
    }
    found.extend(modalias(&sys.join("devices/system/cpu")));
    found
}

fn modalias(device: &Path) -> Option<String> {
    let text = fs::read_to_string(device.join("modalias")).ok()?;
    Some(text.trim_end().to_string()).filter(|t| !t.is_empty())
}

/// The entries of a folder. A folder that cannot be read counts as empty: its device is gone.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|e| e.ok()).map(|e| e.path()).collect()
}

/// Starts a thread that loads modules for devices that appear. It ends with the first event after `over` was set.
pub fn follow(node: &Arc<Node>, index: Arc<ModuleIndex>, events: Uevents, over: Arc<AtomicBool>) -> io::Result<()> {
    let node = node.clone();
    let work = move || {
        loop {
            let alias = match events.next(parse_uevent) {
                _ if over.load(Ordering::Relaxed) => return,
                Ok(Some(alias)) => alias,
                Ok(None) => continue,
                Err(errno) => return node.timeline.note(&format!("no modules for new devices any more: {errno}")),
            };
            if let Err(error) = ModuleLoader::new(node.sys, &index, &node.cmdline).load_serving(&alias) {
                node.timeline.note(&format!("new device: {error}"));
            }
        }
    };
    background::spawn("uevents", Box::new(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modaliases_of_buses_classes_and_processor() {
        let sys = std::env::temp_dir().join(format!("bootwright-sys-{}", std::process::id()));
        for (device, alias) in [
            ("bus/virtio/devices/virtio0", "virtio:d1v2\n"),
            ("bus/pci/devices/0000:00:00.0", ""),
            ("class/input/input0", "input:b1\n"),
            ("devices/system/cpu", "cpu:type:x86\n"),
        ] {
            fs::create_dir_all(sys.join(device)).unwrap();
            fs::write(sys.join(device).join("modalias"), alias).unwrap();
        }
        assert_eq!(modaliases(&sys), ["virtio:d1v2", "input:b1", "cpu:type:x86"]);
        fs::create_dir_all(sys.join("class/dmi/id")).unwrap();
        fs::write(sys.join("class/dmi/id/product_name"), "Board 7\n").unwrap();
        assert_eq!(hardware(&sys), "#  Board 7\ncpu:type:x86\ninput:b1\nvirtio:d1v2\n");
        let index = crate::modules::tests::index("", "alias virtio:d9* x\n", "", "");
        assert_eq!(unserved(&sys, &index), ["virtio:d1v2"]);
        let index = crate::modules::tests::index("", "alias virtio:d1* x\n", "", "");
        assert!(unserved(&sys, &index).is_empty(), "a module serves it");
        let index = crate::modules::tests::index("", "", "", "");
        fs::create_dir_all(sys.join("bus/virtio/devices/virtio0/driver")).unwrap();
        assert!(unserved(&sys, &index).is_empty(), "it has a driver");
        fs::remove_dir_all(&sys).unwrap();
        assert!(modaliases(&sys).is_empty());
    }
}
