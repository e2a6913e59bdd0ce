//! All services and what happens to them. The main loop owns it: nothing in here blocks.

use super::backoff::Backoff;
use super::log::Log;
use super::order::{NETWORK, OrderError, TIME, check_order};
use super::probe::{self, INTERVAL_MS, Probe};
use super::process::{self, Running, StartError};
use super::status::{Next, ServiceStatus, State};
use super::{Millis, Paths, cgroup};
use crate::base::network::NetState;
use crate::base::timeline::Timeline;
use bootwright_base::wake::Waker;
use bootwright_contract::{Ready, Restart, Service};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A probe's command that runs longer is ended and asked again.
const PROBE_TIMEOUT_MS: Millis = 5000;
/// So much of a service's output is read before others get their turn.
const READ_AT_ONCE: usize = 64 * 1024;

/// A service with its state.
pub(super) struct Managed {
    pub config: Service,
    pub state: State,
    pub running: Option<Running>,
    /// Was it ever started? Then it no longer keeps "phases done" back.
    started: bool,
    restarts: u32,
    backoff: Backoff,
    log: Log,
    probe: Option<Probe>,
    /// Tells answers about this start from those about an earlier one.
    ticket: u64,
    probe_command: ProbeCommand,
    /// What it waits for, or how its last run ended.
    pub detail: String,
}

/// The command of `Ready::Exec`.
#[derive(Clone, Copy)]
enum ProbeCommand {
    /// Started when that time has come.
    Next(Millis),
    Runs {
        pid: i32,
        until: Millis,
    },
}

/// Why a command about a service is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("no service `{name}`: there are {known}")]
    Unknown { name: String, known: String },
    #[error("`{name}` is {state} already")]
    Already { name: String, state: &'static str },
    #[error("the machine is going down")]
    GoingDown,
}

/// The services of this node.
pub struct Supervisor {
    pub(super) services: Vec<Managed>,
    pub(super) paths: Paths,
    timeline: Arc<Timeline>,
    network: NetState,
    results: (Sender<u64>, Receiver<u64>),
    waker: Waker,
    next_ticket: u64,
    pub(super) going_down: bool,
}

impl Supervisor {
    /// Checks the order; nothing is started before [`Supervisor::tick`].
    pub fn new(
        services: &[Service],
        paths: Paths,
        timeline: Arc<Timeline>,
        waker: Waker,
    ) -> Result<Supervisor, OrderError> {
        check_order(services)?;
        if let Some(groups) = &paths.cgroups {
            // For `status` only: without it nothing is missing but the memory's column.
            let _ = cgroup::account_memory(&groups.join("services"));
        }
        Ok(Supervisor { services: managed(services, &paths), ..Supervisor::without_services(paths, timeline, waker) })
    }

    /// When the services cannot be used: control commands are answered all the same.
    pub fn without_services(paths: Paths, timeline: Arc<Timeline>, waker: Waker) -> Supervisor {
        Supervisor {
            services: Vec::new(),
            paths,
            timeline,
            network: NetState::default(),
            results: channel(),
            waker,
            next_ticket: 0,
            going_down: false,
        }
    }

    /// What is known of the network has changed.
    pub fn set_network(&mut self, network: NetState) {
        self.network = network;
    }

    /// Does all that is due now: answers of probes, starts, time limits, steps of a stop.
    pub fn tick(&mut self, now: Millis) {
        while let Ok(ticket) = self.results.1.try_recv() {
            if let Some(at) = self.services.iter().position(|s| s.ticket == ticket && s.state == State::Starting) {
                self.became_ready(at);
            }
        }
        for at in 0..self.services.len() {
            self.check_limits(at, now);
        }
        if self.going_down {
            self.stop_in_order(now);
            return;
        }
        for at in 0..self.services.len() {
            self.start_when_possible(at, now);
        }
    }

    /// When [`Supervisor::tick`] wants to be called at the latest.
    pub fn deadline(&self, now: Millis) -> Option<Millis> {
        self.services.iter().filter_map(|service| service.deadline(now)).min()
    }

