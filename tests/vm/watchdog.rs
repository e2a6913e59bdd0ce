//! The hardware watchdog: it lets a machine live whose PID1 lives, and resets one whose PID1 does not.

use crate::image::Image;
use crate::vm::{smoke, wait_until};
use crate::{QEMU, need::have};
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Of the watchdog, seconds.
const TIMEOUT_S: u64 = 10;

/// PID1 is in the cgroup `init`: frozen, it shows no sign of life.
const RECIPE: &str = r#"
[vars]
hang = { type = "bool", default = false }
[kernel]
modules = ["i6300esb"]
[watchdog]
timeout_s = 10
[[service]]
name = "hang"
when = "hang"
exec = ["/bin/sh", "-c", "sleep 5; echo 1 > /sys/fs/cgroup/init/cgroup.freeze"]
restart = "never"
"#;

/// A machine with the device, which ends when it is reset.
struct Machine {
    qemu: Child,
    console: std::path::PathBuf,
}

impl Machine {
    /// Boots the image as its last smoke test did.
    fn start(image: &Image) -> Machine {
        let command = std::fs::read_to_string(image.dir().join("smoke/qemu.txt")).expect("a smoke test left it");
        let console = image.dir().join("smoke/watchdog.log");
        let log = File::create(&console).expect("a new file");
        let command = format!("exec {} -device i6300esb -action watchdog=reset", command.trim());
        let qemu = Command::new("sh").args(["-c", &command]).stdin(Stdio::null()).stdout(log).spawn();
        Machine { qemu: qemu.expect("a shell"), console }
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    fn has_ended(&mut self) -> bool {
        self.qemu.try_wait().expect("it was started here").is_some()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both only fail when it has ended already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

#[test]
fn a_machine_that_lives_is_not_reset() {
    if !have(&[QEMU]) {
        return;
    }
    let image = Image::build_variant("watchdog", "rescue", RECIPE, &[]);
    smoke(&image, &["--append", "bw.poweroff_after_s=30"]).assert_passed();
    let mut machine = Machine::start(&image);
    wait_until("it is armed", Duration::from_secs(90), || machine.console().contains("resets after 10 s of silence"));
    let armed = Instant::now();
    wait_until("it is off", Duration::from_secs(120), || machine.has_ended());
    assert!(machine.console().contains("down poweroff"), "{}", machine.console());
    assert!(armed.elapsed() > Duration::from_secs(2 * TIMEOUT_S), "{:?}", armed.elapsed());
}

#[test]
fn a_machine_whose_pid1_hangs_is_reset() {
    if !have(&[QEMU]) {
        return;
    }
    let image = Image::build_variant("watchdog-hang", "rescue", RECIPE, &["hang=true"]);
    // Without the device nothing ends it: the smoke test passes before PID1 hangs.
    smoke(&image, &["--until", "phases-done"]).assert_passed();
    let mut machine = Machine::start(&image);
    wait_until("it is armed", Duration::from_secs(90), || machine.console().contains("resets after 10 s of silence"));
    let armed = Instant::now();
    wait_until("it is reset", Duration::from_secs(120), || machine.has_ended());
    assert!(!machine.console().contains(" down poweroff"), "{}", machine.console());
    assert!(armed.elapsed() > Duration::from_secs(TIMEOUT_S), "{:?}", armed.elapsed());
}
