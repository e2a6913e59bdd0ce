//! Pods from images that come with the node: no registry, no import, no network of the images' own.

use testkit::QEMU;
use testkit::image::Image;
use testkit::need::have;
use testkit::ssh::{key, ssh_ok};
use testkit::vm::Running;

/// Both images are the program of sandboxes, which runs until it is told to end.
const RECIPE: &str = r#"
[[image]]
ref = "registry.k8s.io/pause:3.10.1"
builtin = "pause"

[[image]]
ref = "registry.lab/team/app:1"
builtin = "pause"

[[file]]
path = "/etc/kubernetes/manifests/app.yaml"
content = """
apiVersion: v1
kind: Pod
metadata: { name: app }
spec:
  hostNetwork: true
  containers:
  - { name: main, image: "registry.lab/team/app:1", imagePullPolicy: Never }
"""

# The shell is more than the worker's budget allows.
[budget]
boot_files_mb = 80
ram_mib = 1024
"#;

/// The sandbox and its container, by containerd's own list.
const WAIT: &str = "for i in $(seq 800); do \
    [ $(ctr -n k8s.io tasks ls | grep -c RUNNING) = 2 ] && exit; sleep 0.2; done; \
    bootwright-ctl logs kubelet; bootwright-ctl logs containerd; exit 1";

#[test]
fn a_pod_starts_from_baked_images_without_a_registry_and_the_store_takes_no_ram() {
    if !have(&[QEMU, "go", "ssh", "ssh-keygen", "mksquashfs"]) {
        return;
    }
    let ssh_key = format!("ssh_key={}", key().public);
    let sets = ["debug=true", "login_shell=/bin/sh", &ssh_key];
    let image = Image::build_variant("worker-baked", "worker", RECIPE, &sets);
    let machine = Running::start(&image, &["--ram-mib", "1024"]);
    ssh_ok(&machine, WAIT);
    let listed = ssh_ok(&machine, "ctr -n k8s.io images ls");
    for name in ["registry.k8s.io/pause:3.10.1", "registry.lab/team/app:1"] {
        let line = listed.lines().find(|line| line.starts_with(name)).expect("it is baked in");
        assert!(line.contains("io.cri-containerd.pinned=pinned"), "{line}");
    }
    let kib: u64 = ssh_ok(&machine, "du -skx /var/lib/containerd | cut -f1").trim().parse().expect("a number");
    assert!(kib <= 512, "containerd's root takes {kib} KiB");
}
