//! The file systems that PID1 mounts on every node, and what it and the kernel make there.

/// Path and type, as in PID1's own table (`crates/pid1/src/boot/mounts.rs`); a test compares both.
pub const MOUNTS: &[(&str, &str)] = &[
    ("/proc", "proc"),
    ("/sys", "sysfs"),
    ("/dev", "devtmpfs"),
    ("/run", "tmpfs"),
    ("/dev/pts", "devpts"),
    ("/dev/shm", "tmpfs"),
    ("/dev/mqueue", "mqueue"),
    ("/dev/hugepages", "hugetlbfs"),
    ("/sys/fs/cgroup", "cgroup2"),
    ("/sys/fs/bpf", "bpf"),
    ("/sys/kernel/security", "securityfs"),
    ("/sys/kernel/tracing", "tracefs"),
];

/// What PID1 mounts when all modules are loaded, where there is a place for it: path, type, and the module that makes the place.
/// An empty name: the kernel does itself.
pub const LATER: &[(&str, &str, &str)] = &[
    ("/sys/kernel/config", "configfs", "configfs"),
    ("/sys/kernel/debug", "debugfs", ""),
    ("/sys/fs/pstore", "pstore", "pstore"),
    ("/sys/fs/fuse/connections", "fusectl", "fuse"),
    ("/sys/firmware/efi/efivars", "efivarfs", EFI_FIRMWARE),
    ("/proc/sys/fs/binfmt_misc", "binfmt_misc", "binfmt_misc"),
];

/// In the place of a module: the machine's firmware makes the place, so no image decides.
pub const EFI_FIRMWARE: &str = "(firmware)";

/// What is there on every node though no image holds it: the kernel's own folders (proc(5), sysfs(5)), devices that no driver
/// makes (Documentation/admin-guide/devices.txt), and what PID1 writes at boot.
pub const MADE_AT_BOOT: &[&str] = &[
    "/proc/1",
    "/proc/sys",
    "/proc/sys/net",
    "/proc/sys/kernel",
    "/proc/sys/vm",
    "/proc/net",
    "/proc/mounts",
    "/proc/modules",
    "/sys/block",
    "/sys/bus",
    "/sys/class",
    "/sys/class/net",
    "/sys/devices",
    "/sys/dev",
    "/sys/fs",
    "/sys/kernel",
    "/sys/module",
    "/dev/console",
    "/dev/full",
    "/dev/kmsg",
    "/dev/mem",
    "/dev/null",
    "/dev/random",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
    "/etc/hosts",
    "/etc/machine-id",
    "/etc/resolv.conf",
];

/// What a program of the image makes when it starts: the program, and paths.
pub const MADE_BY: &[(&str, &[&str])] = &[
    // kubernetes/pkg/kubelet/kubelet.go (setupDataDirs), pkg/kubelet/cm/devicemanager, pkg/kubelet/kuberuntime.
    (
        "kubelet",
        &[
            "/var/lib/kubelet",
            "/var/lib/kubelet/pods",
            "/var/lib/kubelet/plugins",
            "/var/lib/kubelet/plugins_registry",
            "/var/lib/kubelet/device-plugins",
            "/var/lib/kubelet/pod-resources",
            "/var/log/pods",
            "/var/log/containers",
        ],
    ),
    // containerd/cmd/containerd/server: its root and state folders.
    ("containerd", &["/var/lib/containerd", "/run/containerd"]),
];

#[cfg(test)]
mod tests {
    use super::{LATER, MOUNTS};
    use std::collections::BTreeSet;

    /// The `target` and `fstype` of the rows of PID1's table, read from its source.
    fn rows_of_pid1() -> BTreeSet<(String, String)> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../pid1/src/boot/mounts.rs");
        let source = std::fs::read_to_string(path).expect("PID1's source is beside the builder's");
        let row = regex::Regex::new(r#"target:\s*"([^"]+)",\s*fstype:\s*"([^"]+)""#).expect("a good pattern");
        row.captures_iter(&source).map(|found| (found[1].to_string(), found[2].to_string())).collect()
    }

    #[test]
    fn the_builder_knows_what_pid1_mounts() {
        let later = LATER.iter().map(|(path, kind, _)| (path, kind));
        let known: BTreeSet<(String, String)> = MOUNTS
            .iter()
            .map(|(path, kind)| (path, kind))
            .chain(later)
            .map(|(path, kind)| (path.to_string(), kind.to_string()))
            .collect();
        let rows = rows_of_pid1();
        assert!(rows.len() >= 18, "PID1's table was not understood: {rows:?}");
        assert_eq!(known, rows, "what PID1 mounts and `addons/mounts.rs` are not the same");
    }
}
