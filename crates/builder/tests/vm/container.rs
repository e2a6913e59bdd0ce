//! containerd and crun run a container, and a kubelet that nobody can talk to runs a pod: pivot_root, cgroups and the overlay work on a root that came out of an initramfs.

use crate::static_pods;
use serde_json::json;
use testkit::ssh::{power_off, ssh_ok};
use testkit::vm::Running;
use testkit::{QEMU, need::have};

/// A root with a shell, and containers on it: one that tells where it is, one with a limit.
const SCRIPT: &str = r#"
set -e
mkdir -p /run/box/bin /run/box/proc /run/box/dev /run/box/sys
cp /usr/bin/busybox /run/box/bin/sh
run() { ctr run --rm --runc-binary /usr/bin/crun --rootfs "$@"; }
run /run/box one /bin/sh -c 'echo "hello from $(cat /proc/self/cgroup), pid $$"'
run --memory-limit 16777216 /run/box two /bin/sh -c 'sleep 600' &
until [ "$(cat /sys/fs/cgroup/default/two/cgroup.procs 2>/dev/null)" ]; do sleep 0.2; done
echo limit $(cat /sys/fs/cgroup/default/two/memory.max)
ctr task kill --signal KILL two
wait
mkdir -p /var/lib/containerd/t/upper /var/lib/containerd/t/work /run/merged
mount -t overlay overlay -o lowerdir=/run/box,upperdir=/var/lib/containerd/t/upper,workdir=/var/lib/containerd/t/work /run/merged
run /run/merged three /bin/sh -c 'echo written > /file'
cat /var/lib/containerd/t/upper/file
"#;

/// What the pod does: it notices how it ends.
const POD: &str = "trap 'echo the pod was told > /dev/kmsg; exit 0' TERM; echo up; while :; do sleep 0.2; done";

/// What flannel's DaemonSet leaves on a node, as far as it matters here: a list of its name, with the MTU of an overlay.
const FLANNEL: &str = r#"
cat > /etc/cni/net.d/10-flannel.conflist <<'EOF'
{ "cniVersion": "1.0.0", "name": "cbr0", "plugins": [
    { "type": "bridge", "bridge": "cni0", "isGateway": true, "mtu": 1450,
      "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.200.3.0/24" }]] } } ] }
EOF
"#;

/// `pod_network = "addon"`: no list of ours comes before an add-on's, though kubelet hands on a pod range, and pods wait for it.
fn pods_wait_for_the_network_of_an_addon(machine: &Running) {
    static_pods::start(machine, "networked", "ip address show dev eth0", |_| {});
    let waits = "for i in $(seq 600); do bootwright-ctl logs kubelet | grep -q 'cni plugin not initialized' && exit; sleep 0.2; done; exit 1";
    ssh_ok(machine, waits);
    assert_eq!(ssh_ok(machine, "ls /etc/cni/net.d; [ ! -e /run/pods/networked/said ]").trim(), "");
    ssh_ok(machine, FLANNEL);
    let address = static_pods::said(machine, "networked");
    assert!(address.contains("inet 10.200.3.") && address.contains(" mtu 1450 "), "{address}");
    assert_eq!(ssh_ok(machine, "ls /etc/cni/net.d").trim(), "10-flannel.conflist");
}

#[test]
fn crun_runs_containers_and_a_closed_kubelet_pods_once_an_addon_has_brought_their_network() {
    if !have(&[QEMU, "go", "ssh", "ssh-keygen"]) {
        return;
    }
    let image = static_pods::worker();
    let machine = Running::start(&image, &["--ram-mib", "1024"]);
    let said = ssh_ok(&machine, SCRIPT);
    assert!(said.contains("hello from") && said.contains("pid 1"), "{said}");
    assert!(said.contains("limit 16777216"), "{said}");
    assert!(said.trim_end().ends_with("written"), "{said}");

    static_pods::import_image(&machine);
    static_pods::start(&machine, "lab", POD, |pod| {
        pod["spec"]["hostNetwork"] = json!(true);
        pod["spec"]["terminationGracePeriodSeconds"] = json!(30);
        pod["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true });
    });
    static_pods::said_with(&machine, "lab", "up");
    let cgroups = ssh_ok(&machine, "find /sys/fs/cgroup/kubepods -name cgroup.procs | xargs cat | wc -l");
    assert!(cgroups.trim().parse::<u32>().is_ok_and(|count| count >= 2), "sandbox and container: {cgroups}");
    // kubelet listens for its health alone, and to others only sshd does.
    let listening = ssh_ok(&machine, "netstat -ltn");
    let places: Vec<&str> = listening.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    assert!(places.contains(&"127.0.0.1:10248"), "{listening}");
    assert!(!places.iter().any(|place| place.ends_with(":10250") || place.ends_with(":10255")), "{listening}");
    let mut others = places.iter().filter(|place| place.contains(':') && !place.starts_with("127.0.0.1:"));
    assert!(others.all(|place| place.ends_with(":22")), "{listening}");
    let refused =
        ssh_ok(&machine, "for at in 127.0.0.1 $(hostname -i); do nc -w 5 $at 10250 < /dev/null 2>&1; done; true");
    assert_eq!(refused.matches("refused").count(), 2, "{refused}");
    pods_wait_for_the_network_of_an_addon(&machine);
    power_off(machine);
    let console = image.console();
    let told = console.find("the pod was told").unwrap_or_else(|| panic!("{console}"));
    let down = console.find("down poweroff").unwrap_or_else(|| panic!("{console}"));
    assert!(told < down && !console.contains("did not end in order"), "{console}");
}
