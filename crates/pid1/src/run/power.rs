//! The way down: ends processes, closes file systems, calls reboot(2).

mod close;

use crate::base::node::Node;
use crate::base::timeline::Timeline;
use crate::base::watchdog::WATCHDOG;
use bootwright_base::background;
use bootwright_base::children;
use bootwright_base::sys::{RebootCommand, Sys};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How the machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerAction {
    PowerOff,
    Reboot,
    Halt,
}

impl PowerAction {
    /// The word on the console and in control commands.
    pub fn word(self) -> &'static str {
        match self {
            PowerAction::PowerOff => "poweroff",
            PowerAction::Reboot => "reboot",
            PowerAction::Halt => "halt",
        }
    }

    fn system_call(self) -> RebootCommand {
        match self {
            PowerAction::PowerOff => RebootCommand::PowerOff,
            PowerAction::Reboot => RebootCommand::Restart,
            PowerAction::Halt => RebootCommand::Halt,
        }
    }
}

/// How long processes that are no services may take to end after SIGTERM.
const TERM_WAIT: Duration = Duration::from_secs(3);
/// How long processes may take to disappear after SIGKILL.
const KILL_WAIT: Duration = Duration::from_secs(2);
/// The part of a shutdown's time that is kept for the steps after the services, at most.
const LAST_STEPS: Duration = Duration::from_secs(18);

/// The hardware watchdog gets signs of life for so long after the machine should be down.
const WATCHDOG_GRACE: Duration = Duration::from_secs(5);

/// A shutdown: what is to happen, and by when.
#[derive(Debug, Clone, Copy)]
pub struct Shutdown {
    pub how: PowerAction,
    pub until: Instant,
}

impl Shutdown {
    /// A shutdown that begins now and may take `timeout`.
    pub fn new(how: PowerAction, timeout: Duration) -> Shutdown {
        Shutdown { how, until: Instant::now() + timeout }
    }

    /// How much of the time services may take to stop.
    pub fn services_until(timeout: Duration) -> Duration {
        timeout - LAST_STEPS.min(timeout / 3)
    }
}

/// Takes the machine down. The services have been stopped before.
pub fn go_down(node: &Arc<Node>, ending: Shutdown) -> ! {
    let Shutdown { how, until } = ending;
    WATCHDOG.keep_alive(until.saturating_duration_since(Instant::now()) + WATCHDOG_GRACE);
    end_processes(node.sys, until);
    close::close_all(node, node.plan.root_is_served(), until);
    node.timeline.down(how.word());
    if how != PowerAction::Reboot {
        WATCHDOG.disarm();
    }
    let errno = node.sys.reboot(how.system_call());
    halt_and_explain(&node.timeline, "down", &format!("the kernel refused to {}: {errno}", how.word()))
}

fn end_processes(sys: &dyn Sys, until: Instant) {
    for (signal, patience) in [(Signal::SIGTERM, TERM_WAIT), (Signal::SIGKILL, KILL_WAIT)] {
        // ESRCH: no process is left.
        if sys.kill_all(signal) == Err(Errno::ESRCH) || await_children(until.min(Instant::now() + patience)) {
            return;
        }
    }
}

/// Waits until no child is left, at most until `until`. Returns whether none is left.
fn await_children(until: Instant) -> bool {
    while !children::none_left() {
        if Instant::now() >= until {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// `bw.poweroff_after_s`: asks for an orderly power-off after that time, by the signal with which other programs ask
/// for it.
pub fn power_off_later(after_s: u64) {
    let ask = move || {
        thread::sleep(Duration::from_secs(after_s));
        // The main loop reads the signal. If it cannot be sent, nobody could be told.
        let _ = kill(Pid::this(), Signal::SIGTERM);
    };
    // Without a thread the machine stays up, which is seen from outside.
    let _ = background::spawn("power", Box::new(ask));
}

/// Reboots after a pause in which people can read the console.
pub fn reboot_after(sys: &dyn Sys, timeline: &Timeline, after_s: u32) -> ! {
    timeline.note(&format!("reboot in {after_s} s"));
    WATCHDOG.sleep(Duration::from_secs(u64::from(after_s)));
    sys.sync();
    timeline.down(PowerAction::Reboot.word());
    let errno = sys.reboot(RebootCommand::Restart);
    halt_and_explain(timeline, "down", &format!("the kernel refused to reboot: {errno}"))
}

/// For states in which nothing more can be done: says why, and does not return.
pub fn halt_and_explain(timeline: &Timeline, phase: &str, reason: &str) -> ! {
    timeline.fatal(phase, reason);
    keep_explaining(timeline, phase, reason)
}

/// Repeats the reason every 30 s, for people who look at the console later.
pub fn keep_explaining(timeline: &Timeline, phase: &str, reason: &str) -> ! {
    loop {
        WATCHDOG.sleep(Duration::from_secs(30));
        timeline.fatal(phase, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_leave_time_for_the_rest() {
        for (timeout, services) in [(60, 42), (30, 20), (3, 2), (0, 0)] {
            let left = Shutdown::services_until(Duration::from_secs(timeout));
            assert_eq!(left, Duration::from_secs(services), "{timeout}");
        }
    }
}
