//! What programs on a node find beside their files: resource limits, the kernel's file systems, and its parameters.

use testkit::QEMU;
use testkit::image::Image;
use testkit::need::have;
use testkit::ssh::{key, ssh_ok};
use testkit::vm::Running;

/// Debian's kernel has configfs, FUSE and binfmt_misc as modules. `efivarfs` is loaded when it is mounted.
const RECIPE: &str = r#"
[kernel]
modules = ["@nic-virtual", "configfs", "fuse", "binfmt_misc", "efivarfs"]
load = ["configfs", "fuse", "binfmt_misc"]
[[service]]
name = "limits"
exec = ["/bin/sh", "-c", "cat /proc/self/limits; exec sleep 100000"]
[sysctls]
"vm.swappiness" = "7"
[[file]]
path = "/etc/sysctl.d/50-lab.conf"
content = """
# vm.swappiness is the recipe's.
vm.swappiness = 8
vm.max_map_count = 1000
-kernel.nothing_of_that_name = 1
"""
[[file]]
path = "/usr/lib/sysctl.d/60-maps.conf"
content = "vm.max_map_count = 262144\n"
"#;

/// Soft and hard limit of each kind as `/proc/PID/limits` writes them.
const LIMITS: [(&str, &str, &str); 4] = [
    ("Max open files", "1024", "524288"),
    ("Max processes", "unlimited", "unlimited"),
    ("Max locked memory", "unlimited", "unlimited"),
    ("Max core file size", "unlimited", "unlimited"),
];

const FILE_SYSTEMS: [(&str, &str); 7] = [
    ("configfs", "/sys/kernel/config"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
    ("pstore", "/sys/fs/pstore"),
    ("fusectl", "/sys/fs/fuse/connections"),
    ("efivarfs", "/sys/firmware/efi/efivars"),
    ("binfmt_misc", "/proc/sys/fs/binfmt_misc"),
];

#[test]
fn programs_find_limits_file_systems_and_parameters() {
    if !have(&[QEMU, "ssh", "ssh-keygen", "/usr/share/OVMF/OVMF_CODE_4M.fd"]) {
        return;
    }
    let image = Image::build_variant("rescue-surroundings", "rescue", RECIPE, &[&format!("ssh_key={}", key().public)]);
    let machine = Running::start(&image, &["--firmware", "uefi"]);
    // sshd lowers those of a login.
    let limits = ssh_ok(&machine, "bootwright-ctl logs limits");
    for (kind, soft, hard) in LIMITS {
        let line = limits
            .lines()
            .find_map(|line| line.split_once(kind))
            .map(|(_, rest)| rest)
            .unwrap_or_else(|| panic!("{limits}"));
        assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), [soft, hard], "{kind}");
    }
    let mounts = ssh_ok(&machine, "cat /proc/mounts");
    for (fstype, target) in FILE_SYSTEMS {
        let is_there =
            mounts.lines().any(|line| line.starts_with(&format!("{fstype} {target} {fstype} rw,nosuid,nodev,noexec")));
        assert!(is_there, "no {fstype} at {target}:\n{mounts}");
    }
    let parameters = ssh_ok(&machine, "cat /proc/sys/vm/swappiness /proc/sys/vm/max_map_count");
    assert_eq!(parameters, "7\n262144\n");
}
