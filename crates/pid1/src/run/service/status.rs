//! The states of a service, and its status for people and programs.

use super::Millis;
use super::cgroup::CgroupUsage;
use serde::Serialize;

/// The state of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceState {
    /// Waits for its dependencies, or for facts of the network that its command needs.
    Waiting,
    /// Runs, and is not ready yet.
    Starting,
    Ready,
    /// Has ended with status 0 and is not started again.
    Done,
    /// Has ended, and is started again at that time.
    Backoff {
        until: Millis,
    },
    /// Has ended, and is not started again.
    Failed,
    /// Has got its stop signal. SIGKILL follows at that time.
    Stopping {
        kill_at: Millis,
        next: AfterStop,
    },
    /// Has ended. Its `stop_cgroups` are being emptied, by SIGKILL at that time.
    Emptying {
        kill_at: Millis,
        killed: bool,
    },
    /// Was stopped by a command.
    Stopped,
}

/// What follows when a service has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterStop {
    /// Nothing.
    Stay,
    /// It is started again (command `restart`).
    Start,
    /// The restart policy decides, because the service was not ready in time.
    Policy,
    /// The machine goes down: processes that the service has left are ended too.
    Down,
}

impl ServiceState {
    /// The state in one word.
    pub fn word(self) -> &'static str {
        match self {
            ServiceState::Waiting => "waiting",
            ServiceState::Starting => "starting",
            ServiceState::Ready => "ready",
            ServiceState::Done => "done",
            ServiceState::Backoff { .. } => "backoff",
            ServiceState::Failed => "failed",
            ServiceState::Stopping { .. } | ServiceState::Emptying { .. } => "stopping",
            ServiceState::Stopped => "stopped",
        }
    }
}

/// A service in `bootwright-ctl status`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceStatus {
    pub name: String,
    pub state: &'static str,
    pub pid: Option<i32>,
    /// Number of starts after the first one.
    pub restarts: u32,
    /// Seconds since the process was started.
    pub uptime_s: Option<u64>,
    /// Usage and limits of its cgroup.
    #[serde(flatten)]
    pub usage: CgroupUsage,
    /// What the service waits for, or how its last run ended.
    pub detail: String,
}
