//! Phase `switch`: makes the new root the root.
//!
//! `pivot_root(2)` refuses to leave the kernel's first rootfs, so the new root is moved over `/`. After that, child
//! mount namespaces can pivot, which container runtimes need. The old files are then freed through a descriptor.

use crate::base::console;
use crate::base::network::NetWatch;
use crate::base::node::Node;
use crate::boot::root::NEW_ROOT;
use bootwright_base::Failure;
use bootwright_base::background;
use bootwright_base::sys::{Mount, Sys};
use bootwright_contract::{RootImage, Tmpfs, paths};
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Mounts that are moved to the new root, with all mounts below them.
const MOVED: &[&str] = &["dev", "proc", "sys", "run"];

/// `RAMFS_MAGIC` of linux/magic.h.
const RAMFS_MAGIC_TYPE: FsType = FsType(0x8584_58f6);

#[derive(Debug, thiserror::Error)]
enum SwitchError {
    #[error("cannot move `{from}` to `{to}`: {source}")]
    Move { from: PathBuf, to: PathBuf, source: Errno },
    #[error("cannot change into the new root: {0}")]
    Enter(#[source] Errno),
    #[error("cannot make mounts shared: {0}")]
    Share(#[source] Errno),
    #[error("cannot mount tmpfs on `{path}` with `{data}`: {source}")]
    Tmpfs { path: String, data: String, source: Errno },
    #[error("cannot open the old root: {0}")]
    OldRoot(#[source] io::Error),
}

/// Phase `switch`. `over` is set when the files of the initramfs are being removed. The network's files are then
/// written again.
///
/// # Errors
/// [`SwitchError`]
pub fn switch_root(sys: &dyn Sys, node: &Node, network: Option<&NetWatch>, over: &AtomicBool) -> Result<(), Failure> {
    let root = &node.config.root;
    let old = File::open("/").map_err(SwitchError::OldRoot)?;
    over.store(true, Ordering::Relaxed);
    cover_root(sys)?;
    console::take_stdio()?;
    let kept = (root.image == RootImage::Cpio).then(|| Path::new(paths::ROOT_TREE));
    let timeline = node.timeline.clone();
    let free = move || {
        if let Err(error) = free_old_root(&old, kept) {
            timeline.note(&["the first rootfs was not freed: ", &error.to_string()].concat());
        }
    };
    // In a thread, because freeing many megabytes takes time and nothing waits for it.
    if let Err(error) = background::spawn("free", Box::new(free)) {
        node.timeline.note(&["nothing frees the first rootfs: ", &error.to_string()].concat());
    }
    mount_tmpfs(sys, &root.tmpfs)?;
    if let Some(network) = network {
        network.write_files_again(node);
    }
    Ok(())
}

fn cover_root(sys: &dyn Sys) -> Result<(), SwitchError> {
    for name in MOVED {
        move_mount(sys, &Path::new("/").join(name), &Path::new(NEW_ROOT).join(name))?;
    }
    sys.chdir(Path::new(NEW_ROOT)).map_err(SwitchError::Enter)?;
    move_mount(sys, Path::new("."), Path::new("/"))?;
    sys.chroot(Path::new(".")).map_err(SwitchError::Enter)?;
    sys.chdir(Path::new("/")).map_err(SwitchError::Enter)?;
    let flags = MsFlags::MS_REC | MsFlags::MS_SHARED;
    sys.mount(Mount { source: Path::new(""), target: Path::new("/"), fstype: "", flags, data: "" })
        .map_err(SwitchError::Share)
}

fn move_mount(sys: &dyn Sys, from: &Path, to: &Path) -> Result<(), SwitchError> {
    sys.mount(Mount { source: from, target: to, fstype: "", flags: MsFlags::MS_MOVE, data: "" })
        .map_err(|source| SwitchError::Move { from: from.into(), to: to.into(), source })
}

/// Why the old root was not freed.
#[derive(Debug, thiserror::Error)]
pub enum FreeError {
    #[error("it is no tmpfs or ramfs")]
    NotMemory,
    #[error("{0}")]
    Errno(#[from] Errno),
    #[error("`{path}`: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// Unlinks the files that the kernel has unpacked. The image is unlinked too: its loop device keeps it.
fn free_old_root(old: &File, kept: Option<&Path>) -> Result<(), FreeError> {
    check_is_memory(fstatfs(old)?.filesystem_type())?;
    // Through the descriptor, because the new root covers all paths to the old one.
    let top = PathBuf::from(format!("/proc/self/fd/{}", old.as_raw_fd()));
    let device = old.metadata().map_err(|source| FreeError::Io { path: top.clone(), source })?.dev();
    let kept = kept.map(|k| top.join(k.strip_prefix("/").unwrap_or(k)));
    empty_folder(&top, device, kept.as_deref())
}

fn check_is_memory(kind: FsType) -> Result<(), FreeError> {
    match kind == TMPFS_MAGIC || kind == RAMFS_MAGIC_TYPE {
        true => Ok(()),
        false => Err(FreeError::NotMemory),
    }
}

/// Removes all entries of a folder on its device, except `kept` and the folders above it.
pub fn empty_folder(folder: &Path, device: u64, kept: Option<&Path>) -> Result<(), FreeError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| FreeError::Io { path, source }
    };
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        let meta = fs::symlink_metadata(&path).map_err(failed(&path))?;
        if meta.dev() != device || kept == Some(&path) {
            continue;
        }
        if !meta.is_dir() {
            fs::remove_file(&path).map_err(failed(&path))?;
            continue;
        }
        empty_folder(&path, device, kept)?;
        // Fails for folders that are not empty: mount points, and the folders above `kept`.
        let _ = fs::remove_dir(&path);
    }
    Ok(())
}

/// Those that there are already: an entry changes their size.
const MADE_EARLIER: [&str; 2] = ["/run", "/dev/shm"];

/// Mounts the tmpfs entries of the recipe, and `/tmp` unless it is one of them.
fn mount_tmpfs(sys: &dyn Sys, list: &[Tmpfs]) -> Result<(), SwitchError> {
    let tmp = Tmpfs { path: "/tmp".into(), size: "20%".into(), mode: "1777".into(), reserve: false };
    let default = (!list.iter().any(|t| t.path == tmp.path)).then_some(&tmp);
    for Tmpfs { path, size, mode, .. } in default.into_iter().chain(list) {
        let data = format!("size={size},mode={mode}");
        let target = Path::new(path);
        let again = if MADE_EARLIER.contains(&&path[..]) { MsFlags::MS_REMOUNT } else { MsFlags::empty() };
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | again;
        sys.make_dir(target)
            .and_then(|()| sys.mount(Mount { source: Path::new("tmpfs"), target, fstype: "tmpfs", flags, data: &data }))
            .map_err(|source| SwitchError::Tmpfs { path: path.clone(), data, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::sys::RealSys;
    use bootwright_base::sys::fake::FakeSys;
    use bootwright_base::testing::{in_own_root, mounted_at};

    /// A container runtime does the last of it: a mount namespace of its own, and a pivot in there.
    #[test]
    fn the_new_root_is_the_root_of_all_and_a_namespace_below_it_can_pivot() {
        in_own_root(|| {
            let new = Path::new(NEW_ROOT);
            fs::create_dir_all(new).unwrap();
            RealSys.mount(tmpfs_at(new)).unwrap();
            for name in MOVED {
                fs::create_dir(new.join(name)).unwrap();
            }
            fs::write("/run/kept", "").unwrap();
            fs::write(new.join("new"), "").unwrap();
            cover_root(&RealSys).unwrap();

            assert!(Path::new("/new").exists() && !Path::new("/bootwright").exists(), "the new root is at `/`");
            assert!(Path::new("/run/kept").exists() && Path::new("/dev/null").exists(), "mounts came along");
            for path in ["/", "/dev", "/proc", "/run"] {
                let line = mounted_at(path).unwrap_or_else(|| panic!("nothing is mounted at {path}"));
                assert!(line.contains(" shared:"), "{line}");
            }

            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            let target = Path::new("/");
            RealSys.mount(Mount { source: Path::new(""), target, fstype: "", flags: private, data: "" }).unwrap();
            let inner = Path::new("/container");
            fs::create_dir(inner).unwrap();
            RealSys.mount(tmpfs_at(inner)).unwrap();
            fs::create_dir(inner.join("old")).unwrap();
            RealSys.pivot_root(inner, &inner.join("old")).unwrap();
            assert!(Path::new("/old/new").exists());
        });
    }

    fn tmpfs_at(target: &Path) -> Mount<'_> {
        Mount { source: Path::new("tmpfs"), target, fstype: "tmpfs", flags: MsFlags::empty(), data: "" }
    }

    #[test]
    fn a_move_that_fails_is_named() {
        let error = cover_root(&FakeSys::failing(&["mount ."])).unwrap_err();
        assert!(error.to_string().starts_with("cannot move `.` to `/`"), "{error}");
    }

    #[test]
    fn tmp_has_its_own_size_or_the_recipes() {
        let tmpfs = |path: &str| Tmpfs { path: path.into(), size: "8M".into(), mode: "1777".into(), reserve: false };
        let mounts_of = |path: &str| {
            let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            table.lines().filter(|line| line.split(' ').nth(4) == Some(path)).count()
        };
        in_own_root(move || {
            mount_tmpfs(&RealSys, &[tmpfs("/var/lib/containerd")]).unwrap();
            let line = mounted_at("/var/lib/containerd").expect("it is mounted");
            assert!(line.contains("nosuid,nodev") && line.contains("size=8192k"), "{line}");
            assert!(mounted_at("/tmp").expect("it is mounted by default").contains("nosuid,nodev"));
            assert_eq!(fs::metadata("/tmp").unwrap().mode() & 0o7777, 0o1777);
        });
        in_own_root(move || {
            mount_tmpfs(&RealSys, &[tmpfs("/tmp")]).unwrap();
            assert!(mounted_at("/tmp").expect("it is mounted").contains("size=8192k"));
            assert_eq!(mounts_of("/tmp"), 1, "once");
        });
    }

    #[test]
    fn old_files_go_and_the_kept_tree_stays() {
        let top = std::env::temp_dir().join(format!("bootwright-free-{}", std::process::id()));
        for folder in ["lib/modules", "bootwright/root/etc", "bootwright/config"] {
            fs::create_dir_all(top.join(folder)).unwrap();
        }
        fs::write(top.join("bootwright/config/secret"), "x").unwrap();
        fs::write(top.join("bootwright/root/etc/hosts"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", top.join("lib/link")).unwrap();
        let device = fs::metadata(&top).unwrap().dev();
        empty_folder(&top, device, Some(&top.join("bootwright/root"))).unwrap();
        assert!(top.join("bootwright/root/etc/hosts").exists());
        assert!(!top.join("bootwright/config").exists() && !top.join("lib").exists());
        empty_folder(&top, device + 1, None).unwrap();
        assert!(top.join("bootwright").exists(), "another device is left alone");
        empty_folder(&top, device, None).unwrap();
        assert_eq!(fs::read_dir(&top).unwrap().count(), 0);
        fs::remove_dir(top).unwrap();
    }

    #[test]
    fn a_disk_is_never_emptied() {
        assert!(check_is_memory(TMPFS_MAGIC).is_ok() && check_is_memory(RAMFS_MAGIC_TYPE).is_ok());
        assert!(matches!(check_is_memory(nix::sys::statfs::EXT4_SUPER_MAGIC), Err(FreeError::NotMemory)));
    }
}
