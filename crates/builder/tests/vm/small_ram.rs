//! Too little RAM is reported as what it is.

use flate2::{Compression, write::GzEncoder};
use std::io::Write;
use testkit::{QEMU, need::have, newc, rescue, vm::smoke};

/// The kernel's rootfs takes half of the RAM: more than that in the initrd fails to unpack, and the kernel only logs it.
#[test]
fn what_does_not_unpack_fails_at_once() {
    if !have(&[QEMU]) {
        return;
    }
    let (_folder, image) = rescue().copy();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&newc::entry("ballast", 0o100_644, &vec![0; 200 << 20])).unwrap();
    packed.write_all(&newc::entry("TRAILER!!!", 0, b"")).unwrap();
    newc::append(&image.dir().join("initrd.img"), &packed.finish().unwrap());
    let outcome = smoke(&image, &["--ram-mib", "256"]);
    outcome.assert_failed("could not unpack the initramfs: write error");
    assert!(outcome.stderr.contains("raise --ram-mib"), "{}", outcome.stderr);
}