    /// Every service has been started once, or waits for something that may never come; then the boot is over.
    pub fn is_settled(&self) -> bool {
        self.network.over
            && self.services.iter().all(|service| {
                service.started
                    || service.state != State::Waiting
                    || self.waits_for(service).is_none()
                    || service.config.after.iter().any(|after| self.has_failed(after))
            })
    }

    fn has_failed(&self, name: &str) -> bool {
        self.services.iter().any(|s| s.config.name == name && matches!(s.state, State::Failed | State::Stopped))
    }

    /// The first dependency that is not ready.
    fn waits_for<'a>(&self, service: &'a Managed) -> Option<&'a str> {
        let is_met = |after: &str| match self.services.iter().find(|s| s.config.name == after) {
            Some(other) => matches!(other.state, State::Ready | State::Done),
            None => after == NETWORK && self.network.over || after == TIME && self.network.time_over,
        };
        service.config.after.iter().map(String::as_str).find(|after| !is_met(after))
    }

    fn start_when_possible(&mut self, at: usize, now: Millis) {
        match self.services[at].state {
            State::Waiting => {}
            State::Backoff { until } if until <= now => {}
            _ => return,
        }
        if let Some(after) = self.waits_for(&self.services[at]) {
            self.services[at].detail = ["waits for ", after].concat();
            return;
        }
        self.start_now(at, now);
    }

    fn start_now(&mut self, at: usize, now: Millis) {
        let service = &mut self.services[at];
        if let Ready::File { path } = &service.config.ready {
            // One from an earlier run would be a lie. It is usually not there.
            let _ = std::fs::remove_file(path);
        }
        let started = process::start(&service.config, &self.network.facts, &self.paths, now);
        let running = match started {
            Ok(running) => running,
            Err(error @ StartError::Unknown(_)) => {
                // The facts come with the network; until then this is no failure.
                service.state = State::Waiting;
                service.detail = error.to_string();
                return;
            }
            Err(error) => {
                service.started = true;
                self.failed(at, &error.to_string(), 0, now);
                return;
            }
        };
        if service.started {
            service.restarts += 1;
        }
        service.started = true;
        service.running = Some(running);
        service.state = State::Starting;
        service.detail.clear();
        self.next_ticket += 1;
        service.ticket = self.next_ticket;
        service.probe_command = ProbeCommand::Next(now);
        self.timeline.service_start(&service.config.name);
        let ready = service.config.ready.clone();
        match ready {
            Ready::Started => self.became_ready(at),
            Ready::Exited | Ready::Exec { .. } => {}
            _ => match probe::spawn(ready, service.ticket, self.results.0.clone(), self.waker.clone()) {
                Ok(probe) => service.probe = Some(probe),
                Err(error) => service.detail = ["cannot ask whether it is ready: ", &error.to_string()].concat(),
            },
        }
    }

    fn became_ready(&mut self, at: usize) {
        let service = &mut self.services[at];
        service.state = State::Ready;
        service.probe = None;
        self.timeline.service_ready(&service.config.name);
    }

    /// Time limits of one service: readiness, the probe's command, SIGKILL.
    fn check_limits(&mut self, at: usize, now: Millis) {
        match self.services[at].state {
            State::Starting if self.services[at].ready_limit().is_some_and(|limit| limit <= now) => {
                let limit_s = self.services[at].config.ready_timeout_s;
                let reason = format!("not ready within {limit_s} s");
                self.timeline.service_failed(&self.services[at].config.name, &reason);
                self.services[at].detail = reason;
                self.begin_stop(at, Next::Policy, now);
            }
            State::Starting => self.run_probe_command(at, now),
            State::Stopping { kill_at, next } if kill_at <= now => self.kill_stopping(at, next, now),
            State::Emptying { .. } => self.empty_cgroups(at, now),
            _ => {}
        }
    }

    fn run_probe_command(&mut self, at: usize, now: Millis) {
        let service = &mut self.services[at];
        let Ready::Exec { argv } = &service.config.ready else { return };
        match service.probe_command {
            ProbeCommand::Next(when) if when <= now => {
                service.probe_command = match process::start_probe(argv) {
                    Ok(pid) => ProbeCommand::Runs { pid, until: now + PROBE_TIMEOUT_MS },
                    Err(error) => {
                        service.detail = error.to_string();
                        ProbeCommand::Next(now + 20 * INTERVAL_MS)
                    }
                };
            }
            ProbeCommand::Runs { pid, until } if until <= now => {
                // It ends, is waited for, and is asked again.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                service.probe_command = ProbeCommand::Runs { pid, until: now + PROBE_TIMEOUT_MS };
            }
            _ => {}
        }
    }

    /// A child of PID1 has ended; orphans that PID1 adopted are nobody's.
    pub fn reaped(&mut self, status: WaitStatus, now: Millis) {
        let (pid, reason) = match status {
            WaitStatus::Exited(pid, code) => (pid, format!("exit status {code}")),
            WaitStatus::Signaled(pid, signal, _) => (pid, ["killed by ", signal.as_str()].concat()),
            _ => return,
        };
        let success = matches!(status, WaitStatus::Exited(_, 0));
        let pid = pid.as_raw();
        if let Some(at) = self.services.iter().position(|s| s.running.as_ref().is_some_and(|r| r.pid == pid)) {
            self.ended(at, success, &reason, now);
            return;
        }
        let asked = |s: &Managed| matches!(s.probe_command, ProbeCommand::Runs { pid: asked, .. } if asked == pid);
        if let Some(at) = self.services.iter().position(asked) {
            self.services[at].probe_command = ProbeCommand::Next(now + INTERVAL_MS);
            if success && self.services[at].state == State::Starting {
                self.became_ready(at);
            }
        }
    }

    fn ended(&mut self, at: usize, success: bool, reason: &str, now: Millis) {
        self.read_output(at);
        let service = &mut self.services[at];
        let ran = service.running.take().map_or(0, |running| now.saturating_sub(running.since));
        service.probe = None;
        match service.state {
            State::Stopping { next: Next::Stay, .. } => {
                service.detail = reason.into();
                service.state = State::Stopped;
            }
            State::Stopping { next: Next::Start, .. } => service.state = State::Waiting,
            State::Stopping { next: Next::Policy, .. } => self.apply_policy(at, false, ran, now),
            State::Stopping { next: Next::Down, .. } => {
                service.detail = reason.into();
                self.main_process_is_down(at, now);
            }
            State::Starting if success && service.config.ready == Ready::Exited => {
                self.became_ready(at);
                self.services[at].state = State::Done;
            }
            State::Ready if success && service.config.restart != Restart::Always => {
                service.detail = reason.into();
                service.state = State::Done;
            }
            State::Starting if success => self.failed(at, "ended before it was ready", ran, now),
            _ => self.failed(at, reason, ran, now),
        }
    }

    fn failed(&mut self, at: usize, reason: &str, ran: Millis, now: Millis) {
        self.timeline.service_failed(&self.services[at].config.name, reason);
        self.services[at].detail = reason.into();
        self.apply_policy(at, false, ran, now);
    }

    fn apply_policy(&mut self, at: usize, success: bool, ran: Millis, now: Millis) {
        let service = &mut self.services[at];
        let again = match service.config.restart {
            Restart::Always => true,
            Restart::Failure => !success,
            Restart::Never => false,
        };
        service.state = if self.going_down {
            State::Stopped
        } else if again {
            State::Backoff { until: now + service.backoff.delay(ran) }
        } else {
            State::Failed
        };
    }

    /// Services with output to be read, and where.
    pub fn outputs(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.services.iter().enumerate().filter_map(|(at, s)| Some((at, s.running.as_ref()?.output.as_ref()?.as_fd())))
    }

    /// Moves what a service wrote into its log.
    pub fn read_output(&mut self, at: usize) {
        let service = &mut self.services[at];
        let Some(Running { output: Some(output), .. }) = &mut service.running else { return };
        let mut buffer = [0; 4096];
        let mut total = 0;
        while total < READ_AT_ONCE {
            match output.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    total += length;
                    service.log.write(&buffer[..length], &mut std::io::stdout());
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        if total < READ_AT_ONCE
            && let Some(running) = &mut service.running
        {
            running.output = None;
        }
    }

    /// Processes that the supervisor started and that have not ended.
    #[cfg(test)]
    pub(super) fn children(&self) -> Vec<i32> {
        let probes = self.services.iter().filter_map(|s| match s.probe_command {
            ProbeCommand::Runs { pid, .. } => Some(pid),
            ProbeCommand::Next(_) => None,
        });
        self.services.iter().filter_map(|s| s.running.as_ref()).map(|r| r.pid).chain(probes).collect()
    }

    /// All services for people and programs.
    pub fn status(&self, now: Millis) -> Vec<ServiceStatus> {
        let of = |service: &Managed| ServiceStatus {
            name: service.config.name.clone(),
            state: service.state.word(),
            pid: service.running.as_ref().map(|running| running.pid),
            restarts: service.restarts,
            uptime_s: service.running.as_ref().map(|running| now.saturating_sub(running.since) / 1000),
            memory: self.paths.service_cgroup(&service.config.name).and_then(|group| cgroup::memory(&group)),
            detail: service.detail.clone(),
        };
        self.services.iter().map(of).collect()
    }

    /// `start NAME`, `stop NAME` and `restart NAME` of the control socket.
    pub fn command(&mut self, name: &str, next: Next, now: Millis) -> Result<(), CommandError> {
        if self.going_down {
            return Err(CommandError::GoingDown);
        }
        let at = self.find(name)?;
        let state = self.services[at].state;
        let already = || CommandError::Already { name: name.into(), state: state.word() };
        let restart = next == Next::Start;
        match state {
            State::Starting | State::Ready => self.begin_stop(at, next, now),
            State::Stopping { kill_at, .. } => self.services[at].state = State::Stopping { kill_at, next },
            State::Emptying { .. } => return Err(CommandError::GoingDown),
            _ if restart => self.services[at].state = State::Waiting,
            State::Stopped | State::Done | State::Failed => return Err(already()),
            State::Waiting | State::Backoff { .. } => self.services[at].state = State::Stopped,
        }
        Ok(())
    }

    /// `start NAME`: refused when it runs.
    pub fn start(&mut self, name: &str, now: Millis) -> Result<(), CommandError> {
        let state = self.services[self.find(name)?].state;
        if matches!(state, State::Starting | State::Ready) {
            return Err(CommandError::Already { name: name.into(), state: state.word() });
        }
        self.command(name, Next::Start, now)
    }

    /// Whether there is such a service.
    pub fn find(&self, name: &str) -> Result<usize, CommandError> {
        self.services.iter().position(|s| s.config.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.services.iter().map(|s| &s.config.name[..]).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            CommandError::Unknown { name: name.into(), known }
        })
    }
}

