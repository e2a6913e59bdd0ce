//! Cgroups of services (Documentation/admin-guide/cgroup-v2.rst): their limits, their processes, and how they are
//! emptied.

use crate::base::cgroup::enable;
use bootwright_base::sys::RealSys;
use bootwright_contract::{Limits, Service};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use std::fs;
use std::path::Path;

/// The controllers for limits. `memory` and `pids` also count for `status`; `cpu` gives busy groups equal shares.
const CONTROLLERS: &[&str] = &["cpu", "memory", "pids"];
/// Share of the machine's tasks that a group may have without a limit of its own, as `DefaultTasksMax=` of
/// systemd-system.conf(5).
const TASKS_PERCENT: u64 = 15;

/// Makes the groups of all services below `groups` and sets their limits. Returns lines about failures.
pub fn prepare(groups: &Path, services: &[Service]) -> Vec<String> {
    if let Err(error) = fs::create_dir_all(groups) {
        return vec![["services have no cgroups: ", &error.to_string()].concat()];
    }
    let mut problems = enable(&RealSys, groups, CONTROLLERS);
    // The kernel protects no more memory of a group than that of its parent.
    let memory_min_mib = services.iter().map(|service| service.limits.memory_min_mib).sum();
    let all = Limits { memory_min_mib, memory_max_mib: 0, tasks_max: Some(0), cpu_weight: 100 };
    problems.extend(limit(groups, &all));
    for service in services {
        let group = groups.join(&service.name);
        // When the folder cannot be made, the start of the service reports it.
        if fs::create_dir_all(&group).is_ok() {
            problems.extend(limit(&group, &service.limits));
        }
    }
    problems
}

/// Sets all limits of a group. Returns a line about those that were asked for and could not be set.
pub fn limit(group: &Path, limits: &Limits) -> Option<String> {
    let or_max = |value: Option<u64>| value.map_or("max".into(), |value| value.to_string());
    let memory_max = Some(bytes(limits.memory_max_mib)).filter(|bytes| *bytes > 0);
    let tasks_max = match limits.tasks_max {
        None => share_of_tasks(),
        Some(count) => Some(u64::from(count)).filter(|count| *count > 0),
    };
    // Each limit with the kernel's default: when the controller is missing, only limits other than the default fail.
    let files = [
        ("memory.min", bytes(limits.memory_min_mib).to_string(), "0"),
        ("memory.max", or_max(memory_max), "max"),
        ("pids.max", or_max(tasks_max), "max"),
        ("cpu.weight", limits.cpu_weight.to_string(), "100"),
    ];
    let refused = |(file, value, default): &(&'static str, String, &str)| {
        let error = fs::write(group.join(file), value).err().filter(|_| value != default)?;
        Some([" ", *file, " ", value, ": ", &error.to_string()].concat())
    };
    let refused: Vec<String> = files.iter().filter_map(refused).collect();
    if refused.is_empty() {
        return None;
    }
    Some(["cgroup `", &group.to_string_lossy(), "` without", &refused.join(",")].concat())
}

fn bytes(mib: u32) -> u64 {
    u64::from(mib) << 20
}

/// [`TASKS_PERCENT`] of the tasks that the kernel's memory and process ids allow; `None` when the kernel does not tell.
fn share_of_tasks() -> Option<u64> {
    let most = ["/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max"].map(|file| number(Path::new(file)));
    most.into_iter().flatten().min().map(|most| most * TASKS_PERCENT / 100)
}

/// What a group uses, with its limits. `None` when the kernel does not count it or sets no limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CgroupUsage {
    /// Bytes, page cache included.
    pub memory: Option<u64>,
    pub memory_max: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
    pub tasks_max: Option<u64>,
    /// Processes that the kernel has ended for lack of memory, and forks that it has refused at the limit of tasks, since
    /// the machine's start.
    pub oom_kills: Option<u64>,
    pub forks_refused: Option<u64>,
}

/// Reads the usage of a group and of those below it.
pub fn usage(group: &Path) -> CgroupUsage {
    let read = |file: &str| number(&group.join(file));
    CgroupUsage {
        memory: read("memory.current"),
        memory_max: read("memory.max"),
        tasks: read("pids.current"),
        tasks_max: read("pids.max"),
        oom_kills: event(&group.join("memory.events"), "oom_kill"),
        forks_refused: event(&group.join("pids.events"), "max"),
    }
}

