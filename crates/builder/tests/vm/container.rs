//! containerd and crun run a container, and a kubelet that nobody can talk to runs a pod: pivot_root, cgroups and the overlay work on a root that came out of an initramfs.

use testkit::image::Image;
use testkit::ssh::{key, power_off, ssh_ok};
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

/// An image without a registry: one layer with the shell, which is the sandbox's image too; and a static pod of it that
/// notices how it ends.
const POD: &str = r#"
set -e
mkdir -p /run/layer/bin /run/image/blobs/sha256 /etc/kubernetes/manifests
cp /usr/bin/busybox /run/layer/bin/sh
blob() {
    hash=$(sha256sum < $1 | cut -d' ' -f1)
    echo "\"digest\":\"sha256:$hash\",\"size\":$(stat -c %s $1)"
    mv $1 /run/image/blobs/sha256/$hash
}
kind='"mediaType":"application/vnd.oci.image'
tar -C /run/layer -cf /run/layer.tar bin
layer=$(blob /run/layer.tar)
diff=$(echo "$layer" | cut -d'"' -f4)
echo '{"os":"linux","architecture":"amd64","config":{"Entrypoint":["/bin/sh","-c","sleep 100000"]},' \
    '"rootfs":{"type":"layers","diff_ids":["'$diff'"]}}' > /run/config
config=$(blob /run/config)
echo '{"schemaVersion":2,'$kind'.manifest.v1+json","config":{'$kind'.config.v1+json",'$config'},' \
    '"layers":[{'$kind'.layer.v1.tar",'$layer'}]}' > /run/manifest
manifest=$(blob /run/manifest)
cd /run/image
echo '{"imageLayoutVersion":"1.0.0"}' > oci-layout
echo '{"schemaVersion":2,"manifests":[{'$kind'.manifest.v1+json",'$manifest',' \
    '"annotations":{"io.containerd.image.name":"registry.k8s.io/pause:3.10.1"}}]}' > index.json
tar -cf /run/image.tar .
ctr -n k8s.io images import /run/image.tar
ctr -n k8s.io images tag registry.k8s.io/pause:3.10.1 registry.internal/lab/pod:1
cat > /run/pod.yaml <<'EOF'
apiVersion: v1
kind: Pod
metadata: { name: lab }
spec:
  hostNetwork: true
  containers:
  - name: main
    image: registry.internal/lab/pod:1
    imagePullPolicy: Never
    command: [/bin/sh, -c, "trap 'echo the pod was told > /dev/kmsg; exit 0' TERM; echo > /out/up; while :; do sleep 0.2; done"]
    securityContext: { privileged: true }
    volumeMounts: [{ name: out, mountPath: /out }]
  volumes: [{ name: out, hostPath: { path: /run/pod, type: DirectoryOrCreate } }]
EOF
mv /run/pod.yaml /etc/kubernetes/manifests/
"#;

/// The node's pod range, as a kubelet without a cluster is given it. Shell and ctr are more than the worker's budget allows.
const RECIPE: &str = r#"
[[file]]
path = "/etc/kubernetes/kubelet.conf.d/90-pods.conf"
content = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
podCIDR: 10.244.7.0/24
"""

[budget]
boot_files_mb = 80
ram_mib = 1024
"#;

/// A pod with a network of its own.
const NETWORKED: &str = r#"
cat > /run/pod.yaml <<'EOF'
apiVersion: v1
kind: Pod
metadata: { name: networked }
spec:
  containers:
  - name: main
    image: registry.internal/lab/pod:1
    imagePullPolicy: Never
    command: [/bin/sh, -c, "ip address show dev eth0 > /out/address; sleep 100000"]
    volumeMounts: [{ name: out, mountPath: /out }]
  volumes: [{ name: out, hostPath: { path: /run/networked, type: DirectoryOrCreate } }]
EOF
mv /run/pod.yaml /etc/kubernetes/manifests/networked.yaml
"#;

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
    let until = |what: &str| {
        format!("for i in $(seq 600); do {what} && exit; sleep 0.2; done; bootwright-ctl logs kubelet; exit 1")
    };
    ssh_ok(machine, NETWORKED);
    ssh_ok(machine, &until("bootwright-ctl logs kubelet | grep -q 'cni plugin not initialized'"));
    assert_eq!(ssh_ok(machine, "ls /etc/cni/net.d; [ ! -e /run/networked/address ]").trim(), "");
    ssh_ok(machine, FLANNEL);
    let address = ssh_ok(machine, &until("[ -s /run/networked/address ] && cat /run/networked/address"));
    assert!(address.contains("inet 10.200.3.") && address.contains(" mtu 1450 "), "{address}");
    assert_eq!(ssh_ok(machine, "ls /etc/cni/net.d").trim(), "10-flannel.conflist");
}

#[test]
fn crun_runs_containers_and_a_closed_kubelet_pods_once_an_addon_has_brought_their_network() {
    if !have(&[QEMU, "go", "ssh", "ssh-keygen"]) {
        return;
    }
    let key = format!("ssh_key={}", key().public);
    let image = Image::build_variant("worker-debug", "worker", RECIPE, &["debug=true", "login_shell=/bin/sh", &key]);
    let machine = Running::start(&image, &["--ram-mib", "1024"]);
    let said = ssh_ok(&machine, SCRIPT);
    assert!(said.contains("hello from") && said.contains("pid 1"), "{said}");
    assert!(said.contains("limit 16777216"), "{said}");
    assert!(said.trim_end().ends_with("written"), "{said}");

    ssh_ok(&machine, POD);
    let up = "for i in $(seq 600); do [ -e /run/pod/up ] && exit; sleep 0.2; done; bootwright-ctl logs kubelet; exit 1";
    ssh_ok(&machine, up);
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
