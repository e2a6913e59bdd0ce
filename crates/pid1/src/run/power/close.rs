//! Closes file systems and connections before the machine goes down. Every step has a limit: a step that hangs on a
//! server is left behind in its thread.

use crate::base::node::Node;
use bootwright_base::background;
use bootwright_base::channel::channel;
use bootwright_base::mounts::{self, TableError};
use bootwright_base::sys::{Mount, Sys};
use nix::mount::{MntFlags, MsFlags};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Limit for writing caches.
const SYNC_WAIT: Duration = Duration::from_secs(4);
/// Limit for unmounting in order.
const UNMOUNT_WAIT: Duration = Duration::from_secs(4);
/// Limit for each step after requests to servers were cancelled.
const FORCE_WAIT: Duration = Duration::from_secs(1);
/// Limit for detaching from a server.
const DETACH_WAIT: Duration = Duration::from_secs(3);

/// Mounts that are kept: the kernel's own, and those with PID1's files.
const KEPT: &[&str] = &["/", "/dev", "/proc", "/sys", "/run"];

/// A tmpfs that becomes the root while the network root is unmounted.
const ISLAND: &str = "/run/bootwright/island";

/// Writes caches, turns swap off, unmounts everything, and ends connections; by `until` at the latest.
pub fn close_all(node: &Arc<Node>, over_network: bool, until: Instant) {
    let note = |text: &str| node.timeline.note(text);
    if !within(node, SYNC_WAIT, until, write_caches) {
        note("caches were not written in time; going on without");
    }
    if !within(node, UNMOUNT_WAIT, until, |node| unmount_all(node.sys, &mounts(node), MntFlags::empty())) {
        note("file systems did not close in time; they are given up");
        let force = MntFlags::MNT_FORCE | MntFlags::MNT_DETACH;
        within(node, FORCE_WAIT, until, move |node| unmount_all(node.sys, &mounts(node), force));
    }
    let leave = |node: &Node| {
        if let Err(errno) = leave_root(node.sys) {
            node.timeline.note(&["the root stays mounted: ", errno.desc()].concat());
        }
    };
    if over_network && !within(node, FORCE_WAIT, until, leave) {
        note("the root did not close in time");
    }
    detach_all(node, until);
    within(node, SYNC_WAIT, until, |node| node.sys.sync());
}

/// Runs a step in a thread. Returns false when it has not ended after `limit` or at `until`.
fn within(node: &Arc<Node>, limit: Duration, until: Instant, step: impl FnOnce(&Node) + Send + 'static) -> bool {
    let (done, wait) = channel();
    let worker = node.clone();
    let work = move || {
        step(&worker);
        // Nobody receives this when the limit is over.
        let _ = done.send(());
    };
    let started = background::spawn("close", Box::new(work)).is_ok();
    started && wait.recv_timeout(limit.min(until.saturating_duration_since(Instant::now()))).is_ok()
}

fn write_caches(node: &Node) {
    node.sys.sync();
    let swaps = mounts::swaps().unwrap_or_else(|error| {
        node.timeline.note(&["swap stays on: ", &error.to_string()].concat());
        Vec::new()
    });
    for device in swaps {
        // What is still swapped out is lost with the memory anyway.
        let _ = node.sys.swap_off(&device);
    }
}

/// All mounts. If the kernel's table cannot be read, the folders of `[state]`, whose disks would otherwise be detached under a
/// mounted file system.
fn mounts(node: &Node) -> Vec<PathBuf> {
    mounts_or_own(mounts::mount_points(), node)
}

fn mounts_or_own(listed: Result<Vec<PathBuf>, TableError>, node: &Node) -> Vec<PathBuf> {
    listed.unwrap_or_else(|error| {
        node.timeline.note(&["only the folders of `[state]` are unmounted: ", &error.to_string()].concat());
        node.config.state.iter().map(|entry| PathBuf::from(&entry.path)).collect()
    })
}

/// Unmounts in reverse order and makes the root read-only. A busy mount is detached, so that at least the disk below it
/// is closed.
fn unmount_all(sys: &dyn Sys, mounts: &[PathBuf], flags: MntFlags) {
    let kept = |p: &Path| KEPT.iter().any(|k| p == Path::new(k)) || p.starts_with("/dev") || p.starts_with("/sys");
    for target in mounts.iter().rev().filter(|p| !kept(p)) {
        if sys.unmount(target, flags).is_err() {
            // A mount that cannot be detached stays. sync(2) has written its data.
            let _ = sys.unmount(target, MntFlags::MNT_DETACH);
        }
    }
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    // Fails for an overlay with open files, whose changes are in memory only.
    let _ = sys.mount(Mount { source: Path::new(""), target: Path::new("/"), fstype: "", flags, data: "" });
}

