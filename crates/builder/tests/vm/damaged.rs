//! Damaged initrds: the kernel finds what it can, PID1 the rest.

use testkit::{QEMU, need::have, newc, rescue, vm::smoke};

#[test]
fn a_truncated_initrd_is_not_booted() {
    if !have(&[QEMU]) {
        return;
    }
    let (_folder, image) = rescue().copy();
    let initrd = image.dir().join("initrd.img");
    let size = std::fs::metadata(&initrd).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&initrd).unwrap().set_len(size / 2).unwrap();
    smoke(&image, &["--deadline-s", "60"]).assert_failed("could not unpack the initramfs");
}

#[test]
fn a_file_that_is_not_what_was_packed_stops_pid1() {
    if !have(&[QEMU]) {
        return;
    }
    let (_folder, image) = rescue().copy();
    newc::append_file(&image.dir().join("initrd.img"), "bootwright/root/usr/bin/busybox", b"not busybox");
    let outcome = smoke(&image, &["--deadline-s", "60"]);
    outcome.assert_failed("PID1 stopped in phase `verify`");
    assert!(outcome.stderr.contains("/usr/bin/busybox"), "{}", outcome.stderr);
}
