//! QEMU never outlives the tool.

use std::time::Duration;
use testkit::{QEMU, need::have, rescue, vm::Running, vm::runs, vm::wait_until};

#[test]
fn ctrl_c_ends_the_machine_and_then_the_tool() {
    if !have(&[QEMU]) {
        return;
    }
    let mut machine = Running::start(&rescue(), &["--until", "phases-done"]);
    let qemu = machine.qemu_pid();
    assert!(runs(qemu));
    machine.signal("INT");
    wait_until("the tool ends", Duration::from_secs(10), || machine.tool.try_wait().unwrap().is_some());
    assert!(!runs(qemu), "QEMU outlived the tool");
}

#[test]
fn kill_9_of_the_tool_ends_the_machine() {
    if !have(&[QEMU]) {
        return;
    }
    let machine = Running::start(&rescue(), &["--until", "phases-done"]);
    let qemu = machine.qemu_pid();
    assert!(runs(qemu));
    machine.signal("KILL");
    wait_until("QEMU ends", Duration::from_secs(10), || !runs(qemu));
}
