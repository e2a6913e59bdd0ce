//! The hardware watchdog: it lets a machine live whose PID1 lives, and resets one whose PID1 does not.

use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testkit::console;
use testkit::image::Image;
use testkit::vm::{boot_until, wait_until};
use testkit::{QEMU, need::have};

/// Of the watchdog, seconds.
const TIMEOUT_S: u64 = 10;

/// A terminal stops and goes on (termios(3), IXON).
pub const CTRL_S: u8 = 0x13;
pub const CTRL_Q: u8 = 0x11;

/// PID1 is in the cgroup `init`: frozen, it shows no sign of life. The kernel command line says when; or whether a service fills
/// the console and restarts, of which PID1 has something to say each time.
const RECIPE: &str = r#"
[kernel]
early = ["loop", "overlay", "i6300esb"]
[watchdog]
timeout_s = 10
[[service]]
name = "hang"
exec = ["/bin/sh", "-c", """
freeze() { echo 1 > /sys/fs/cgroup/init/cgroup.freeze; }
case "$(cat /proc/cmdline)" in
*hang=console*) yes > /dev/console & sleep 1; exit 1;;
*hang=running*) sleep 3; freeze;;
*hang=stopping*) trap freeze TERM; sleep 3; kill -s TERM 1; while :; do sleep 1; done;;
esac
"""]
restart = "always"
"#;

/// A machine with the device, which ends when it is reset.
pub struct Machine {
    qemu: Child,
    console: std::path::PathBuf,
}

impl Machine {
    /// Boots the image as its smoke test did, with more words on the kernel command line, and waits for the watchdog.
    fn start(image: &Image, words: &str) -> Machine {
        Self::start_forwarding(image, words, "")
    }

    /// The same with a port of the host's loopback address for the guest's sshd.
    pub fn start_with_ssh(image: &Image, words: &str, port: u16) -> Machine {
        Self::start_forwarding(image, words, &format!(",hostfwd=tcp:127.0.0.1:{port}-:22"))
    }

    fn start_forwarding(image: &Image, words: &str, forward: &str) -> Machine {
        let command = std::fs::read_to_string(image.dir().join("smoke/qemu.txt")).expect("a smoke test left it");
        let console = image.dir().join("smoke/watchdog.log");
        let log = File::create(&console).expect("a new file");
        // That machine may still be about to end, and holds the port that leads to its sshd.
        let (before, port) = command.trim().split_once(",hostfwd=").expect("a smoke boot forwards a port");
        let after = port.split_once(' ').expect("more options follow").1;
        let command = format!("{before}{forward} {after}").replace("-append '", &format!("-append '{words} "));
        let command = format!("exec {command} -device i6300esb -action watchdog=reset");
        let qemu = Command::new("sh").args(["-c", &command]).stdin(Stdio::piped()).stdout(log).spawn();
        let machine = Machine { qemu: qemu.expect("a shell"), console };
        machine.await_line("resets after 10 s of silence");
        machine
    }

    #[track_caller]
    pub fn await_line(&self, text: &str) {
        wait_until(text, Duration::from_secs(90), || self.console().contains(text));
    }

    pub fn console(&self) -> String {
        console::read(&self.console)
    }

    pub fn type_in(&mut self, keys: &[u8]) {
        let stdin = self.qemu.stdin.as_mut().expect("it was set to a pipe");
        stdin.write_all(keys).expect("QEMU reads it");
    }

    pub fn has_ended(&mut self) -> bool {
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

/// An image for it, with the command of a smoke test that boots it.
fn image() -> Image {
    let image = Image::build_variant("watchdog", "rescue", RECIPE, &[]);
    boot_until(&image, &[], "Linux version");
    image
}

/// Not even if somebody stops its console with Ctrl-S: PID1's lines are lost then, and nothing else.
#[test]
fn a_machine_that_lives_is_not_reset() {
    if !have(&[QEMU]) {
        return;
    }
    let mut machine = Machine::start(&image(), "hang=console bw.poweroff_after_s=25");
    let armed = Instant::now();
    machine.type_in(&[CTRL_S]);
    while armed.elapsed() < Duration::from_secs(2 * TIMEOUT_S) {
        assert!(!machine.has_ended(), "{}", machine.console());
        std::thread::sleep(Duration::from_millis(100));
    }
    machine.type_in(&[CTRL_Q]);
    wait_until("it is off", Duration::from_secs(120), || machine.has_ended());
    assert!(machine.console().contains("down poweroff"), "{}", machine.console());
}

/// Once while it runs, once on the way down: what PID1 bounds there by itself takes longer than the watchdog waits.
#[test]
fn a_machine_whose_pid1_hangs_is_reset() {
    if !have(&[QEMU]) {
        return;
    }
    let image = image();
    for (words, last) in [("hang=running", "phases done"), ("hang=stopping", "poweroff asked for by SIGTERM")] {
        let mut machine = Machine::start(&image, words);
        machine.await_line(last);
        let since = Instant::now();
        wait_until("it is reset", Duration::from_secs(45), || machine.has_ended());
        eprintln!("{words}: reset {:.1} s after {last:?}", since.elapsed().as_secs_f64());
        let console = machine.console();
        assert!(!console.contains(" down poweroff") && !console.contains("Kernel panic"), "{console}");
        assert_eq!(console.contains("poweroff asked for"), words == "hang=stopping", "{console}");
        // Signs of life come three times in its time, so the last one is a third of it old at most.
        assert!(since.elapsed() > Duration::from_secs(TIMEOUT_S / 2), "{:?}", since.elapsed());
    }
}

/// In the middle of the boot, where somebody at a shell may take his time.
#[test]
fn a_boot_that_hangs_is_reset_and_one_that_waits_is_not() {
    if !have(&[QEMU]) {
        return;
    }
    let mut machine = Machine::start(&image(), "bw.stop=devices");
    machine.await_line("stopped before phase devices");
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(2 * TIMEOUT_S) {
        assert!(!machine.has_ended(), "{}", machine.console());
        std::thread::sleep(Duration::from_millis(100));
    }
    machine.type_in(b"echo 1 > /sys/fs/cgroup/init/cgroup.freeze\n");
    let since = Instant::now();
    wait_until("it is reset", Duration::from_secs(45), || machine.has_ended());
    eprintln!("reset after {:.1} s", since.elapsed().as_secs_f64());
    let console = machine.console();
    assert!(!console.contains("phase devices ok") && !console.contains("Kernel panic"), "{console}");
}
