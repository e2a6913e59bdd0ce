//! The smallest image boots, loaded by QEMU and by iPXE, and leaves its reports.

use bootwright_contract::console::TimelineRecord;
use std::process::{Command, Stdio};
use testkit::image::Image;
use testkit::ssh::{key, power_off, ssh_ok, told_fingerprint};
use testkit::vm::Running;
use testkit::{QEMU, need::have, rescue, vm::smoke};

#[test]
fn boots_from_kernel_and_initrd() {
    if !have(&[QEMU]) {
        return;
    }
    let outcome = smoke(&rescue(), &[]);
    outcome.assert_passed();
    assert!(outcome.uptime_s("phases-done").is_some());
    let timeline: TimelineRecord = serde_json::from_str(&outcome.log("timeline.json")).expect("PID1 wrote a timeline");
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

/// A boot script whose variables are not set.
#[test]
fn words_with_empty_values_change_nothing() {
    if !have(&[QEMU]) {
        return;
    }
    let words = "bw.root= bw.node= bw.overlay_size= bw.hostname= bw.manifest= netroot= nbdroot= nfsroot= ip=";
    smoke(&rescue(), &["--append", words]).assert_passed();
}

/// Mistakes on the kernel command line: a machine that boots without a word is as bad as one that does not boot.
#[test]
fn values_that_cannot_be_are_left_out_and_said() {
    if !have(&[QEMU]) {
        return;
    }
    let words = ["bw.overlay_size=lots", "bw.verify=md5", "bw.hostname=-x", "bw.stop=moon", "bw.poweroff_after_s=1h"];
    let outcome = smoke(&rescue(), &["--append", &words.join(" ")]);
    outcome.assert_passed();
    for word in words {
        let line = format!("`{word}` is left out: expected ");
        assert!(outcome.console().contains(&line), "no {line:?} in {}", outcome.console());
    }
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

/// What ssh-keyscan(1) is shown has the fingerprint that the console and the timeline, which is reported, tell.
#[test]
fn the_host_key_is_the_one_that_the_console_told() {
    if !have(&[QEMU, "ssh", "ssh-keyscan", "ssh-keygen"]) {
        return;
    }
    let image = Image::build("rescue", &[&format!("ssh_key={}", key().public)]);
    let machine = Running::start(&image, &[]);
    let told = told_fingerprint(&image.console());
    let port = machine.ssh_port().to_string();
    // One connection: of several at once QEMU's user networking loses one now and then, and the guest never sees it.
    let scan = Command::new("ssh-keyscan")
        .args(["-t", "ed25519", "-T", "60", "-p", &port, "127.0.0.1"])
        .stdout(Stdio::piped())
        .spawn();
    let mut scan = scan.expect("ssh-keyscan runs");
    let keys = scan.stdout.take().expect("standard output was set to a pipe");
    let shown = Command::new("ssh-keygen").args(["-l", "-f", "-"]).stdin(keys).output().expect("ssh-keygen runs");
    scan.wait().expect("it is our child");
    // `256 SHA256:... [127.0.0.1]:PORT (ED25519)`, a line a key.
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let shown: Vec<&str> = shown.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(shown, [told.as_str()]);
    let timeline: TimelineRecord =
        serde_json::from_str(&ssh_ok(&machine, "cat /run/bootwright/timeline.json")).unwrap();
    let service = timeline.services.iter().find(|service| service.name == "ssh-host-key").unwrap();
    assert_eq!(service.note, Some(format!("host key {told}")));
    power_off(machine);
}
