//! Enables controllers for the children of a cgroup (Documentation/admin-guide/cgroup-v2.rst, "Enabling and
//! disabling").

use bootwright_base::sys::Sys;
use std::fs;
use std::path::Path;

/// Enables those of the controllers that the kernel has for the children of `group`. Returns lines about what failed.
pub fn enable(sys: &dyn Sys, group: &Path, controllers: &[&str]) -> Vec<String> {
    let offered = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    enable_offered(sys, group, controllers, &offered)
}

fn enable_offered(sys: &dyn Sys, group: &Path, controllers: &[&str], offered: &str) -> Vec<String> {
    let switch = group.join("cgroup.subtree_control");
    let there = controllers.iter().filter(|c| offered.split_whitespace().any(|o| o == **c));
    let wanted: Vec<String> = there.map(|controller| ["+", controller].concat()).collect();
    // All at once, because each write takes milliseconds. When one controller cannot be enabled, the write enables
    // none, and they are tried one by one.
    if sys.write(&switch, &wanted.join(" ")).is_ok() {
        return Vec::new();
    }
    let one = |controller: &String| match sys.write(&switch, controller) {
        Ok(()) => None,
        Err(errno) => Some(["no cgroup controller ", controller.trim_start_matches('+'), ": ", errno.desc()].concat()),
    };
    wanted.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::sys::fake::FakeSys;

    #[test]
    fn all_controllers_that_are_there_and_one_by_one_when_that_fails() {
        let group = Path::new("/sys/fs/cgroup");
        let fake = FakeSys::default();
        assert!(enable_offered(&fake, group, &["cpu", "cpuset", "memory", "io"], "cpuset cpu io misc\n").is_empty());
        assert_eq!(fake.calls(), ["write /sys/fs/cgroup/cgroup.subtree_control +cpu +cpuset +io"]);
        let fake = FakeSys::failing(&["write /sys/fs/cgroup/cgroup.subtree_control +cpu"]);
        let notes = enable_offered(&fake, group, &["cpu", "io"], "cpu io");
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("no cgroup controller cpu: "), "{notes:?}");
        assert_eq!(
            fake.calls()[1..],
            ["cpu", "io"].map(|c| format!("write /sys/fs/cgroup/cgroup.subtree_control +{c}"))
        );
    }
}
