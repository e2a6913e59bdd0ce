//! A service that forks without end, and one that takes all memory, do not take the node with them.

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::image::Image;
use testkit::ssh::{key, ssh, ssh_ok};
use testkit::vm::{Running, runs, wait_until};
use testkit::{QEMU, need::have};

/// `bomb` starts as many processes as it can get, and again when it has ended for want of one more. `busy` takes all processors and does
/// not end by SIGTERM. `hog` takes all memory, again and again, and `small` as much as its limit lets it. `leaves` has children that
/// go on without it.
const RECIPE: &str = r#"
[[service]]
name = "bomb"
exec = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 100000 & done"]
after = ["sshd"]
backoff_ms = 10000
[[service]]
name = "busy"
exec = ["/bin/sh", "-c", "trap '' TERM; for i in $(seq 20); do while :; do :; done & done; while :; do :; done"]
after = ["sshd"]
stop_timeout_s = 2
cpu_weight = 50
[[service]]
name = "hog"
exec = ["/bin/sh", "/etc/hog"]
after = ["sshd"]
backoff_ms = 10000
[[service]]
name = "small"
exec = ["/bin/sh", "-c", "/bin/sh /etc/hog; echo the hog was ended; exec sleep 100000"]
after = ["sshd"]
memory_max_mib = 8
tasks_max = 20
[[service]]
name = "leaves"
exec = ["/bin/sh", "-c", "for i in 1 2 3; do sleep 100000 & done; exec sleep 100000"]
[[file]]
path = "/etc/hog"
content = """
x=0123456789abcdef
while [ $((n = n + 1)) -le 16 ]; do x=$x$x; done
while :; do eval "x$((n = n + 1))=\\$x"; done
"""
"#;
/// The node answers within that time, however busy it is.
const ANSWER: Duration = Duration::from_secs(2);
/// And is off within that time.
const DOWN: Duration = Duration::from_secs(15);

fn status(machine: &Running, service: &str) -> Value {
    let status: Value = serde_json::from_str(&ssh_ok(machine, "bootwright-ctl status --json")).expect("JSON");
    let services = status["services"].as_array().expect("a list");
    services.iter().find(|s| s["name"] == service).unwrap_or_else(|| panic!("{status:#}")).clone()
}

/// The file of each service's cgroup.
fn limit(machine: &Running, service: &str, file: &str) -> String {
    ssh_ok(machine, &format!("cat /sys/fs/cgroup/services/{service}/{file}")).trim().into()
}

#[test]
fn a_fork_bomb_and_a_memory_hog_leave_the_node_reachable() {
    if !have(&[QEMU, "ssh", "ssh-keygen"]) {
        return;
    }
    let image = Image::build_variant("rescue-limits", "rescue", RECIPE, &[&format!("ssh_key={}", key().public)]);
    let machine = Running::start(&image, &[]);
    check_limits(&machine);
    // Of the bomb every task that it may have; of the hog nothing lasts.
    wait_until("the bomb is as large as it gets", Duration::from_secs(60), || {
        let bomb = status(&machine, "bomb");
        let number = |key: &str| bomb[key].as_u64().expect("the kernel counts");
        // Its first process comes and goes.
        number("tasks") + 1 >= number("tasks_max")
    });
    wait_until("the hog was ended", Duration::from_secs(60), || status(&machine, "hog")["restarts"].as_u64() > Some(0));
    let logged = || ssh_ok(&machine, "bootwright-ctl logs small").contains("the hog was ended");
    wait_until("the small one was ended by its own limit", Duration::from_secs(60), logged);
    let detail = |service: &str| status(&machine, service)["detail"].as_str().unwrap_or_default().to_string();
    assert!(detail("bomb").contains(" refused at `tasks_max`"), "{}", detail("bomb"));
    assert!(detail("small").contains("ended for lack of memory"), "{}", detail("small"));
    let hog = image.console();
    assert!(hog.contains("service hog failed: killed by SIGKILL for lack of memory"), "{hog}");
    assert_eq!(status(&machine, "sshd")["restarts"], 0, "sshd went on");
    // Asked on the node: what a login costs is not PID1's.
    let took = ssh_ok(&machine, "cut -d' ' -f1 /proc/uptime; bootwright-ctl status; cut -d' ' -f1 /proc/uptime");
    let (begin, end) = (took.lines().next().unwrap_or_default(), took.lines().last().unwrap_or_default());
    let took_s: f64 = end.parse::<f64>().expect("seconds") - begin.parse::<f64>().expect("seconds");
    assert!(took_s < ANSWER.as_secs_f64(), "status took {took_s} s:\n{took}");
    check_kill(&machine);

    let qemu = machine.qemu_pid();
    let begin = Instant::now();
    machine.command("system_powerdown", json!({}));
    wait_until("the machine is off", Duration::from_secs(60), || !runs(qemu));
    let took = begin.elapsed();
    assert!(image.console().contains("down poweroff"), "{}", image.console());
    assert!(took < DOWN, "the power button took {took:?}:\n{}", image.console());
}

/// What the recipe says is what the kernel has.
fn check_limits(machine: &Running) {
    let all = ssh_ok(machine, "cat /proc/sys/kernel/threads-max /proc/sys/kernel/pid_max");
    let most = all.lines().filter_map(|line| line.parse::<u64>().ok()).min().expect("two numbers");
    assert_eq!(limit(machine, "bomb", "pids.max"), (most * 15 / 100).to_string());
    assert_eq!(limit(machine, "busy", "cpu.weight"), "50");
    assert_eq!(limit(machine, "small", "memory.max"), (8 << 20).to_string());
    assert_eq!(limit(machine, "small", "pids.max"), "20");
    assert_eq!(limit(machine, "hog", "memory.max"), "max");
    assert_eq!(limit(machine, "sshd", "memory.min"), (16 << 20).to_string());
    let sshd = status(machine, "sshd")["pid"].to_string();
    assert_eq!(ssh_ok(machine, &format!("cat /proc/{sshd}/oom_score_adj")), "-500\n");
}

/// What a stop leaves is told, and `kill` ends it.
fn check_kill(machine: &Running) {
    ssh_ok(machine, "bootwright-ctl stop leaves");
    let told = "3 processes left: `bootwright-ctl kill leaves`";
    let says = || status(machine, "leaves")["detail"].as_str().is_some_and(|detail| detail.ends_with(told));
    wait_until(told, Duration::from_secs(30), says);
    ssh_ok(machine, "bootwright-ctl kill leaves");
    wait_until("none is left", Duration::from_secs(30), || status(machine, "leaves")["tasks"] == 0);
    let refused = ssh(machine, "bootwright-ctl kill leaves");
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&refused.stderr), "bootwright-ctl: `leaves` is stopped already\n");
    ssh_ok(machine, "bootwright-ctl kill hog");
    wait_until("the hog stays stopped", Duration::from_secs(30), || status(machine, "hog")["state"] == "stopped");
    // Arguments of any bytes: a path is one, a service's name is not.
    let odd = "d=$(printf '/run/a\\377b'); mkdir $d && mount -t tmpfs tmpfs $d && umount $d && echo done; bootwright-ctl stop $d";
    let odd = ssh(machine, odd);
    assert_eq!(String::from_utf8_lossy(&odd.stdout), "done\n", "{}", String::from_utf8_lossy(&odd.stderr));
    assert_eq!(odd.status.code(), Some(2), "a usage error");
}
