//! Roots on a server, when the network or the server goes for good.

use sha2::{Digest, Sha256};
use testkit::image::Image;
use testkit::lan::{Rules, lan};
use testkit::machine::{Card, Machine};
use testkit::nbd::{QEMU_NBD, qemu_nbd};
use testkit::ssh::{key, ssh_ok_at};
use testkit::{QEMU, need::have};

/// Short, so that the test is; it is renewed until the server of leases is gone.
const LEASE_S: u32 = 8;
/// What the recipe below says, seconds.
const PATIENCE_S: f64 = 5.0;

#[test]
fn a_lease_that_ends_does_not_take_the_root_away() {
    if !have(&[QEMU, QEMU_NBD, "ssh", "ssh-keygen"]) {
        return;
    }
    let image = Image::build_with_root("rescue", "nbd", &[&format!("ssh_key={}", key().public)]);
    let disk = image.dir().join("root.img");
    let server = qemu_nbd(&disk, "rescue");
    let lan = lan(Rules { lease_s: LEASE_S, uplink: true, ..Rules::default() });
    let root = format!("bw.root=nbd://10.9.0.1:{}/rescue", server.port);
    let machine = Machine::start(&image, &root, &[Card::Lan(&lan)]);
    machine.await_line("phases done");
    lan.end_dhcp();
    machine.await_line("eth0: the lease of 10.9.0.50 has ended");
    machine.await_line("eth0: keeps 10.9.0.50, as the root comes over it");
    let said = ssh_ok_at(
        lan.ssh_port(),
        "echo 3 > /proc/sys/vm/drop_caches; busybox sha256sum < /dev/nbd0; busybox ip -4 addr show dev eth0; cat /run/bootwright/roots.json",
    );
    let hash = hex::encode(Sha256::digest(std::fs::read(&disk).expect("the image was built")));
    for text in [&hash[..], "inet 10.9.0.50/24", "\"state\":\"up\"", "\"losses\":0"] {
        assert!(said.contains(text), "no {text:?} in {said}");
    }
}

#[test]
fn a_server_that_stays_lost_makes_the_machine_reboot() {
    if !have(&[QEMU, QEMU_NBD]) {
        return;
    }
    let recipe = "[root]\nlost = { reboot_after_s = 5 }\n";
    let image = Image::build_variant_with_root("impatient", "rescue", recipe, &[], Some("nbd"));
    let mut server = qemu_nbd(&image.dir().join("root.img"), "impatient");
    let root = format!("bw.root=nbd://10.0.2.2:{}/impatient", server.port);
    let machine = Machine::start(&image, &root, &[Card::User]);
    machine.await_line("phases done");
    server.kill();
    machine.await_lines("Linux version ", 2);
    let console = machine.console();
    // PID1 starts its lines with the uptime.
    let uptime_s = |text: &str| -> f64 {
        let line = console.lines().find(|line| line.contains("bootwright: ") && line.contains(text));
        let time = line.and_then(|line| line.split("bootwright: ").nth(1)?.split(' ').next()?.parse().ok());
        time.unwrap_or_else(|| panic!("no {text:?} in {console}"))
    };
    let waited_s = uptime_s("stays lost; rebooting") - uptime_s(" is lost");
    assert!((PATIENCE_S..PATIENCE_S + 5.0).contains(&waited_s), "{waited_s} s");
    server.restart();
    machine.await_lines("phases done", 2);
}