/// Moves from the network root to a small tmpfs, so that the root can be unmounted before its server is left. PID1's
/// own file is in the initramfs.
fn leave_root(sys: &dyn Sys) -> Result<(), nix::errno::Errno> {
    let island = Path::new(ISLAND);
    let mount = |source: &str, target: &Path, fstype: &str, flags, data: &str| {
        sys.mount(Mount { source: Path::new(source), target, fstype, flags, data })
    };
    // pivot_root(2) and MS_MOVE refuse shared mounts.
    mount("", Path::new("/"), "", MsFlags::MS_REC | MsFlags::MS_PRIVATE, "")?;
    sys.make_dir(island)?;
    mount("tmpfs", island, "tmpfs", MsFlags::empty(), "size=64k,mode=0755")?;
    sys.make_dir(&island.join("old"))?;
    for name in ["dev", "proc", "sys"] {
        sys.make_dir(&island.join(name))?;
        let from = ["/", name].concat();
        mount(&from, &island.join(name), "", MsFlags::MS_MOVE, "")?;
    }
    sys.chdir(island)?;
    sys.pivot_root(Path::new("."), Path::new("old"))?;
    sys.chdir(Path::new("/"))?;
    sys.unmount(Path::new("/old/run"), MntFlags::MNT_DETACH)?;
    sys.unmount(Path::new("/old"), MntFlags::empty()).or_else(|_| sys.unmount(Path::new("/old"), MntFlags::MNT_DETACH))
}

/// Ends the connections of network root and volumes, from which nothing is mounted any more.
fn detach_all(node: &Arc<Node>, until: Instant) {
    for attachment in node.attachments.take() {
        let what = attachment.describe();
        let detach = move |node: &Node| {
            if let Err(error) = attachment.detach(DETACH_WAIT) {
                node.timeline.note(&[&what[..], " did not end in order: ", &error.to_string()].concat());
            }
        };
        // `detach` has the same limit. This one is for system calls that it cannot interrupt.
        within(node, DETACH_WAIT + Duration::from_millis(500), until, detach);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::timeline::Timeline;
    use bootwright_base::cmdline::Cmdline;
    use bootwright_base::sys::RealSys;
    use bootwright_base::sys::fake::FakeSys;
    use bootwright_base::testing::{in_own_root, mounted_at};
    use bootwright_contract::fixture::boot_config;
    use std::thread;

    #[test]
    fn all_is_unmounted_but_what_pid1_stands_on() {
        in_own_root(|| {
            for path in ["/srv", "/srv/below", "/busy"] {
                tmpfs(path);
            }
            let busy = std::fs::File::create("/busy/open").unwrap();
            let mounts: Vec<PathBuf> =
                ["/", "/proc", "/run", "/dev", "/srv", "/srv/below", "/busy"].iter().map(PathBuf::from).collect();
            unmount_all(&RealSys, &mounts, MntFlags::empty());
            for path in ["/srv", "/srv/below", "/busy"] {
                assert_eq!(mounted_at(path), None, "{path}");
            }
            for path in ["/", "/proc", "/run", "/dev"] {
                assert!(mounted_at(path).is_some(), "{path}");
            }
            let error = std::fs::write("/written", "").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "the root is closed to writers");
            drop(busy);
        });
    }

    fn tmpfs(path: &str) {
        std::fs::create_dir_all(path).unwrap();
        let target = Path::new(path);
        let flags = MsFlags::empty();
        RealSys.mount(Mount { source: Path::new("tmpfs"), target, fstype: "tmpfs", flags, data: "" }).unwrap();
    }

    /// With a file of the root open it is detached, and else it is really gone: its device could be taken away.
    #[test]
    fn the_root_is_left_and_unmounted() {
        for open in [false, true] {
            in_own_root(move || {
                std::fs::create_dir("/root-file").unwrap();
                let held = open.then(|| std::fs::File::open("/root-file").unwrap());
                leave_root(&RealSys).unwrap();
                assert!(!Path::new("/root-file").exists() && Path::new("/dev/null").exists());
                let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
                let mounted: Vec<&str> = table.lines().filter_map(|line| line.split(' ').nth(4)).collect();
                assert!(!mounted.iter().any(|path| path.starts_with("/old")), "{table}");
                drop(held);
            });
        }
    }

    #[test]
    fn what_hangs_is_left_behind() {
        let timeline = Arc::new(Timeline::new(&[], Box::new(std::io::sink())));
        let sys: &'static dyn Sys = Box::leak(Box::new(FakeSys::default()));
        let node = Arc::new(Node::new(boot_config(), Cmdline::default(), timeline, sys));
        let now = Instant::now();
        let far = now + Duration::from_secs(600);
        let hang = |_: &Node| {
            loop {
                thread::park();
            }
        };
        assert!(!within(&node, Duration::from_millis(10), far, hang));
        assert!(!within(&node, Duration::from_secs(600), now, hang));
        assert!(within(&node, Duration::from_secs(600), far, |_| {}));
    }
}
