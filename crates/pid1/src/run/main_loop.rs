//! The main loop: one thread that sleeps in poll(2) and handles signals, ended children, output of services, control
//! commands and the power button, until the machine goes down. It waits for nothing else: not for the root, a log file,
//! the console or a client (docs/threads.md).

mod button;
pub mod signals;
mod spare;

use crate::base::network::NetHandle;
use crate::base::node::Node;
use crate::base::watchdog::WATCHDOG;
use crate::run::ctl::server::{ControlServer, PowerRequest};
use crate::run::power::{PowerAction, Shutdown};
use crate::run::service::{Millis, ServicePaths, Supervisor};
use bootwright_base::children;
use bootwright_base::sys;
use bootwright_base::wake::{self, Sleeper};
use bootwright_contract::PhaseId;
use button::Buttons;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::reboot::set_cad_enabled;
use nix::sys::signalfd::SignalFd;
use spare::Spare;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// Why supervision cannot begin.
#[derive(Debug, thiserror::Error)]
enum LoopError {
    #[error("cannot read signals: {}", .0.desc())]
    Signals(Errno),
    #[error("cannot make a socket pair: {0}")]
    Wake(io::Error),
}

/// The main loop and all that it waits for.
struct MainLoop {
    node: Arc<Node>,
    net: NetHandle,
    /// The phase that ends when all services have been started.
    phase: PhaseId,
    supervisor: Supervisor,
    signals: SignalFd,
    /// Becomes readable when a child has ended or a probe has an answer.
    news: Sleeper,
    server: Option<ControlServer>,
    buttons: Buttons,
    spare: Option<Spare>,
    /// The shutdown that was asked for, and when it goes on regardless of services.
    going: Option<(Shutdown, Millis)>,
    settled: bool,
}

/// Supervises services until the machine is told to go down and they have stopped. `phase` is the last row of the boot
/// table, which the caller has started: it ends when all services have been started.
pub fn run(node: Arc<Node>, net: NetHandle, phase: PhaseId) -> Shutdown {
    match MainLoop::new(node.clone(), net, phase) {
        Ok(main_loop) => main_loop.run(),
        Err(error) => {
            // Without signals and wake-ups there is no supervision. Only a reboot can help.
            node.timeline.fatal(phase.name(), &error.to_string());
            Shutdown::new(PowerAction::Reboot, Duration::from_secs(node.config.shutdown_timeout_s.into()))
        }
    }
}

impl MainLoop {
    fn new(node: Arc<Node>, net: NetHandle, phase: PhaseId) -> Result<MainLoop, LoopError> {
        let signals = signals::open().map_err(LoopError::Signals)?;
        let (waker, news) = wake::pair().map_err(LoopError::Wake)?;
        children::wake(waker.clone());
        if let Err(errno) = set_cad_enabled(false) {
            node.timeline.note(&["Ctrl-Alt-Del resets at once: ", errno.desc()].concat());
        }
        let (timeline, services) = (node.timeline.clone(), &node.config.services);
        let mut settled = false;
        let supervisor = match Supervisor::new(services, ServicePaths::node(), timeline.clone(), waker.clone()) {
            Ok(supervisor) => supervisor,
            Err(error) => {
                end_phase(&node, phase, Err(&error.to_string()));
                settled = true;
                Supervisor::without_services(ServicePaths::node(), timeline, waker)
            }
        };
        let server = ControlServer::open()
            .map_err(|error| node.timeline.note(&["no control socket: ", &error.to_string()].concat()));
        let server = server.ok();
        Ok(MainLoop {
            spare: Spare::of(&node),
            node,
            net,
            phase,
            supervisor,
            signals,
            news,
            server,
            buttons: Buttons::open(),
            going: None,
            settled,
        })
    }

    fn run(mut self) -> Shutdown {
        self.supervisor.set_network(self.net.state());
        WATCHDOG.expect();
        loop {
            self.supervisor.tick(now());
            WATCHDOG.tick(now());
            if let Some(spare) = &mut self.spare {
                spare.tick(now(), &self.node);
            }
            if !self.settled && self.supervisor.is_settled() {
                self.settled = true;
                end_phase(&self.node, self.phase, Ok(()));
            }
            if let Some((ending, deadline)) = self.going
                && (self.supervisor.is_down() || deadline <= now())
            {
                self.say_what_is_left();
                self.supervisor.close_logs();
                return ending;
            }
            self.wait();
            self.handle();
        }
    }

    /// Sleeps until an event, or until the next time limit.
    fn wait(&self) {
        let now = now();
        let watchdog = WATCHDOG.deadline();
        let clients = self.server.as_ref().and_then(ControlServer::deadline);
        let others = self.going.map(|(_, at)| at).into_iter().chain(watchdog).chain(clients);
        let others = others.chain(self.spare.as_ref().map(Spare::deadline));
        let deadline = self.supervisor.deadline(now).into_iter().chain(others).min();
        let timeout = match deadline {
            // At least a millisecond, so that a time limit which cannot be handled does not make a busy loop.
            Some(at) => PollTimeout::from(at.saturating_sub(now).clamp(1, 60_000) as u16),
            None => PollTimeout::NONE,
        };
        let fixed = [Some(self.signals.as_fd()), Some(self.news.as_fd()), self.net.changed.as_ref().map(AsFd::as_fd)];
        let fds = fixed
            .into_iter()
            .flatten()
            .chain(self.buttons.fds())
            .chain(self.supervisor.fds())
            .map(|fd| (fd, PollFlags::POLLIN))
            .chain(self.server.iter().flat_map(ControlServer::fds));
        let mut fds: Vec<PollFd> = fds.map(|(fd, wanted)| PollFd::new(fd, wanted)).collect();
        // When the poll was interrupted, everything is looked at too. Nothing of that waits.
        let _ = poll(&mut fds, timeout);
    }

    /// Handles everything that may have happened.
    fn handle(&mut self) {
        self.news.clear();
        if let Some(changed) = &mut self.net.changed {
            changed.clear();
        }
        self.supervisor.set_network(self.net.state());
        self.supervisor.read_outputs();
        if let Some((signal, how)) = signals::read(&self.signals) {
            self.go_down(how, signal.as_str());
        }
        if self.buttons.read() {
            self.go_down(PowerAction::PowerOff, "power button");
        }
        self.serve();
    }

    fn serve(&mut self) {
        let Some(server) = &mut self.server else { return };
        let network = self.net.state();
        if let Some(PowerRequest(how)) = server.serve(&self.node, &mut self.supervisor, &network, now()) {
            self.go_down(how, "command");
        }
    }

    fn go_down(&mut self, how: PowerAction, why: &str) {
        if self.going.is_some() {
            return;
        }
        self.node.timeline.note(&[how.word(), " asked for by ", why].concat());
        let timeout = Duration::from_secs(self.node.config.shutdown_timeout_s.into());
        let services_until = now() + sys::millis(Shutdown::services_until(timeout));
        self.going = Some((Shutdown::new(how, timeout), services_until));
        self.supervisor.begin_shutdown();
    }

    fn say_what_is_left(&self) {
        for service in self.supervisor.status(now()).iter().filter(|service| service.state == "stopping") {
            self.node.timeline.note(&["service ", &service.name, " did not stop in time"].concat());
        }
    }
}

fn end_phase(node: &Node, phase: PhaseId, outcome: Result<(), &str>) {
    node.timeline.phase_end(phase.name(), outcome);
    node.timeline.phase_over(phase.name());
}

fn now() -> Millis {
    sys::uptime_ms()
}
