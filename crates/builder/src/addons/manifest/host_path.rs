//! `hostPath` volumes: what has to be on the node before a pod with them starts, and what it would find there.
//!
//! <https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types>: only some types are checked by kubelet. Without
//! a type the runtime makes a folder where nothing is, which is of use for state and of none for what the pod wants to read.

use crate::inspect::explain::normal;
use crate::profiles::NeedKind;

/// Folders whose contents a pod reads: an empty one in their place serves nobody.
const READ_FROM: [&str; 6] = ["/boot", "/etc", "/usr", "/lib", "/bin", "/sbin"];
/// Folders below them that pods fill.
const FILLED: [&str; 2] = ["/etc/cni", "/usr/local"];

/// Paths that stand for something else: a file system of the kernel's, a device of a module, an option.
const STANDING_FOR: &[(&str, NeedKind, &str)] = &[
    ("/dev/fuse", NeedKind::Module, "fuse"),
    ("/dev/hugepages", NeedKind::Mount, "/dev/hugepages"),
    ("/dev/infiniband", NeedKind::Module, "ib_uverbs"),
    ("/dev/kvm", NeedKind::Module, "kvm"),
    ("/dev/mapper", NeedKind::Module, "dm_mod"),
    ("/dev/net/tun", NeedKind::Module, "tun"),
    ("/dev/shm", NeedKind::Mount, "/dev/shm"),
    ("/dev/vfio", NeedKind::Module, "vfio"),
    ("/dev/vhost-net", NeedKind::Module, "vhost_net"),
    ("/proc/sys/fs/binfmt_misc", NeedKind::Mount, "/proc/sys/fs/binfmt_misc"),
    ("/sys/firmware/efi/efivars", NeedKind::Mount, "/sys/firmware/efi/efivars"),
    ("/sys/fs/bpf", NeedKind::Mount, "/sys/fs/bpf"),
    ("/sys/fs/cgroup", NeedKind::Mount, "/sys/fs/cgroup"),
    ("/sys/fs/fuse/connections", NeedKind::Mount, "/sys/fs/fuse/connections"),
    ("/sys/fs/pstore", NeedKind::Mount, "/sys/fs/pstore"),
    ("/sys/kernel/btf", NeedKind::Option, "DEBUG_INFO_BTF"),
    ("/sys/kernel/config", NeedKind::Mount, "/sys/kernel/config"),
    ("/sys/kernel/debug", NeedKind::Mount, "/sys/kernel/debug"),
    ("/sys/kernel/security", NeedKind::Mount, "/sys/kernel/security"),
    ("/sys/kernel/tracing", NeedKind::Mount, "/sys/kernel/tracing"),
];

/// What a volume needs; `None` where kubelet or the runtime makes it. `volume_type` is empty where the volume has none.
pub fn host_path_need(path: &str, volume_type: &str) -> Option<(NeedKind, String)> {
    let path = format!("/{}", normal(path));
    let is_at = |folder: &str| path == folder || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    if let Some((_, kind, name)) = STANDING_FOR.iter().find(|(folder, ..)| is_at(folder)) {
        return Some((*kind, name.to_string()));
    }
    let is_kernels = ["/proc", "/sys", "/dev"].iter().any(|folder| is_at(folder));
    let is_read = READ_FROM.iter().any(|folder| is_at(folder)) && !FILLED.iter().any(|folder| is_at(folder));
    let must_be_there = match volume_type {
        "DirectoryOrCreate" | "FileOrCreate" => is_kernels,
        "" => is_kernels || is_read,
        _ => true,
    };
    must_be_there.then_some((NeedKind::Path, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_makes_has_to_be_there() {
        for (path, volume_type, need) in [
            ("/etc/cni/net.d", "", None),
            ("/run/xtables.lock", "FileOrCreate", None),
            ("/var/lib/calico", "", None),
            ("/run/udev", "", None),
            ("/run/udev", "Directory", Some((NeedKind::Path, "/run/udev"))),
            ("/lib/modules/", "", Some((NeedKind::Path, "/lib/modules"))),
            ("/etc/localtime", "", Some((NeedKind::Path, "/etc/localtime"))),
            ("/boot", "", Some((NeedKind::Path, "/boot"))),
            ("/var/lib/kubelet/pods", "Directory", Some((NeedKind::Path, "/var/lib/kubelet/pods"))),
            ("/dev/log", "", Some((NeedKind::Path, "/dev/log"))),
            ("/sys/fs/bpf", "DirectoryOrCreate", Some((NeedKind::Mount, "/sys/fs/bpf"))),
            ("/sys/fs/bpf/maps", "", Some((NeedKind::Mount, "/sys/fs/bpf"))),
            ("/dev/net/../net/tun", "CharDevice", Some((NeedKind::Module, "tun"))),
            ("/etcetera", "", None),
            ("/", "", None),
        ] {
            assert_eq!(host_path_need(path, volume_type), need.map(|(kind, name)| (kind, name.to_string())), "{path}");
        }
    }
}
