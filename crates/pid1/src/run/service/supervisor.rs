//! The supervisor of all services. It is part of the main loop, so none of its methods waits, except `close_logs` for a
//! moment.

use super::log::ServiceLogs;
use super::managed::{ManagedService, ProbeCommand, managed};
use super::order::{NETWORK, OrderError, TIME, check_order};
use super::probe::{INTERVAL_MS, Probe};
use super::process::{self, ProgramState, ServiceProcess, StartError};
use super::status::{AfterStop, ServiceState, ServiceStatus};
use super::{Millis, ServicePaths, cgroup};
use crate::base::network::NetState;
use crate::base::timeline::Timeline;
use bootwright_base::channel::{Receiver, Sender, channel};
use bootwright_base::children::End;
use bootwright_base::wake::Waker;
use bootwright_contract::{Ready, Restart, Service};
use nix::sys::signal::Signal;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// The command of a probe is ended after so many milliseconds, and started again.
const PROBE_TIMEOUT_MS: Millis = 5000;
/// At most so many bytes of a service's output are read at a time, so that others get their turn.
const READ_AT_ONCE: usize = 64 * 1024;

/// Why a command for a service is refused.
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
    pub(super) services: Vec<ManagedService>,
    pub(super) paths: ServicePaths,
    timeline: Arc<Timeline>,
    network: NetState,
    results: (Sender<u64>, Receiver<u64>),
    waker: Waker,
    next_ticket: u64,
    logs: ServiceLogs,
    pub(super) going_down: bool,
}

impl Supervisor {
    /// Makes a supervisor. No service is started before [`Supervisor::tick`].
    ///
    /// # Errors
    /// [`OrderError`]
    pub fn new(
        services: &[Service],
        paths: ServicePaths,
        timeline: Arc<Timeline>,
        waker: Waker,
    ) -> Result<Supervisor, OrderError> {
        check_order(services)?;
        if let Some(groups) = &paths.cgroups {
            for problem in cgroup::prepare(&groups.join("services"), services) {
                timeline.note(&problem);
            }
        }
        let logs = ServiceLogs::start(&paths.logs, services, timeline.clone());
        Ok(Supervisor { services: managed(services), logs, ..Supervisor::without_services(paths, timeline, waker) })
    }

    /// A supervisor for when the services cannot be used: control commands are still answered.
    pub fn without_services(paths: ServicePaths, timeline: Arc<Timeline>, waker: Waker) -> Supervisor {
        Supervisor {
            services: Vec::new(),
            paths,
            timeline,
            network: NetState::default(),
            results: channel(),
            waker,
            next_ticket: 0,
            logs: ServiceLogs::default(),
            going_down: false,
        }
    }

    /// Takes over a new state of the network.
    pub fn set_network(&mut self, network: NetState) {
        self.network = network;
    }

