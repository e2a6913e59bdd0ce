//! The control commands on a node, and the way down from there.

use std::time::Duration;
use testkit::image::Image;
use testkit::ssh::{key, ssh, ssh_ok};
use testkit::vm::{Running, runs, wait_until};
use testkit::{QEMU, need::have};

/// Another file system and another compressor than the recipe's own.
const RECIPE: &str = r#"
[root]
image = "erofs"
compressor = "lz4hc"
[pack]
stable = "xz:6"
volatile = "xz:6"
[budget]
boot_files_mb = 30
"#;

#[test]
fn status_logs_timeline_restart_and_poweroff() {
    if !have(&[QEMU, "ssh", "ssh-keygen", "mkfs.erofs"]) {
        return;
    }
    let image = Image::build_variant("rescue-erofs", "rescue", RECIPE, &[&format!("ssh_key={}", key().public)]);
    let machine = Running::start(&image, &[]);
    let status = ssh_ok(&machine, "bootwright-ctl status");
    assert!(status.contains("sshd"), "{status}");
    let timeline = ssh_ok(&machine, "cat /run/bootwright/timeline.json");
    assert!(timeline.contains("\"recipe\":\"rescue-erofs\""), "{timeline}");
    ssh_ok(&machine, "bootwright-ctl timeline");
    assert!(ssh_ok(&machine, "grep erofs /sys/module/erofs/refcnt /proc/filesystems").contains("erofs"));
    ssh_ok(&machine, "bootwright-ctl logs sshd");
    // The connection may be cut by what it asks for.
    ssh(&machine, "bootwright-ctl poweroff");
    let qemu = machine.qemu_pid();
    wait_until("the machine is off", Duration::from_secs(60), || !runs(qemu));
    assert!(image.console().contains("down poweroff"), "{}", image.console());
}
