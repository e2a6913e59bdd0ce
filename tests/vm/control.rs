//! The control commands on a node, and the way down from there.

use crate::image::Image;
use crate::ssh::{key, ssh, ssh_ok};
use crate::vm::{Running, runs, wait_until};
use crate::{QEMU, need::have};
use std::time::Duration;

#[test]
fn status_logs_timeline_restart_and_poweroff() {
    if !have(&[QEMU, "ssh", "ssh-keygen"]) {
        return;
    }
    let image = Image::build("rescue", &[&format!("ssh_key={}", key().public)]);
    let machine = Running::start(&image, &[]);
    let status = ssh_ok(&machine, "bootwright-ctl status");
    assert!(status.contains("sshd"), "{status}");
    let timeline = ssh_ok(&machine, "cat /run/bootwright/timeline.json");
    assert!(timeline.contains("\"recipe\":\"rescue\""), "{timeline}");
    ssh_ok(&machine, "bootwright-ctl timeline");
    ssh_ok(&machine, "bootwright-ctl logs sshd");
    // The connection may be cut by what it asks for.
    ssh(&machine, "bootwright-ctl poweroff");
    let qemu = machine.qemu_pid();
    wait_until("the machine is off", Duration::from_secs(60), || !runs(qemu));
    let console = std::fs::read(image.dir().join("smoke/console.log")).unwrap();
    assert!(String::from_utf8_lossy(&console).contains("down poweroff"));
}
