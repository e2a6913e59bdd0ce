//! A service and how far it is.

use super::Millis;
use super::backoff::Backoff;
use super::probe::{INTERVAL_MS, Probe};
use super::process::{ProgramState, ServiceProcess};
use super::status::ServiceState;
use bootwright_base::spawn::Launch;
use bootwright_contract::{Ready, Service};

/// A service with its state.
pub(super) struct ManagedService {
    pub config: Service,
    pub state: ServiceState,
    pub running: Option<ServiceProcess>,
    /// Whether it was ever started. Before that it delays the line "phases done".
    pub started: bool,
    pub restarts: u32,
    /// [`CgroupUsage::oom_kills`](super::cgroup::CgroupUsage::oom_kills) when its last run ended.
    pub oom_kills: u64,
    pub backoff: Backoff,
    pub probe: Option<Probe>,
    /// Number of the current start, by which answers about earlier starts are recognised.
    pub ticket: u64,
    pub probe_command: ProbeCommand,
    /// What it waits for, or how its last run ended.
    pub detail: String,
}

/// The command of [`Ready::Exec`].
pub(super) enum ProbeCommand {
    /// Not running: it is started at that time.
    Next(Millis),
    Runs {
        launch: Launch,
        until: Millis,
    },
}

/// The services before any of them is started.
pub(super) fn managed(services: &[Service]) -> Vec<ManagedService> {
    let of = |config: &Service| ManagedService {
        config: config.clone(),
        state: ServiceState::Waiting,
        running: None,
        started: false,
        restarts: 0,
        oom_kills: 0,
        backoff: Backoff::new(config.backoff_ms.into()),
        probe: None,
        ticket: 0,
        probe_command: ProbeCommand::Next(0),
        detail: String::new(),
    };
    services.iter().map(of).collect()
}

impl ManagedService {
    /// Whether its program runs. A process that is still reading its program does not count.
    pub fn runs(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.program == ProgramState::Runs)
    }

    /// When the service must be ready. `None` while its program is being read.
    pub fn ready_limit(&self) -> Option<Millis> {
        let limit = u64::from(self.config.ready_timeout_s) * 1000;
        Some(self.running.as_ref()?.since + limit).filter(|_| limit > 0 && self.runs())
    }

    pub fn stop_asking(&self) {
        self.probe.iter().for_each(Probe::stop);
    }

    /// [`ManagedService::detail`], or a text that the program is still being read, if that takes long.
    pub fn detail(&self, now: Millis) -> String {
        let awaited = self.running.as_ref().filter(|running| running.program == ProgramState::Awaited);
        match awaited.map(|running| now.saturating_sub(running.since) / 1000) {
            Some(seconds @ 1..) => ["its program is being read since ", &seconds.to_string(), " s"].concat(),
            _ => self.detail.clone(),
        }
    }

    pub fn deadline(&self, now: Millis) -> Option<Millis> {
        match self.state {
            ServiceState::Starting => {
                let command = match (&self.config.ready, &self.probe_command) {
                    (Ready::Exec { .. }, ProbeCommand::Next(at) | ProbeCommand::Runs { until: at, .. }) => Some(*at),
                    _ => None,
                };
                command.filter(|_| self.runs()).into_iter().chain(self.ready_limit()).min()
            }
            ServiceState::Backoff { until } => Some(until),
            ServiceState::Stopping { kill_at, .. } => Some(kill_at),
            ServiceState::Emptying { .. } => Some(now + INTERVAL_MS),
            _ => None,
        }
    }
}