fn managed(services: &[Service], paths: &Paths) -> Vec<Managed> {
    let of = |config: &Service| Managed {
        config: config.clone(),
        state: State::Waiting,
        running: None,
        started: false,
        restarts: 0,
        backoff: Backoff::new(config.backoff_ms.into()),
        log: Log::new(&paths.logs, &config.name, u64::from(config.log_kib) * 1024, config.console),
        probe: None,
        ticket: 0,
        probe_command: ProbeCommand::Next(0),
        detail: String::new(),
    };
    services.iter().map(of).collect()
}

impl Managed {
    fn ready_limit(&self) -> Option<Millis> {
        let limit = u64::from(self.config.ready_timeout_s) * 1000;
        Some(self.running.as_ref()?.since + limit).filter(|_| limit > 0)
    }

    fn deadline(&self, now: Millis) -> Option<Millis> {
        match self.state {
            State::Starting => {
                let command = match (&self.config.ready, self.probe_command) {
                    (Ready::Exec { .. }, ProbeCommand::Next(at) | ProbeCommand::Runs { until: at, .. }) => Some(at),
                    _ => None,
                };
                command.into_iter().chain(self.ready_limit()).min()
            }
            State::Backoff { until } => Some(until),
            State::Stopping { kill_at, .. } => Some(kill_at),
            State::Emptying { .. } => Some(now + INTERVAL_MS),
            _ => None,
        }
    }
}