/// The count of an event in a file of lines `NAME COUNT`.
fn event(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let mut events = text.lines().filter_map(|line| line.split_once(' '));
    events.find(|(found, _)| *found == name)?.1.parse().ok()
}

/// The number in a file; `None` for `max`.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The processes of a group and of those below it.
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

/// Sends a signal to all processes of a group and of those below it.
pub fn signal_all(group: &Path, signal: Signal) {
    for pid in processes(group) {
        // Fails for processes that have just ended.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Kills all processes: at once by `cgroup.kill` (since Linux 5.14), else one by one.
pub fn kill_all(group: &Path) {
    let control = group.join("cgroup.kill");
    if !control.exists() || fs::write(control, "1").is_err() {
        signal_all(group, Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Folder;
    use super::*;
    use bootwright_contract::fixture::service;

    /// A folder that is no cgroup: what is written can be read, and nothing is limited. The machine test `limits` has real ones.
    fn written(group: &Path) -> [String; 4] {
        ["memory.min", "memory.max", "pids.max", "cpu.weight"]
            .map(|file| fs::read_to_string(group.join(file)).expect("it was written"))
    }

    #[test]
    fn every_group_gets_its_limits_and_the_one_above_all_that_is_kept() {
        let folder = Folder::new("limits");
        let groups = folder.0.join("services");
        let (mut plain, mut small, mut guarded) = (service("plain", &[]), service("small", &[]), service("sshd", &[]));
        plain.limits.tasks_max = None;
        small.limits = Limits { memory_min_mib: 0, memory_max_mib: 3, tasks_max: Some(7), cpu_weight: 25 };
        guarded.limits = Limits { memory_min_mib: 16, memory_max_mib: 0, tasks_max: Some(0), cpu_weight: 100 };
        let mut second = guarded.clone();
        second.name = "second".into();
        assert_eq!(prepare(&groups, &[plain, small, guarded, second]), [""; 0]);
        let share = share_of_tasks().expect("Linux tells").to_string();
        assert_eq!(written(&groups), ["33554432", "max", "max", "100"]);
        assert_eq!(written(&groups.join("plain")), ["0", "max", &share, "100"]);
        assert_eq!(written(&groups.join("small")), ["0", "3145728", "7", "25"]);
        assert_eq!(written(&groups.join("sshd")), ["16777216", "max", "max", "100"]);
    }

    #[test]
    fn what_cannot_be_set_is_told_if_it_was_asked_for() {
        let folder = Folder::new("refused");
        for file in ["memory.min", "memory.max", "pids.max", "cpu.weight"] {
            fs::create_dir(folder.0.join(file)).expect("a folder where a file belongs");
        }
        let mut limits = Limits { memory_min_mib: 0, memory_max_mib: 0, tasks_max: Some(0), cpu_weight: 100 };
        assert_eq!(limit(&folder.0, &limits), None, "the kernel does all that by itself");
        limits.memory_max_mib = 1;
        limits.tasks_max = Some(5);
        let told = limit(&folder.0, &limits).expect("neither could be written");
        assert!(told.contains("` without memory.max 1048576: ") && told.contains(", pids.max 5: "), "{told}");
        assert!(!told.contains("cpu.weight") && !told.contains("memory.min"), "{told}");
    }

    #[test]
    fn usage_is_read_with_and_without_limits() {
        let folder = Folder::new("usage");
        for (file, text) in [("memory.current", "4096\n"), ("memory.max", "max\n"), ("pids.current", "3\n")] {
            fs::write(folder.0.join(file), text).expect("writable");
        }
        let expected = CgroupUsage { memory: Some(4096), tasks: Some(3), ..CgroupUsage::default() };
        assert_eq!(usage(&folder.0), expected);
        fs::write(folder.0.join("pids.max"), "9\n").expect("writable");
        assert_eq!(usage(&folder.0).tasks_max, Some(9));
        fs::write(folder.0.join("memory.events"), "low 0\noom 3\noom_kill 2\noom_group_kill 0\n").expect("writable");
        fs::write(folder.0.join("pids.events"), "max 7\n").expect("writable");
        let usage = usage(&folder.0);
        assert_eq!((usage.oom_kills, usage.forks_refused), (Some(2), Some(7)));
    }
}
