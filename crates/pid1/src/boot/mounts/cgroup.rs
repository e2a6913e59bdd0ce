//! PID1's own cgroup, and the controllers for all other cgroups. A cgroup whose children have controllers may hold no
//! processes itself (Documentation/admin-guide/cgroup-v2.rst).

use crate::base::cgroup;
use crate::base::timeline::Timeline;
use bootwright_base::background;
use bootwright_base::sys::{Sys, SysResult};
use std::path::Path;
use std::sync::Arc;

/// The cgroup2 root.
const ROOT: &str = "/sys/fs/cgroup";
/// The controllers that the kubelet uses. Those that the kernel lacks are skipped.
const CONTROLLERS: &[&str] = &["cpu", "cpuset", "memory", "hugetlb", "pids", "io"];

/// Enables the controllers in the root cgroup. Returns lines about failures.
pub fn enable_controllers(sys: &dyn Sys) -> Vec<String> {
    cgroup::enable(sys, Path::new(ROOT), CONTROLLERS)
}

/// Moves PID1 into the cgroup `init`. In a thread, because the kernel first waits for all processors (RCU).
pub fn enter_leaf(sys: &'static dyn Sys, timeline: Arc<Timeline>) {
    let work = move || {
        if let Err(errno) = move_to_leaf(sys) {
            timeline.note(&["PID1 has no cgroup of its own: ", errno.desc()].concat());
        }
    };
    // Without a thread PID1 stays in the root cgroup, which is allowed.
    let _ = background::spawn("cgroup", Box::new(work));
}

fn move_to_leaf(sys: &dyn Sys) -> SysResult<()> {
    let leaf = Path::new(ROOT).join("init");
    sys.make_dir(&leaf)?;
    sys.write(&leaf.join("cgroup.procs"), "1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::sys::fake::FakeSys;
    use nix::errno::Errno;

    #[test]
    fn pid1_has_a_leaf_of_its_own() {
        let fake = FakeSys::default();
        move_to_leaf(&fake).unwrap();
        assert_eq!(fake.calls(), ["make_dir /sys/fs/cgroup/init", "write /sys/fs/cgroup/init/cgroup.procs 1"]);
        assert_eq!(move_to_leaf(&FakeSys::failing(&["make_dir"])), Err(Errno::EPERM), "there is no cgroup2");
    }
}
