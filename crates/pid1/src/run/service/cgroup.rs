//! cgroup2 folders (Documentation/admin-guide/cgroup-v2.rst): who is in them, and how they are emptied.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;

/// Processes in the group and below it.
pub fn processes(group: &Path) -> Vec<i32> {
    let mut pids = Vec::new();
    let mut groups = vec![group.to_path_buf()];
    while let Some(group) = groups.pop() {
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
        let Ok(entries) = fs::read_dir(&group) else { continue };
        groups.extend(entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    pids
}

/// Sends a signal to every process in the group and below it.
pub fn signal_all(group: &Path, signal: Signal) {
    for pid in processes(group) {
        // One that has just ended needs no signal.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// SIGKILL for all, atomically by `cgroup.kill` (since Linux 5.14), else one by one.
pub fn kill_all(group: &Path) {
    let control = group.join("cgroup.kill");
    if !control.exists() || fs::write(control, "1").is_err() {
        signal_all(group, Signal::SIGKILL);
    }
}

/// Makes the group, and lets the kernel count memory for each group in it.
pub fn account_memory(group: &Path) -> std::io::Result<()> {
    fs::create_dir_all(group)?;
    fs::write(group.join("cgroup.subtree_control"), "+memory")
}

/// Memory in use by the group in bytes, when that is accounted.
pub fn memory(group: &Path) -> Option<u64> {
    fs::read_to_string(group.join("memory.current")).ok()?.trim().parse().ok()
}
