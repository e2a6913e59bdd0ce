//! The smallest image boots, loaded by QEMU and by iPXE, and leaves its reports.

use crate::{QEMU, need::have, rescue, vm::smoke};
use bootwright_contract::console::Timeline;

#[test]
fn boots_from_kernel_and_initrd() {
    if !have(&[QEMU]) {
        return;
    }
    let outcome = smoke(&rescue(), &[]);
    outcome.assert_passed();
    assert!(outcome.uptime_s("phases-done").is_some());
    let timeline: Timeline = serde_json::from_str(&outcome.log("timeline.json")).expect("PID1 wrote a timeline");
    assert_eq!(timeline.recipe, "rescue");
    assert!(timeline.phases.iter().all(|p| p.outcome.as_deref() == Some("ok")), "{timeline:#?}");
    let junit = outcome.log("junit.xml");
    assert!(junit.contains("ssh-answers") && junit.contains("failures=\"0\""), "{junit}");
    assert!(outcome.log("qemu.txt").starts_with("qemu-system-x86_64 "));
}

#[test]
fn boots_over_the_network_from_its_own_ipxe_script() {
    if !have(&[QEMU]) {
        return;
    }
    let outcome = smoke(&rescue(), &["--via", "ipxe", "--deadline-s", "180"]);
    outcome.assert_passed();
    let fetched = outcome.log("http.log");
    for file in ["boot.ipxe", "vmlinuz", "initrd.img"] {
        assert!(fetched.contains(&format!("GET /{file} 200")), "{fetched}");
    }
}

#[test]
fn a_network_root_is_refused_by_an_image_without_them() {
    if !have(&[QEMU]) {
        return;
    }
    let outcome = smoke(&rescue(), &["--append", "bw.root=nbd://10.0.2.2/rescue", "--deadline-s", "60"]);
    outcome.assert_failed("PID1 stopped in phase `root`");
    let told = "this image's PID1 has no network roots, and cannot reach `nbd://10.0.2.2/rescue`: build the image with `--root";
    assert!(outcome.console().contains(told), "{}", outcome.console());
}

#[test]
fn an_ipxe_script_that_cannot_fetch_fails_with_its_reason_on_the_console() {
    if !have(&[QEMU]) {
        return;
    }
    let (_folder, image) = rescue().copy();
    let path = image.dir().join("boot.ipxe");
    let script = std::fs::read_to_string(&path).unwrap().replace("kernel vmlinuz ", "kernel nothing-here ");
    std::fs::write(&path, script).unwrap();
    let outcome = smoke(&image, &["--via", "ipxe", "--deadline-s", "180"]);
    outcome.assert_failed("the network loader gave up");
    assert!(outcome.stderr.contains("No such file or directory"), "{}", outcome.stderr);
    let asked = outcome.log("http.log").matches("GET /nothing-here 404").count();
    assert!(asked > 1, "it tries again: {}", outcome.log("http.log"));
}