    /// Does everything that is due now: looks at processes and probes, starts services, checks time limits, goes on
    /// with stops.
    pub fn tick(&mut self, now: Millis) {
        for at in 0..self.services.len() {
            self.look_at_processes(at, now);
        }
        while let Ok(ticket) = self.results.1.try_recv() {
            if let Some(at) = self.services.iter().position(|s| s.ticket == ticket && s.state == ServiceState::Starting)
            {
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

    /// When [`Supervisor::tick`] has to be called next.
    pub fn deadline(&self, now: Millis) -> Option<Millis> {
        self.services.iter().filter_map(|service| service.deadline(now)).min()
    }

    /// Whether every service was started once, or waits for something that may never come. Then the boot is over.
    pub fn is_settled(&self) -> bool {
        self.network.over
            && self.services.iter().all(|service| {
                service.started
                    || service.state != ServiceState::Waiting
                    || self.waits_for(service).is_none()
                    || service.config.after.iter().any(|after| self.has_failed(after))
            })
    }

    fn has_failed(&self, name: &str) -> bool {
        self.services
            .iter()
            .any(|s| s.config.name == name && matches!(s.state, ServiceState::Failed | ServiceState::Stopped))
    }

    /// The first dependency that is not ready.
    fn waits_for<'a>(&self, service: &'a ManagedService) -> Option<&'a str> {
        let is_met = |after: &str| match self.services.iter().find(|s| s.config.name == after) {
            Some(other) => matches!(other.state, ServiceState::Ready | ServiceState::Done),
            None => after == NETWORK && self.network.over || after == TIME && self.network.time_over,
        };
        service.config.after.iter().map(String::as_str).find(|after| !is_met(after))
    }

    fn start_when_possible(&mut self, at: usize, now: Millis) {
        match self.services[at].state {
            ServiceState::Waiting => {}
            ServiceState::Backoff { until } if until <= now => {}
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
        let started = process::start(&service.config, &self.network.facts, &self.paths, now);
        let running = match started {
            Ok(running) => running,
            Err(error @ StartError::Unknown(_)) => {
                // The network will tell the missing facts, so this is no failure.
                service.state = ServiceState::Waiting;
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
        service.state = ServiceState::Starting;
        service.detail.clear();
        self.next_ticket += 1;
        service.ticket = self.next_ticket;
        service.probe_command = ProbeCommand::Next(now);
        self.timeline.service_start(&service.config.name);
    }

    /// The program has begun to run: its time to become ready begins.
    fn program_runs(&mut self, at: usize) {
        let service = &mut self.services[at];
        match &service.config.ready {
            Ready::Started => self.became_ready(at),
            Ready::Exited | Ready::Exec { .. } => {}
            ready => {
                let probe = service.probe.get_or_insert_with(|| Probe::new(ready, &self.results.0, &self.waker));
                if let Err(error) = probe.ask(service.ticket) {
                    service.detail = ["cannot ask whether it is ready: ", &error.to_string()].concat();
                }
            }
        }
    }

    fn became_ready(&mut self, at: usize) {
        let service = &mut self.services[at];
        service.state = ServiceState::Ready;
        service.stop_asking();
        self.timeline.service_ready(&service.config.name);
    }

    /// Looks whether the service's process or the command of its probe has ended.
    fn look_at_processes(&mut self, at: usize, now: Millis) {
        let service = &mut self.services[at];
        if let Some(running) = &mut service.running {
            // The end is read first: after it, the state of the program is final.
            let end = running.child().end();
            if running.has_begun(now) && service.state == ServiceState::Starting {
                self.program_runs(at);
            }
            if let Some(end) = end {
                self.ended(at, end, now);
            }
        }
        self.look_at_probe(at, now);
    }

    fn look_at_probe(&mut self, at: usize, now: Millis) {
        let service = &mut self.services[at];
        let ProbeCommand::Runs { launch, .. } = &service.probe_command else { return };
        let Some(end) = launch.child.end() else { return };
        if let Some(Err(errno)) = launch.outcome() {
            service.detail = ["cannot ask whether it is ready: ", errno.desc()].concat();
        }
        service.probe_command = ProbeCommand::Next(now + INTERVAL_MS);
        if end == End::Exited(0) && service.state == ServiceState::Starting {
            self.became_ready(at);
        }
    }

    /// Checks the time limits of a service: readiness, command of the probe, SIGKILL.
    fn check_limits(&mut self, at: usize, now: Millis) {
        match self.services[at].state {
            ServiceState::Starting if self.services[at].ready_limit().is_some_and(|limit| limit <= now) => {
                let limit_s = self.services[at].config.ready_timeout_s;
                let reason = format!("not ready within {limit_s} s");
                self.timeline.service_failed(&self.services[at].config.name, &reason);
                self.services[at].detail = reason;
                self.begin_stop(at, AfterStop::Policy, now);
            }
            ServiceState::Starting => self.run_probe_command(at, now),
            ServiceState::Stopping { kill_at, next } if kill_at <= now => self.kill_stopping(at, next, now),
            ServiceState::Emptying { .. } => self.empty_cgroups(at, now),
            _ => {}
        }
    }

    fn run_probe_command(&mut self, at: usize, now: Millis) {
        let group = self.paths.service_cgroup(&self.services[at].config.name);
        let service = &mut self.services[at];
        let Ready::Exec { argv } = &service.config.ready else { return };
        if !service.runs() {
            return;
        }
        match &mut service.probe_command {
            ProbeCommand::Next(when) if *when <= now => {
                service.probe_command = match process::start_probe(argv, group.as_deref()) {
                    Ok(launch) => ProbeCommand::Runs { launch, until: now + PROBE_TIMEOUT_MS },
                    Err(error) => {
                        service.detail = error.to_string();
                        ProbeCommand::Next(now + 20 * INTERVAL_MS)
                    }
                };
            }
            ProbeCommand::Runs { launch, until } if *until <= now => {
                // Its end is seen later, and then the next one is started.
                launch.child.signal(Signal::SIGKILL);
                *until = now + PROBE_TIMEOUT_MS;
            }
            _ => {}
        }
    }

    fn ended(&mut self, at: usize, end: End, now: Millis) {
        self.read_output(at);
        let oom_kills = self.usage(&self.services[at]).oom_kills.unwrap_or(0);
        let service = &mut self.services[at];
        let Some(running) = service.running.take() else { return };
        service.stop_asking();
        let (ran, success) = (now.saturating_sub(running.since), end == End::Exited(0));
        let oom_kills_before = std::mem::replace(&mut service.oom_kills, oom_kills);
        let reason = match running.program {
            ProgramState::Failed(errno) => {
                let program = service.config.exec.first().cloned().unwrap_or_default();
                StartError::Spawn { program, errno }.to_string()
            }
            _ if end == End::Killed(Signal::SIGKILL as i32) && oom_kills > oom_kills_before => {
                [&end.to_string(), " for lack of memory"].concat()
            }
            _ => end.to_string(),
        };
        match service.state {
            ServiceState::Stopping { next: AfterStop::Stay, .. } => {
                service.detail = reason;
                service.state = ServiceState::Stopped;
            }
            ServiceState::Stopping { next: AfterStop::Start, .. } => service.state = ServiceState::Waiting,
            ServiceState::Stopping { next: AfterStop::Policy, .. } => self.apply_policy(at, false, ran, now),
            ServiceState::Stopping { next: AfterStop::Down, .. } => {
                service.detail = reason;
                self.main_process_is_down(at, now);
            }
            ServiceState::Starting if success && service.config.ready == Ready::Exited => {
                self.became_ready(at);
                self.services[at].state = ServiceState::Done;
            }
            ServiceState::Ready if success && service.config.restart != Restart::Always => {
                service.detail = reason;
                service.state = ServiceState::Done;
            }
            ServiceState::Starting if success => self.failed(at, "ended before it was ready", ran, now),
            _ => self.failed(at, &reason, ran, now),
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
            ServiceState::Stopped
        } else if again {
            ServiceState::Backoff { until: now + service.backoff.delay(ran) }
        } else {
            ServiceState::Failed
        };
    }

    /// Descriptors that become readable when a service has written output, or when its program has begun to run.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.services.iter().filter_map(|service| service.running.as_ref()).flat_map(|running| {
            let launch = (running.program == ProgramState::Awaited).then(|| running.launch.as_fd());
            launch.into_iter().chain(running.output.as_ref().map(AsFd::as_fd))
        })
    }

    /// Reads the output of all services.
    pub fn read_outputs(&mut self) {
        (0..self.services.len()).for_each(|at| self.read_output(at));
    }

    fn read_output(&mut self, at: usize) {
        let Some(ServiceProcess { output: Some(output), .. }) = &mut self.services[at].running else { return };
        let mut buffer = [0; 4096];
        let mut total = 0;
        let is_open = loop {
            if total >= READ_AT_ONCE {
                break true;
            }
            match output.read(&mut buffer) {
                Ok(0) => break false,
                Ok(length) => {
                    total += length;
                    self.logs.take(at, &buffer[..length]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => break error.kind() == std::io::ErrorKind::WouldBlock,
            }
        };
        if !is_open && let Some(running) = &mut self.services[at].running {
            running.output = None;
        }
    }

    /// Writes the last output to the logs and closes them, which takes a moment at most.
    pub fn close_logs(&mut self) {
        std::mem::take(&mut self.logs).close();
    }

    /// The status of all services.
    pub fn status(&self, now: Millis) -> Vec<ServiceStatus> {
        let of = |service: &ManagedService| {
            let usage = self.usage(service);
            ServiceStatus {
                name: service.config.name.clone(),
                state: service.state.word(),
                pid: service.running.as_ref().map(|running| running.child().pid()),
                restarts: service.restarts,
                uptime_s: service.running.as_ref().map(|running| now.saturating_sub(running.since) / 1000),
                detail: self.detail(service, &usage, now),
                usage,
            }
        };
        self.services.iter().map(of).collect()
    }

    /// Commands `stop NAME` and `restart NAME` of the control socket.
    ///
    /// # Errors
    /// [`CommandError`]
    pub fn command(&mut self, name: &str, next: AfterStop, now: Millis) -> Result<(), CommandError> {
        if self.going_down {
            return Err(CommandError::GoingDown);
        }
        let at = self.find(name)?;
        let state = self.services[at].state;
        let already = || CommandError::Already { name: name.into(), state: state.word() };
        let restart = next == AfterStop::Start;
        match state {
            ServiceState::Starting | ServiceState::Ready => self.begin_stop(at, next, now),
            ServiceState::Stopping { kill_at, .. } => {
                self.services[at].state = ServiceState::Stopping { kill_at, next }
            }
            ServiceState::Emptying { .. } => return Err(CommandError::GoingDown),
            _ if restart => self.services[at].state = ServiceState::Waiting,
            ServiceState::Stopped | ServiceState::Done | ServiceState::Failed => return Err(already()),
            ServiceState::Waiting | ServiceState::Backoff { .. } => self.services[at].state = ServiceState::Stopped,
        }
        Ok(())
    }

    /// Command `start NAME`.
    ///
    /// # Errors
    /// [`CommandError`], also when the service runs.
    pub fn start(&mut self, name: &str, now: Millis) -> Result<(), CommandError> {
        let state = self.services[self.find(name)?].state;
        if matches!(state, ServiceState::Starting | ServiceState::Ready) {
            return Err(CommandError::Already { name: name.into(), state: state.word() });
        }
        self.command(name, AfterStop::Start, now)
    }

    /// The index of a service.
    ///
    /// # Errors
    /// [`CommandError`] when there is none of that name.
    pub fn find(&self, name: &str) -> Result<usize, CommandError> {
        self.services.iter().position(|s| s.config.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.services.iter().map(|s| &s.config.name[..]).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            CommandError::Unknown { name: name.into(), known }
        })
    }
}
