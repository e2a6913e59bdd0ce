//! A boot that fails leaves the logs of its services and of the kernel, and a machine that was kept can be looked into.

use std::process::Stdio;
use std::time::Duration;
use testkit::image::Image;
use testkit::ssh::{key, ssh_ok};
use testkit::vm::{Running, runs, smoke, wait_until};
use testkit::{QEMU, need::have};

/// `bad` never becomes ready, and what it writes is odd; `flood` writes more than a log holds, and its reason last; `good` is
/// ready; `hidden` is waited for by nobody; `shaky` is ready and fails then.
const RECIPE: &str = r#"
[smoke]
expect = ["phases-done", "service:good", "service:bad"]
[[service]]
name = "good"
exec = ["/bin/sh", "-c", "echo all is well; : > /run/good; exec sleep 100000"]
ready = { file = "/run/good" }
[[service]]
name = "flood"
exec = ["/bin/sh", "-c", "trap '' TERM; head -c 3000000 /dev/zero | tr '\\000' x; echo; echo the flood is over; exec sleep 100000"]
log_kib = 64
[[service]]
name = "hidden"
exec = ["/bin/sh", "-c", "echo seen by nobody; exec sleep 100000"]
[[service]]
name = "bad"
exec = ["/bin/sh", "-c", "echo cannot bind to port 1; printf 'odd \\033[2J\\000 and no newline'; exit 3"]
after = ["good"]
ready = { file = "/run/never" }
backoff_ms = 200
[[service]]
name = "shaky"
exec = ["/bin/sh", "-c", "echo it was up for a moment; exit 4"]
backoff_ms = 20000
"#;

fn image() -> Image {
    Image::build_variant("rescue-fails", "rescue", RECIPE, &[&format!("ssh_key={}", key().public)])
}

/// The console says little and sshd is never asked: neither is how logs come out.
#[test]
fn a_boot_that_fails_tells_why_and_keeps_all_logs() {
    if !have(&[QEMU]) {
        return;
    }
    let outcome = smoke(&image(), &["--append", "loglevel=1 ip=off"]);
    outcome.assert_failed("service `bad` failed 5 times, the last time: exit status 3");
    assert!(outcome.uptime_s("service:good").is_some() && outcome.uptime_s("service:bad").is_none());
    let bad = outcome.logs.join("services/bad.log");
    let shown = format!("  last lines of `bad` ({}):\n", bad.display());
    assert!(outcome.stderr.contains(&shown), "{}", outcome.stderr);
    let tail = r"odd \u001b[2J\u0000 and no newline";
    assert!(outcome.stderr.contains(&format!("    cannot bind to port 1\n    {tail}")), "{}", outcome.stderr);
    let shaky = "    it was up for a moment\n";
    assert!(outcome.stderr.contains("last lines of `shaky` (") && outcome.stderr.contains(shaky), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("last lines of `good`"), "{}", outcome.stderr);

    assert_eq!(outcome.log("services/bad.log"), "cannot bind to port 1\nodd \u{1b}[2J\0 and no newline".repeat(5));
    assert_eq!(outcome.log("services/good.log"), "all is well\n");
    assert_eq!(outcome.log("services/hidden.log"), "seen by nobody\n");
    let flood = outcome.log("services/flood.log");
    assert!(flood.ends_with("\nthe flood is over\n"), "{} bytes", flood.len());
    assert!((64 << 10..=128 << 10).contains(&flood.len()), "{} bytes of two logs of 64 KiB", flood.len());
    assert!(outcome.log("services/sshd.log").len() < 4096, "sshd said little: {}", outcome.log("services/sshd.log"));

    let kernel = outcome.log("kernel.log");
    assert!(kernel.starts_with("[    0.000000] Linux version "), "{kernel:.300}");
    assert!(!kernel.contains("records were lost"), "{kernel}");
    assert!(!outcome.console().contains("Linux version"), "the console has less than the log");
    let listed = outcome.report["service_logs"]["flood"].as_str().expect("it is listed");
    assert_eq!(std::path::Path::new(listed), outcome.logs.join("services/flood.log"));
    assert!(!outcome.logs.parent().expect("an image").join("services").exists());
}

#[test]
fn a_good_service_of_ones_own_is_waited_for_and_leaves_no_logs() {
    if !have(&[QEMU]) {
        return;
    }
    let outcome = smoke(&image(), &["--until", "service:good"]);
    outcome.assert_passed();
    assert!(outcome.uptime_s("service:good").is_some());
    assert!(!outcome.logs.join("services").exists() && !outcome.logs.join("kernel.log").exists());
}

#[test]
fn a_failed_boot_that_is_kept_can_be_looked_into_by_what_is_printed() {
    if !have(&[QEMU, "ssh", "ssh-keygen"]) {
        return;
    }
    let image = image();
    let said = image.out.join("said");
    let file = std::fs::File::create(&said).expect("cargo's folder for tests is writable");
    let mut machine = Running::keep_failed(&image.arguments(), Stdio::from(file));
    let (qemu, port) = (machine.qemu_pid(), machine.ssh_port());
    let printed = || std::fs::read_to_string(&said).expect("it was made");
    wait_until("the way in is printed", Duration::from_secs(30), || printed().contains("logs so far: "));
    let (told, logs) = (printed(), image.dir().join("smoke"));
    assert!(told.contains("last lines of `bad` (") && told.contains("cannot bind to port 1"), "{told}");
    assert!(told.contains(&format!("\n  ssh -p {port} root@127.0.0.1\n")), "{told}");
    assert!(told.contains(&format!("\n  logs so far: {}\n", logs.display())), "{told}");
    assert!(logs.join("services/bad.log").exists() && logs.join("kernel.log").exists());
    let monitor = told.split_once("(QMP): ").and_then(|(_, rest)| rest.lines().next()).expect("a socket is printed");
    assert_eq!(machine.report["qmp_socket"], monitor);
    machine.command("query-status", serde_json::json!({}));

    let seen = ssh_ok(&machine, "bootwright-ctl logs bad; bootwright-ctl logs good");
    assert!(seen.contains("cannot bind to port 1") && seen.contains("all is well"), "{seen}");
    assert!(runs(qemu));
    machine.signal("INT");
    let status = machine.tool.wait().expect("it is our child");
    assert_eq!(status.code(), Some(5), "{}", printed());
    wait_until("the machine has ended", Duration::from_secs(10), || !runs(qemu));
    assert!(printed().contains("error: smoke boot of `rescue-fails` failed in "), "{}", printed());
}
