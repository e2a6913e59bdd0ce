//! The power button ends a machine in order.

use testkit::{QEMU, need::have, rescue, vm::smoke};

#[test]
fn the_acpi_button_is_an_orderly_end() {
    if !have(&[QEMU]) {
        return;
    }
    let outcome = smoke(&rescue(), &["--powerdown"]);
    outcome.assert_passed();
    assert!(outcome.report["powerdown_s"].as_f64().is_some(), "{:#}", outcome.report);
    assert!(outcome.console().contains("down poweroff"));
}
