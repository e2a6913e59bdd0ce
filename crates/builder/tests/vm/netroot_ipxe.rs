//! The image's own `boot.ipxe` leads to the root.

use testkit::image::Image;
use testkit::{QEMU, need::have, vm::smoke};

#[test]
fn the_root_is_fetched_from_where_the_script_was() {
    if !have(&[QEMU, "mksquashfs"]) {
        return;
    }
    let outcome = smoke(&Image::build_with_root("rescue", "http", &[]), &["--via", "ipxe", "--deadline-s", "240"]);
    outcome.assert_passed();
    let fetched = outcome.log("http.log");
    for file in ["boot.ipxe", "vmlinuz", "initrd.img", "root.img"] {
        assert!(fetched.contains(&format!("GET /{file} 200")), "{fetched}");
    }
}
