//! PID1's own cgroup, and the controllers for everybody else.
//! Documentation/admin-guide/cgroup-v2.rst: a group that hands controllers down may hold no processes itself.

use crate::base::timeline::Timeline;
use bootwright_base::background;
use bootwright_base::sys::{Sys, SysResult};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// The cgroup2 root.
const ROOT: &str = "/sys/fs/cgroup";
/// What the kubelet hands out; those that the kernel lacks are passed over.
const CONTROLLERS: &[&str] = &["cpu", "cpuset", "memory", "hugetlb", "pids", "io"];

/// Enables the controllers below the root; gives what did not work, in words.
pub fn enable_controllers(sys: &dyn Sys) -> Vec<String> {
    let offered = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
    enable(sys, &offered)
}

fn enable(sys: &dyn Sys, offered: &str) -> Vec<String> {
    let switch = Path::new(ROOT).join("cgroup.subtree_control");
    let there = CONTROLLERS.iter().filter(|c| offered.split_whitespace().any(|o| o == **c));
    let wanted: Vec<String> = there.map(|controller| ["+", controller].concat()).collect();
    // Each write takes milliseconds. One that names a controller that cannot be enabled enables none.
    if sys.write(&switch, &wanted.join(" ")).is_ok() {
        return Vec::new();
    }
    let one = |controller: &String| match sys.write(&switch, controller) {
        Ok(()) => None,
        Err(errno) => Some(["no cgroup controller ", controller.trim_start_matches('+'), ": ", errno.desc()].concat()),
    };
    wanted.iter().filter_map(one).collect()
}

/// Moves PID1 into a leaf. The kernel waits for all processors before it does (RCU): nobody has to wait along.
pub fn enter_leaf(sys: &'static dyn Sys, timeline: Arc<Timeline>) {
    let work = move || {
        if let Err(errno) = move_to_leaf(sys) {
            timeline.note(&["PID1 has no cgroup of its own: ", errno.desc()].concat());
        }
    };
    // Without a thread it stays in the root, which may hold processes.
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
    use bootwright_base::sys::fake::Fake;
    use nix::errno::Errno;

    #[test]
    fn pid1_has_a_leaf_of_its_own() {
        let fake = Fake::default();
        move_to_leaf(&fake).unwrap();
        assert_eq!(fake.calls(), ["make_dir /sys/fs/cgroup/init", "write /sys/fs/cgroup/init/cgroup.procs 1"]);
        assert_eq!(move_to_leaf(&Fake::failing(&["make_dir"])), Err(Errno::EPERM), "there is no cgroup2");
    }

    #[test]
    fn all_controllers_that_are_there_and_one_by_one_when_that_fails() {
        let fake = Fake::default();
        assert!(enable(&fake, "cpuset cpu io misc\n").is_empty());
        assert_eq!(fake.calls(), ["write /sys/fs/cgroup/cgroup.subtree_control +cpu +cpuset +io"]);
        let fake = Fake::failing(&["write /sys/fs/cgroup/cgroup.subtree_control +cpu"]);
        let notes = enable(&fake, "cpu io");
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("no cgroup controller cpu: "), "{notes:?}");
        assert_eq!(
            fake.calls()[1..],
            ["cpu", "io"].map(|c| format!("write /sys/fs/cgroup/cgroup.subtree_control +{c}"))
        );
    }
}
