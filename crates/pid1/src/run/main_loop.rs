//! The main loop: one thread that sleeps in poll(2) and deals with signals, ended children, services' output, control
//! commands and the power button, until the machine is told to go down. It waits for nothing else: not for the root, a log
//! file, the console or a client (docs/threads.md).

mod button;
pub mod signals;

use crate::base::network::NetHandle;
use crate::base::node::Node;
use crate::base::watchdog::WATCHDOG;
use crate::run::ctl::server::{Asked, Server};
use crate::run::power::{Ending, How};
use crate::run::service::{Millis, Paths, Supervisor};
use bootwright_base::children;
use bootwright_base::sys;
use bootwright_base::wake::{self, Sleeper};
use button::Buttons;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::reboot::set_cad_enabled;
use nix::sys::signalfd::SignalFd;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// Supervision cannot begin.
#[derive(Debug, thiserror::Error)]
enum LoopError {
    #[error("cannot read signals: {}", .0.desc())]
    Signals(Errno),
    #[error("cannot make a socket pair: {0}")]
    Wake(io::Error),
}

/// All that the loop waits for.
struct MainLoop {
    boot: Arc<Node>,
    net: NetHandle,
    supervisor: Supervisor,
    signals: SignalFd,
    /// Readable when a child has ended or a probe has an answer.
    news: Sleeper,
    server: Option<Server>,
    buttons: Buttons,
    /// How the machine goes down, and when it does so regardless of services.
    going: Option<(Ending, Millis)>,
    settled: bool,
}

/// Supervises until the machine is told to go down and its services have stopped. The phase `services`, which the
/// caller has started, ends once all services have been started.
pub fn run(boot: Arc<Node>, net: NetHandle) -> Ending {
    match MainLoop::new(boot.clone(), net) {
        Ok(main_loop) => main_loop.run(),
        Err(error) => {
            // Without signals and wake-ups there is no supervision: a reboot is all that can help.
            boot.timeline.fatal("services", &error.to_string());
            Ending::new(How::Reboot, Duration::from_secs(boot.config.shutdown_timeout_s.into()))
        }
    }
}

impl MainLoop {
    fn new(boot: Arc<Node>, net: NetHandle) -> Result<MainLoop, LoopError> {
        let signals = signals::open().map_err(LoopError::Signals)?;
        let (waker, news) = wake::pair().map_err(LoopError::Wake)?;
        children::wake(waker.clone());
        if let Err(errno) = set_cad_enabled(false) {
            boot.timeline.note(&["Ctrl-Alt-Del resets at once: ", errno.desc()].concat());
        }
        let (timeline, services) = (boot.timeline.clone(), &boot.config.services);
        let mut settled = false;
        let supervisor = match Supervisor::new(services, Paths::node(), timeline.clone(), waker.clone()) {
            Ok(supervisor) => supervisor,
            Err(error) => {
                end_phase(&boot, Err(&error.to_string()));
                settled = true;
                Supervisor::without_services(Paths::node(), timeline, waker)
            }
        };
        let server =
            Server::open().map_err(|error| boot.timeline.note(&["no control socket: ", &error.to_string()].concat()));
        let server = server.ok();
        Ok(MainLoop { boot, net, supervisor, signals, news, server, buttons: Buttons::open(), going: None, settled })
    }

    fn run(mut self) -> Ending {
        self.supervisor.set_network(self.net.state());
        WATCHDOG.expect();
        loop {
            self.supervisor.tick(now());
            WATCHDOG.tick(now());
            if !self.settled && self.supervisor.is_settled() {
                self.settled = true;
                end_phase(&self.boot, Ok(()));
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

    /// Sleeps until something can be done.
    fn wait(&self) {
        let now = now();
        let watchdog = WATCHDOG.deadline();
        let clients = self.server.as_ref().and_then(Server::deadline);
        let others = self.going.map(|(_, at)| at).into_iter().chain(watchdog).chain(clients);
        let deadline = self.supervisor.deadline(now).into_iter().chain(others).min();
        let timeout = match deadline {
            // At least a millisecond: a time limit that could not be dealt with must not turn into a busy loop.
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
            .chain(self.server.iter().flat_map(Server::fds));
        let mut fds: Vec<PollFd> = fds.map(|(fd, wanted)| PollFd::new(fd, wanted)).collect();
        // Interrupted or not: everything is looked at now, and nothing of that blocks.
        let _ = poll(&mut fds, timeout);
    }

    /// Looks at everything that may have happened.
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
            self.go_down(How::PowerOff, "power button");
        }
        self.serve();
    }

    fn serve(&mut self) {
        let Some(server) = &mut self.server else { return };
        let network = self.net.state();
        if let Some(Asked(how)) = server.serve(&self.boot, &mut self.supervisor, &network, now()) {
            self.go_down(how, "command");
        }
    }

    fn go_down(&mut self, how: How, why: &str) {
        if self.going.is_some() {
            return;
        }
        self.boot.timeline.note(&[how.word(), " asked for by ", why].concat());
        let timeout = Duration::from_secs(self.boot.config.shutdown_timeout_s.into());
        let services_until = now() + sys::millis(Ending::services_until(timeout));
        self.going = Some((Ending::new(how, timeout), services_until));
        self.supervisor.begin_shutdown();
    }

    fn say_what_is_left(&self) {
        for service in self.supervisor.status(now()).iter().filter(|service| service.state == "stopping") {
            self.boot.timeline.note(&["service ", &service.name, " did not stop in time"].concat());
        }
    }
}

fn end_phase(boot: &Node, outcome: Result<(), &str>) {
    boot.timeline.phase_end("services", outcome);
    boot.timeline.phase_over("services");
}

fn now() -> Millis {
    sys::uptime_ms()
}
