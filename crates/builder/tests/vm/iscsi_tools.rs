//! The recipe piece `iscsi-tools`: a driver of volumes calls the node's iscsiadm, and PID1's own session is none of iscsid's.

use crate::outage::outage;
use std::time::Duration;
use testkit::image::Image;
use testkit::ssh::{key, ssh_ok};
use testkit::tgt::{Disk, NAME, Target, Tgt};
use testkit::tool::tool;
use testkit::vm::Running;
use testkit::{QEMU, need::have};

/// What comes on top of the worker.
const BUDGET: &str = "[budget]\nboot_files_mb = 80\nnetroot_initrd_mb = 8\nram_mib = 1024\n";
const VOLUME: u64 = 48 << 20;

/// Stands for csi-driver-iscsi: its wrapper calls the node's iscsiadm by chroot, and the driver formats and mounts the disk. tgtd names
/// its portal as it sees it, which is not the guest's address for it: so the record is made by hand, as the driver does without discovery.
const ATTACH: &str = r#"
set -e
node() { chroot /proc/1/root /usr/sbin/iscsiadm "$@"; }
node -m discovery -t sendtargets -p PORTAL
node -m node -o delete -T NAME
node -m node -o new -T NAME -p PORTAL
node -m node -T NAME -p PORTAL --login
for i in $(seq 100); do
    for disk in /sys/block/sd*; do [ "$(cat $disk/size)" = SECTORS ] && [ ! -e /run/volume ] && basename $disk > /run/volume; done
    [ ! -e /run/volume ] || break
    sleep 0.1
done
/usr/sbin/mke2fs -q -t ext4 /dev/$(cat /run/volume)
mount -t ext4 /dev/$(cat /run/volume) /mnt
echo kept > /mnt/file
"#;

/// iscsid comes back to its own session; then all that iscsiadm knows is logged out of, by records and by sessions.
const RESTART: &str = "bootwright-ctl restart iscsid; for i in $(seq 50); do \
    iscsiadm -m session -P 1 2>/dev/null | grep -q 'iSCSI Connection State: LOGGED IN' && break; sleep 0.2; done";
const LOGOUT: &str = "umount /mnt; iscsiadm -m node --logoutall=all 2>&1; iscsiadm -m session --logout 2>&1; true";

#[test]
fn a_driver_attaches_volumes_by_the_nodes_iscsiadm_and_the_roots_session_stays_pid1s() {
    if !have(&[QEMU, "tgtd", "go", "ssh", "ssh-keygen"]) {
        return;
    }
    let key = format!("ssh_key={}", key().public);
    let sets = ["debug=true", "login_shell=/bin/sh", &key];
    let image =
        Image::build_variant_with_root("worker-iscsi-tools", "worker iscsi-tools ext4", BUDGET, &sets, Some("iscsi"));
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    tool().args(["addons", "--recipe", &image.recipe, "csi-driver-iscsi"]).args(sets).assert().success();
    let mut root = Tgt::start(Target::open(&image.dir().join("root.img")));
    let folder = testkit::folders::new_folder();
    let disk = folder.path().join("volume.img");
    std::fs::File::create(&disk).and_then(|file| file.set_len(VOLUME)).expect("a new file");
    let volume = Tgt::start(Target { disks: vec![Disk { image: disk, writable: true }], ..Target::default() });
    let source = format!("bw.root=iscsi://10.0.2.2:{}/{NAME}", root.port());
    let machine = Running::start(&image, &["--append", &source, "--ram-mib", "1024", "--deadline-s", "240"]);

    let of_root = ssh_ok(&machine, "cat /sys/class/iscsi_session/session1/initiatorname");
    let of_node = ssh_ok(&machine, "cat /etc/iscsi/initiatorname.iscsi");
    assert_eq!(of_node, format!("InitiatorName={of_root}"));

    let portal = format!("10.0.2.2:{}", volume.port());
    let attach =
        ATTACH.replace("PORTAL", &portal).replace("NAME", NAME).replace("SECTORS", &(VOLUME / 512).to_string());
    let said = ssh_ok(&machine, &attach);
    assert!(said.contains(NAME) && said.contains("successful"), "{said}");
    assert_eq!(sessions(&machine), "session1\nsession2\n");

    ssh_ok(&machine, RESTART);
    assert_eq!(ssh_ok(&machine, "cat /mnt/file"), "kept\n");
    let said = ssh_ok(&machine, LOGOUT);
    assert_eq!(sessions(&machine), "session1\n", "{said}");
    check_root(&machine, 0);
    outage(&image, Duration::from_secs(6), |up| if up { root.restart() } else { root.kill() });
    check_root(&machine, 1);
    let log = ssh_ok(&machine, "bootwright-ctl logs iscsid");
    assert!(!log.contains("session 1") && !log.contains("connection1:0"), "{log}");
}

fn sessions(machine: &Running) -> String {
    ssh_ok(machine, "ls /sys/class/iscsi_session")
}

/// It is read from its server, and PID1 lost it that often.
#[track_caller]
fn check_root(machine: &Running, losses: u32) {
    ssh_ok(machine, "echo 3 > /proc/sys/vm/drop_caches; cat /usr/bin/kubelet > /dev/null");
    let roots = ssh_ok(machine, "cat /run/bootwright/roots.json");
    let expected = format!("\"losses\":{losses}");
    assert!(roots.contains("\"state\":\"up\"") && roots.contains(&expected), "{roots}");
}
