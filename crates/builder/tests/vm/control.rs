//! The control commands on a node, and the way down from there.

use std::time::Duration;
use testkit::image::Image;
use testkit::ssh::{key, ssh, ssh_ok, ssh_on_terminal};
use testkit::vm::{Running, runs, wait_until};
use testkit::{QEMU, need::have};

/// Another file system and another compressor than the recipe's own, and a service that tells of its beginnings and ends.
const RECIPE: &str = r#"
[root]
image = "erofs"
compressor = "lz4hc"
[pack]
stable = "xz:6"
volatile = "xz:6"
[budget]
boot_files_mb = 30
[[service]]
name = "clock"
exec = ["/bin/sh", "-c", "trap 'echo ends; exit' TERM; echo begins as $$; while :; do sleep 0.2; done"]
[[service]]
name = "title"
exec = ["/bin/sh", "-c", "printf '\\033]0;owned\\007\\n'; exec sleep 100000"]
"#;

/// A service's row in the table of `status`: name, state, process and restarts come first.
fn row(machine: &Running, service: &str) -> Vec<String> {
    let status = ssh_ok(machine, "bootwright-ctl status");
    let row = status.lines().map(|line| line.split_whitespace().map(String::from).collect::<Vec<_>>());
    row.into_iter().find(|row| row.first().is_some_and(|name| name == service)).unwrap_or_else(|| panic!("{status}"))
}

/// Waits until the service is in that state; its process, `-` where it has none.
fn await_state(machine: &Running, service: &str, state: &str) -> String {
    let what = format!("`{service}` is {state}");
    wait_until(&what, Duration::from_secs(30), || row(machine, service)[1] == state);
    row(machine, service)[2].clone()
}

#[test]
fn status_logs_timeline_restart_stop_start_and_poweroff() {
    if !have(&[QEMU, "ssh", "ssh-keygen", "mkfs.erofs"]) {
        return;
    }
    let image = Image::build_variant("rescue-erofs", "rescue", RECIPE, &[&format!("ssh_key={}", key().public)]);
    let machine = Running::start(&image, &[]);
    assert!(ssh_ok(&machine, "grep erofs /sys/module/erofs/refcnt /proc/filesystems").contains("erofs"));
    let logs = |wanted: &str| {
        wait_until(wanted, Duration::from_secs(30), || ssh_ok(&machine, "bootwright-ctl logs clock") == wanted);
    };

    let first = await_state(&machine, "clock", "ready");
    logs(&format!("begins as {first}\n"));
    let said = ssh_ok(&machine, "bootwright-ctl logs sshd");
    assert!(said.contains("Pubkey auth succeeded for 'root'"), "sshd tells who came in: {said}");

    // A terminal is given nothing to obey; what is piped is as the service wrote it.
    let logs_of_title = "bootwright-ctl logs title";
    wait_until("the log of `title`", Duration::from_secs(30), || {
        ssh_ok(&machine, logs_of_title) == "\u{1b}]0;owned\u{7}\n"
    });
    let shown = ssh_on_terminal(&machine, logs_of_title);
    assert_eq!(shown, "\\u001b]0;owned\\u0007\r\n", "{shown:?}");

    assert_eq!(ssh_ok(&machine, "bootwright-ctl restart clock"), "clock: being restarted\n");
    wait_until("another process", Duration::from_secs(30), || !["-", &first].contains(&&*row(&machine, "clock")[2]));
    let second = await_state(&machine, "clock", "ready");
    logs(&format!("begins as {first}\nends\nbegins as {second}\n"));

    assert_eq!(ssh_ok(&machine, "bootwright-ctl stop clock"), "clock: being stopped\n");
    assert_eq!(await_state(&machine, "clock", "stopped"), "-");
    assert_eq!(ssh_ok(&machine, "bootwright-ctl start clock"), "clock: being started\n");
    let third = await_state(&machine, "clock", "ready");
    logs(&format!("begins as {first}\nends\nbegins as {second}\nends\nbegins as {third}\n"));

    let refused = ssh(&machine, "bootwright-ctl restart nothing");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("no service `nothing`") && said.contains("clock") && said.contains("sshd"), "{said}");

    check_timeline(&machine);
    check_sbom(&machine, &image);

    // The connection may be cut by what it asks for.
    ssh(&machine, "bootwright-ctl poweroff");
    let qemu = machine.qemu_pid();
    wait_until("the machine is off", Duration::from_secs(60), || !runs(qemu));
    assert!(image.console().contains("down poweroff"), "{}", image.console());
}

/// The node tells of itself what lies beside its image, but for kernel, initrd and root, which hold it.
fn check_sbom(machine: &Running, image: &Image) {
    let carried = ssh_ok(machine, "bootwright-ctl sbom");
    let beside = std::fs::read_to_string(image.dir().join("sbom.spdx.json")).expect("it lies beside the image");
    let [carried, beside] = [carried, beside]
        .map(|text| -> serde_json::Value { serde_json::from_str(&text).expect("the document is JSON") });
    let list = |document: &serde_json::Value, key: &str| document[key].as_array().expect("a list").clone();
    let packages = |document: &serde_json::Value| -> Vec<serde_json::Value> {
        list(document, "packages").into_iter().filter(|p| p["comment"].is_string()).collect()
    };
    assert!(packages(&carried).iter().any(|p| p["name"] == "busybox-static"), "{carried:#}");
    assert_eq!(packages(&carried), packages(&beside));
    // The image itself is all that it lists beside.
    assert_eq!(list(&carried, "packages").len(), packages(&carried).len() + 1);
    let key = "hasExtractedLicensingInfos";
    assert_eq!(list(&carried, key), list(&beside, key));
}

/// The table has the phases and services of this boot in order, and the two later beginnings of `clock`; the file says the same.
fn check_timeline(machine: &Running) {
    let table = ssh_ok(machine, "bootwright-ctl timeline");
    let place = |row: [&str; 2], outcome: &str| {
        let found = table.lines().position(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(2..4) == Some(&row) && words.get(4..).is_some_and(|rest| rest.join(" ") == outcome)
        });
        found.unwrap_or_else(|| panic!("no {row:?} {outcome} in:\n{table}"))
    };
    let order = [place(["phase", "mounts"], "ok"), place(["phase", "root"], "ok"), place(["service", "sshd"], "ready")];
    assert!(order.is_sorted(), "{table}");
    place(["service", "clock"], "ready, restarts: 2");
    let file = ssh_ok(machine, "cat /run/bootwright/timeline.json");
    let file: serde_json::Value = serde_json::from_str(&file).expect("the file is JSON");
    assert_eq!(file["recipe"], "rescue-erofs", "{file:#}");
    let clock = file["services"].as_array().and_then(|all| all.iter().find(|service| service["name"] == "clock"));
    assert_eq!(clock.expect("it has a record")["restarts"], 2, "{file:#}");
}
