//! PID1's own cgroup, and the controllers for everybody else.
//! Documentation/admin-guide/cgroup-v2.rst: a group that hands controllers down may hold no processes itself.

use crate::sys::Sys;
use std::fs;
use std::path::Path;

/// The cgroup2 root.
pub const ROOT: &str = "/sys/fs/cgroup";
/// What the kubelet hands out; those that the kernel lacks are passed over.
const CONTROLLERS: &[&str] = &["cpu", "cpuset", "memory", "hugetlb", "pids", "io"];

/// Moves PID1 into a leaf and enables the controllers below the root. Gives what did not work, in words.
pub fn take_own(sys: &dyn Sys) -> Vec<String> {
    let offered = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
    enable(sys, &offered)
}

fn enable(sys: &dyn Sys, offered: &str) -> Vec<String> {
    let root = Path::new(ROOT);
    let leaf = root.join("init");
    let moved = sys.make_dir(&leaf).and_then(|()| sys.write(&leaf.join("cgroup.procs"), "1"));
    if let Err(errno) = moved {
        return vec![format!("PID1 has no cgroup of its own: {errno}")];
    }
    let mut failed = Vec::new();
    for controller in CONTROLLERS.iter().filter(|c| offered.split_whitespace().any(|o| o == **c)) {
        // One at a time: one that cannot be enabled fails the whole write.
        if let Err(errno) = sys.write(&root.join("cgroup.subtree_control"), &format!("+{controller}")) {
            failed.push(format!("no cgroup controller {controller}: {errno}"));
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Fake;

    #[test]
    fn leaf_first_then_each_controller_that_is_there() {
        let fake = Fake::failing(&["write /sys/fs/cgroup/cgroup.subtree_control +io"]);
        assert_eq!(enable(&fake, "cpuset cpu io misc\n").len(), 1);
        let expected = [
            "make_dir /sys/fs/cgroup/init",
            "write /sys/fs/cgroup/init/cgroup.procs 1",
            "write /sys/fs/cgroup/cgroup.subtree_control +cpu",
            "write /sys/fs/cgroup/cgroup.subtree_control +cpuset",
            "write /sys/fs/cgroup/cgroup.subtree_control +io",
        ];
        assert_eq!(fake.calls(), expected);
    }

    #[test]
    fn no_cgroup2_is_one_note() {
        let notes = enable(&Fake::failing(&["make_dir"]), "cpu");
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("EPERM"), "{notes:?}");
    }
}
