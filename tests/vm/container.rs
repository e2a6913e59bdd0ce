//! containerd and crun run a container: pivot_root, cgroups and the overlay work on a root that came out of an initramfs.

use crate::image::Image;
use crate::ssh::{key, ssh_ok};
use crate::vm::Running;
use crate::{QEMU, need::have};

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

#[test]
fn crun_runs_a_container() {
    if !have(&[QEMU, "go", "ssh", "ssh-keygen"]) {
        return;
    }
    let key = format!("ssh_key={}", key().public);
    // Shell and ctr are more than the worker's budget allows.
    let budget = "[budget]\nboot_files_mb = 80\nram_mib = 1024\n";
    let image = Image::build_variant("worker-debug", "worker", budget, &["debug=true", "login_shell=/bin/sh", &key]);
    let machine = Running::start(&image, &["--ram-mib", "1024"]);
    let said = ssh_ok(&machine, SCRIPT);
    assert!(said.contains("hello from") && said.contains("pid 1"), "{said}");
    assert!(said.contains("limit 16777216"), "{said}");
    assert!(said.trim_end().ends_with("written"), "{said}");
}
