//! Phase `mounts`: the kernel's file systems, and PID1's own cgroup.

use crate::base::timeline::Timeline;
use bootwright_base::Failure;
use bootwright_base::cmdline::{Cmdline, kernel_cmdline};
use bootwright_base::sys::{Mount, Sys};
use nix::errno::Errno;
use nix::mount::MsFlags;
use std::io;
use std::path::Path;
use std::sync::Arc;

mod cgroup;

/// A mount.
struct MountRow {
    target: &'static str,
    fstype: &'static str,
    flags: MsFlags,
    data: &'static str,
    /// Without it the boot cannot go on. Others that fail are only noted.
    required: bool,
}

const NOSUID_NOEXEC: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC);
const KERNEL: MsFlags = NOSUID_NOEXEC.union(MsFlags::MS_NODEV);
const MEMORY: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// In their order. Options: proc(5), Documentation/filesystems/{devpts,tmpfs}.rst,
/// Documentation/admin-guide/cgroup-v2.rst.
const TABLE: &[MountRow] = &[
    MountRow { target: "/proc", fstype: "proc", flags: KERNEL, data: "", required: true },
    MountRow { target: "/sys", fstype: "sysfs", flags: KERNEL, data: "", required: true },
    MountRow { target: "/dev", fstype: "devtmpfs", flags: NOSUID_NOEXEC, data: "mode=0755", required: true },
    MountRow { target: "/run", fstype: "tmpfs", flags: MEMORY, data: "mode=0755,size=20%", required: true },
    MountRow {
        target: "/dev/pts",
        fstype: "devpts",
        flags: NOSUID_NOEXEC,
        data: "gid=5,mode=620,ptmxmode=666",
        required: false,
    },
    MountRow { target: "/dev/shm", fstype: "tmpfs", flags: MEMORY, data: "mode=1777", required: false },
    MountRow { target: "/dev/mqueue", fstype: "mqueue", flags: KERNEL, data: "", required: false },
    MountRow { target: "/dev/hugepages", fstype: "hugetlbfs", flags: MEMORY, data: "", required: false },
    MountRow {
        target: "/sys/fs/cgroup",
        fstype: "cgroup2",
        flags: KERNEL,
        data: "nsdelegate,memory_recursiveprot",
        required: false,
    },
    MountRow { target: "/sys/fs/bpf", fstype: "bpf", flags: KERNEL, data: "mode=0700", required: false },
    MountRow { target: "/sys/kernel/security", fstype: "securityfs", flags: KERNEL, data: "", required: false },
    MountRow { target: "/sys/kernel/tracing", fstype: "tracefs", flags: KERNEL, data: "", required: false },
];

/// File systems of modules, and of machines that have what they show. Documentation/filesystems/{configfs,efivarfs,fuse}.rst,
/// Documentation/admin-guide/{binfmt-misc,pstore-blk}.rst.
const LATER: &[MountRow] = &[
    MountRow { target: "/sys/kernel/config", fstype: "configfs", flags: KERNEL, data: "", required: false },
    MountRow { target: "/sys/kernel/debug", fstype: "debugfs", flags: KERNEL, data: "", required: false },
    MountRow { target: "/sys/fs/pstore", fstype: "pstore", flags: KERNEL, data: "", required: false },
    MountRow { target: "/sys/fs/fuse/connections", fstype: "fusectl", flags: KERNEL, data: "", required: false },
    MountRow { target: "/sys/firmware/efi/efivars", fstype: "efivarfs", flags: KERNEL, data: "", required: false },
    MountRow { target: "/proc/sys/fs/binfmt_misc", fstype: "binfmt_misc", flags: KERNEL, data: "", required: false },
];

#[derive(Debug, thiserror::Error)]
enum MountsError {
    #[error("cannot mount {fstype} on `{target}`: {source}")]
    Mount { target: &'static str, fstype: &'static str, source: Errno },
    #[error("cannot read `/proc/cmdline`: {0}")]
    Cmdline(#[source] io::Error),
}

/// Phase `mounts`. Returns the kernel command line, which can be read from now on. `node_sys` is for the thread that
/// goes on after the phase.
///
/// # Errors
/// [`MountsError`]
pub fn mount_kernel_filesystems(
    sys: &dyn Sys,
    node_sys: &'static dyn Sys,
    timeline: &Arc<Timeline>,
) -> Result<Cmdline, Failure> {
    let missing = mount_table(sys)?;
    let cmdline = kernel_cmdline().map_err(MountsError::Cmdline)?;
    timeline.run_is_mounted();
    for text in missing.iter().map(MountsError::to_string).chain(cgroup::enable_controllers(sys)) {
        timeline.note(&text);
    }
    cgroup::enter_leaf(node_sys, timeline.clone());
    Ok(cmdline)
}

/// Makes all mounts of the table. Returns the errors of those that are not required.
fn mount_table(sys: &dyn Sys) -> Result<Vec<MountsError>, MountsError> {
    let mut missing = Vec::new();
    for &MountRow { target, fstype, flags, data, required } in TABLE {
        let mount = Mount { source: Path::new(fstype), target: Path::new(target), fstype, flags, data };
        match sys.make_dir(mount.target).and_then(|()| sys.mount(mount)) {
            // EBUSY: the kernel has mounted it (CONFIG_DEVTMPFS_MOUNT).
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(source) if required => return Err(MountsError::Mount { target, fstype, source }),
            Err(source) => missing.push(MountsError::Mount { target, fstype, source }),
        }
    }
    Ok(missing)
}

/// Mounts, when all modules are loaded, what has a place to be mounted at: its module, or the firmware, makes that. Where there
/// is none the node lacks the feature, which is no failure.
pub fn mount_what_is_there(sys: &dyn Sys) {
    for &MountRow { target, fstype, flags, data, .. } in LATER {
        let _ = sys.mount(Mount { source: Path::new(fstype), target: Path::new(target), fstype, flags, data });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::sys::fake::FakeSys;

    #[test]
    fn proc_comes_first_and_a_missing_kind_is_passed_over() {
        let fake = FakeSys::failing(&["mount mqueue", "make_dir /sys/fs/bpf"]);
        let missing = mount_table(&fake).unwrap();
        let texts: Vec<String> = missing.iter().map(|m| m.to_string()).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].starts_with("cannot mount mqueue on `/dev/mqueue`: EPERM"), "{texts:?}");
        let calls = fake.calls();
        assert_eq!(calls[0], "make_dir /proc");
        assert!(calls[1].starts_with("mount proc /proc proc"));
        assert!(calls.iter().any(|c| c.contains("cgroup2") && c.ends_with("nsdelegate,memory_recursiveprot")));
    }

    #[test]
    fn what_has_no_place_is_passed_over() {
        let fake = FakeSys::failing(&["mount configfs", "mount efivarfs"]);
        mount_what_is_there(&fake);
        let calls = fake.calls();
        assert!(calls.iter().all(|call| !call.starts_with("make_dir")), "{calls:?}");
        assert!(calls.iter().any(|call| call.contains("binfmt_misc /proc/sys/fs/binfmt_misc")), "{calls:?}");
    }

    #[test]
    fn without_run_there_is_no_boot() {
        let error = mount_table(&FakeSys::failing(&["mount tmpfs /run"])).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("`/run`"), "{error}");
    }
}
