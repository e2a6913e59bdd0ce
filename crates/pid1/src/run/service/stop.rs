//! Stops services: stop signal, time to end, SIGKILL; in the right order when the machine goes down.
//!
//! A command stops only the service's own process. Processes that it has left (pods under kubelet, shims under
//! containerd) go on, so that a service can be restarted. `status` tells how many are left, and `kill` ends them. When
//! the machine goes down they are ended too.

use super::Millis;
use super::cgroup::{self, CgroupUsage};
use super::managed::ManagedService;
use super::process::{ProgramState, parse_signal};
use super::status::{AfterStop, ServiceState};
use super::supervisor::{CommandError, Supervisor};
use nix::sys::signal::Signal;
use std::path::PathBuf;

/// Milliseconds that a process may take to disappear after SIGKILL. If it hangs in the kernel, the shutdown goes on
/// without it.
const KILLED_MS: Millis = 2000;

impl Supervisor {
    /// Stops all services from now on, each after the services that depend on it.
    pub fn begin_shutdown(&mut self) {
        self.going_down = true;
    }

    /// Whether all services and the processes that they have left have ended.
    pub fn is_down(&self) -> bool {
        self.services.iter().all(|service| service.state == ServiceState::Stopped)
    }

    /// Sends the stop signal.
    pub(super) fn begin_stop(&mut self, at: usize, next: AfterStop, now: Millis) {
        let service = &mut self.services[at];
        let Some(running) = &service.running else { return };
        let signal = match running.program {
            // The program does not run yet, so nothing could end in order.
            ProgramState::Awaited => Signal::SIGKILL,
            _ => parse_signal(&service.config.stop_signal).unwrap_or(Signal::SIGTERM),
        };
        running.child().signal(signal);
        let kill_at = now + u64::from(service.config.stop_timeout_s) * 1000;
        service.state = ServiceState::Stopping { kill_at, next };
    }

    /// `kill NAME`: ends all processes of the service at once, also those that it has left. The service stays stopped.
    ///
    /// # Errors
    /// [`CommandError`]
    pub fn kill(&mut self, name: &str, now: Millis) -> Result<(), CommandError> {
        if self.going_down {
            return Err(CommandError::GoingDown);
        }
        let at = self.find(name)?;
        let group = self.paths.service_cgroup(name);
        let service = &mut self.services[at];
        let is_left = group.as_deref().is_some_and(|group| !cgroup::processes(group).is_empty());
        let may_start = matches!(service.state, ServiceState::Waiting | ServiceState::Backoff { .. });
        if service.running.is_none() && !is_left && !may_start {
            return Err(CommandError::Already { name: name.into(), state: service.state.word() });
        }
        if let Some(group) = group {
            cgroup::kill_all(&group);
        }
        if let Some(running) = &service.running {
            running.child().signal(Signal::SIGKILL);
            service.state = ServiceState::Stopping { kill_at: now + KILLED_MS, next: AfterStop::Stay };
        } else if may_start {
            service.state = ServiceState::Stopped;
        }
        Ok(())
    }

    pub(super) fn usage(&self, service: &ManagedService) -> CgroupUsage {
        self.paths.service_cgroup(&service.config.name).map(|group| cgroup::usage(&group)).unwrap_or_default()
    }

    /// The detail for the status, with what its limits did, and the number of processes that a stopped service has left.
    pub(super) fn detail(&self, service: &ManagedService, usage: &CgroupUsage, now: Millis) -> String {
        let group = self.paths.service_cgroup(&service.config.name).filter(|_| service.running.is_none());
        let left = group.map_or(0, |group| cgroup::processes(&group).len() as u64);
        let kill = ["left: `bootwright-ctl kill ", &service.config.name, "`"].concat();
        let mut detail = service.detail(now);
        let mut add = |count: u64, one: &str, more: &str, what: &str| {
            if count > 0 {
                let gap = if detail.is_empty() { "" } else { ", " };
                let word = if count == 1 { one } else { more };
                detail.push_str(&[gap, &count.to_string(), " ", word, " ", what].concat());
            }
        };
        add(usage.oom_kills.unwrap_or(0), "process was", "processes were", "ended for lack of memory");
        add(usage.forks_refused.unwrap_or(0), "fork was", "forks were", "refused at `tasks_max`");
        add(left, "process", "processes", &kill);
        detail
    }

    /// Sends SIGKILL: the time for the stop signal is over.
    pub(super) fn kill_stopping(&mut self, at: usize, next: AfterStop, now: Millis) {
        let group = self.paths.service_cgroup(&self.services[at].config.name);
        let service = &mut self.services[at];
        let Some(running) = &service.running else { return };
        if next == AfterStop::Down
            && let Some(group) = group
        {
            cgroup::kill_all(&group);
        }
        running.child().signal(Signal::SIGKILL);
        service.state = ServiceState::Stopping { kill_at: now + KILLED_MS, next };
    }

    /// Stops every service on which no running service depends.
    pub(super) fn stop_in_order(&mut self, now: Millis) {
        for at in 0..self.services.len() {
            let name = &self.services[at].config.name;
            let is_needed = self
                .services
                .iter()
                .any(|other| other.state != ServiceState::Stopped && other.config.after.contains(name));
            if is_needed {
                continue;
            }
            match self.services[at].state {
                ServiceState::Starting | ServiceState::Ready => self.begin_stop(at, AfterStop::Down, now),
                ServiceState::Stopping { kill_at, next } if next != AfterStop::Down => {
                    self.services[at].state = ServiceState::Stopping { kill_at, next: AfterStop::Down };
                }
                ServiceState::Stopping { .. } | ServiceState::Emptying { .. } | ServiceState::Stopped => {}
                _ => self.main_process_is_down(at, now),
            }
        }
    }

    /// Ends the processes that a service has left in its own cgroup, and begins to empty its `stop_cgroups`.
    pub(super) fn main_process_is_down(&mut self, at: usize, now: Millis) {
        if let Some(group) = self.paths.service_cgroup(&self.services[at].config.name) {
            cgroup::kill_all(&group);
        }
        for group in self.stop_cgroups(at) {
            cgroup::signal_all(&group, Signal::SIGTERM);
        }
        let kill_at = now + u64::from(self.services[at].config.stop_timeout_s) * 1000;
        self.services[at].state = ServiceState::Emptying { kill_at, killed: false };
        self.empty_cgroups(at, now);
    }

    /// Looks whether the `stop_cgroups` are empty. Kills their processes when it is time.
    pub(super) fn empty_cgroups(&mut self, at: usize, now: Millis) {
        let ServiceState::Emptying { kill_at, killed } = self.services[at].state else { return };
        let groups = self.stop_cgroups(at);
        let is_empty = groups.iter().all(|group| cgroup::processes(group).is_empty());
        let is_due = kill_at <= now;
        if is_empty || killed && is_due {
            self.services[at].state = ServiceState::Stopped;
        } else if is_due {
            groups.iter().for_each(|group| cgroup::kill_all(group));
            self.services[at].state = ServiceState::Emptying { kill_at: now + KILLED_MS, killed: true };
        }
    }

    fn stop_cgroups(&self, at: usize) -> Vec<PathBuf> {
        let Some(root) = &self.paths.cgroups else { return Vec::new() };
        self.services[at].config.stop_cgroups.iter().map(|group| root.join(group.trim_start_matches('/'))).collect()
    }
}
