//! The states of a service, and how they are told to people and programs.

use super::Millis;
use super::cgroup::CgroupUsage;
use serde::Serialize;

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceState {
    /// For what it comes after, or for facts about the network that its command names.
    Waiting,
    /// Runs and has not become ready yet.
    Starting,
    Ready,
    /// A one-shot that ended with status 0.
    Done,
    /// Ended; is started again at that time.
    Backoff {
        until: Millis,
    },
    /// Ended and is not started again.
    Failed,
    /// Has got its stop signal; SIGKILL follows at that time.
    Stopping {
        kill_at: Millis,
        next: AfterStop,
    },
    /// Ended; its `stop_cgroups` are being emptied, by force at that time.
    Emptying {
        kill_at: Millis,
        killed: bool,
    },
    /// Stopped on request.
    Stopped,
}

/// What follows a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterStop {
    /// Stays stopped.
    Stay,
    /// A restart on request.
    Start,
    /// It did not become ready in time: the restart policy decides.
    Policy,
    /// The machine goes down: what the service left behind is ended too.
    Down,
}

impl ServiceState {
    /// One word for the state.
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

/// One service, for `bootwright-ctl status`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceStatus {
    pub name: String,
    pub state: &'static str,
    pub pid: Option<i32>,
    /// Starts after the first one.
    pub restarts: u32,
    /// Seconds since this process was started.
    pub uptime_s: Option<u64>,
    /// What its cgroup uses, and of how much.
    #[serde(flatten)]
    pub usage: CgroupUsage,
    /// What it waits for, or how its last run ended.
    pub detail: String,
}
