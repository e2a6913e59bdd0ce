//! What machines with a TPM measure of an image, against what the build said.

use crate::chain::{Lab, first};
use serde_json::Value;
use testkit::event_log::{Event, parse, replay};
use testkit::image::Image;
use testkit::machine::{Card, Machine};
use testkit::need::have;
use testkit::programs::test_program;
use testkit::running::free_port;
use testkit::ssh::{key, ssh_at, ssh_ok_at};
use testkit::tool::tool;
use testkit::tpm::{SWTPM, Tpm};
use testkit::{QEMU, vm::wait_until};

const CARD: &str = "52:54:00:00:00:10";
/// Those that firmware and kernel extend before PID1 runs. PCR 10 goes on growing.
const PCRS: [u32; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
/// Words of the test's own.
const WORDS: &str = "console=ttyS0 panic=-1 no_timer_check";
/// The iPXE of the card loads another one, which calls itself so and hands initrds over by `LoadFile2`: what comes otherwise the kernel
/// does not measure.
fn first_script() -> String {
    format!(
        "#!ipxe\nset bw-args {WORDS}\niseq ${{user-class}} Tinkerbell && chain ../rescue/boot.ipxe || chain ipxe.efi\n"
    )
}

const READY: &str = "service sshd ready in ";

/// The event log of a machine that runs. It leads to what the TPM's registers hold.
fn event_log(ssh_port: u16) -> Vec<Event> {
    let log = ssh_at(ssh_port, "cat /sys/kernel/security/tpm0/binary_bios_measurements");
    assert!(log.status.success(), "{}", String::from_utf8_lossy(&log.stderr));
    let events = parse(&log.stdout);
    for pcr in PCRS {
        let held = ssh_ok_at(ssh_port, &format!("cat /sys/class/tpm/tpm0/pcr-sha256/{pcr}"));
        assert_eq!(held.trim().to_lowercase(), replay(&events, pcr), "PCR {pcr}");
    }
    events
}

/// How often the log has a hash in a register.
fn count(events: &[Event], pcr: &Value, sha256: &Value) -> usize {
    let (pcr, sha256) = (pcr.as_u64().expect("a number"), sha256.as_str().expect("a hash"));
    events.iter().filter(|event| u64::from(event.pcr) == pcr && hex::encode(event.sha256) == sha256).count()
}

/// One line an event.
fn shown(events: &[Event]) -> String {
    let line = |event: &Event| format!("{} {:#x} {}\n", event.pcr, event.kind, hex::encode(event.sha256));
    events.iter().map(line).collect()
}

#[test]
fn kernel_initrd_and_command_line_of_a_boot_by_ipxe_are_in_the_event_log() {
    let ipxe = test_program("ipxe.efi");
    if !have(&[QEMU, "ssh", "ssh-keygen", SWTPM, "/usr/share/OVMF/OVMF_CODE_4M.fd", &ipxe]) {
        return;
    }
    let image = Image::build("rescue", &[&format!("ssh_key={}", key().public)]);
    let variable = format!("bw-args={WORDS}");
    let said = tool()
        .args(["measure", "--json", "--recipe", &image.recipe, "--mac", CARD, "--variable", &variable, "--out"])
        .arg(&image.out)
        .assert()
        .success();
    let said: Value = serde_json::from_slice(&said.get_output().stdout).expect("a document");

    let lab = Lab::new(&image);
    lab.write_first(&first_script());
    let loaders = lab.path("boot-loaders");
    std::fs::create_dir(&loaders).expect("a new folder");
    std::fs::copy(&ipxe, loaders.join("ipxe.efi")).expect("a new file");
    std::fs::write(loaders.join("undionly.kpxe"), "").expect("a new file");
    let serve = lab.serve_with(&["--loaders", "boot-loaders"]);
    let (tpm, ssh_port) = (Tpm::start(), free_port());
    let machine = Machine::start_measured(&tpm, 512, &[Card::Ipxe(ssh_port, &first(&serve))]);
    machine.await_line(READY);
    wait_until("sshd answers", std::time::Duration::from_secs(60), || ssh_at(ssh_port, "true").status.success());
    let events = event_log(ssh_port);

    let command_line = ssh_ok_at(ssh_port, "cat /proc/cmdline");
    assert_eq!(command_line.trim_end(), said["machine"]["text"], "what the kernel has got");
    let (kernel, initrd) = (&said["kernel"], &said["initrd"]);
    assert!(count(&events, &kernel["pcr"], &kernel["authenticode_sha256"]) > 0, "{said:#}\n{}", shown(&events));
    assert_eq!(count(&events, &initrd["pcr"], &initrd["sha256"]), 1, "{said:#}\n{}", shown(&events));
    assert_eq!(
        count(&events, &said["command_line"]["pcr"], &said["machine"]["sha256"]),
        1,
        "{said:#}\n{}",
        shown(&events)
    );
}
