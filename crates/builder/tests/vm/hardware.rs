//! What a machine's devices ask for: collected on it, and known to `build`.

use testkit::image::Image;
use testkit::ssh::{key, ssh_ok};
use testkit::vm::Running;
use testkit::{QEMU, need::have};

/// All unpacked, by gzip, and a segment that is not compressed.
const RECIPE: &str = r#"
[root]
image = "cpio"
[pack]
stable = "gzip:6"
volatile = "none"
[budget]
boot_files_mb = 40
ram_mib = 256
"#;

#[test]
fn a_node_prints_its_modaliases_and_lists_those_without_a_module() {
    if !have(&[QEMU, "ssh", "ssh-keygen"]) {
        return;
    }
    let key = format!("ssh_key={}", key().public);
    let machine = Running::start(&Image::build_variant("rescue-gzip", "rescue", RECIPE, &[&key]), &[]);
    let printed = ssh_ok(&machine, "bootwright-ctl hardware");
    // QEMU's machine: virtio's network card, and q35's host bridge, which needs no driver.
    let (card, bridge) = ("virtio:d00000001v00001AF4", "pci:v00008086d000029C0");
    assert!(
        printed.starts_with("# QEMU Standard PC") && printed.contains(card) && printed.contains(bridge),
        "{printed}"
    );
    let lines: Vec<&str> = printed.lines().skip(1).collect();
    assert!(lines.iter().all(|line| line.contains(':')) && lines.is_sorted(), "{printed}");
    let timeline = ssh_ok(&machine, "bootwright-ctl timeline --json");
    let timeline: serde_json::Value = serde_json::from_str(&timeline).expect("it is JSON");
    let unserved = timeline["unserved"].as_array().expect("a list").iter().map(|a| a.as_str().expect("a text"));
    let unserved: Vec<&str> = unserved.collect();
    assert!(unserved.iter().any(|alias| alias.starts_with(bridge)), "{unserved:?}");
    assert!(!unserved.contains(&card), "it has its driver");

    let fleet = testkit::folders::work_folder().join("vm-fleet.txt");
    std::fs::write(&fleet, &printed).expect("cargo's folder for tests is writable");
    let image = Image::build_variant(
        "vm-fleet",
        "rescue",
        "[budget]\nboot_files_mb = 30\n[kernel]\nmodaliases = \"vm-fleet.txt\"\n",
        &[],
    );
    let manifest = std::fs::read_to_string(image.dir().join("manifest.json")).expect("a finished image has a manifest");
    // q35's watchdog timer: on no list of the recipe, but a device of this machine asks for it.
    assert!(manifest.contains("/lpc_ich.ko"), "the closure of what the machine asks for");
}
