//! Signals that ask PID1 to go down.

use crate::run::power::PowerAction;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What each signal asks for, as busybox's init has it; Ctrl-Alt-Del arrives as SIGINT.
const MEANINGS: &[(Signal, PowerAction)] = &[
    (Signal::SIGTERM, PowerAction::PowerOff),
    (Signal::SIGPWR, PowerAction::PowerOff),
    (Signal::SIGUSR2, PowerAction::PowerOff),
    (Signal::SIGUSR1, PowerAction::Halt),
    (Signal::SIGINT, PowerAction::Reboot),
];

fn handled() -> SigSet {
    let mut set = SigSet::empty();
    for (signal, _) in MEANINGS {
        set.add(*signal);
    }
    set
}

/// Blocks what the main loop reads from its signal descriptor, and the ends of children, for which a thread waits. Before
/// the first thread is made, so that all inherit it.
pub fn block() -> Result<(), Errno> {
    let mut set = handled();
    set.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)
}

/// A descriptor that is readable when a signal has come.
pub fn open() -> Result<SignalFd, Errno> {
    SignalFd::with_flags(&handled(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// Takes in all signals; tells how the machine shall go down when one of them says so.
pub fn read(signals: &SignalFd) -> Option<(Signal, PowerAction)> {
    let mut asked = None;
    while let Ok(Some(info)) = signals.read_signal() {
        let found = MEANINGS.iter().find(|(signal, _)| *signal as u32 == info.ssi_signo);
        asked = asked.or(found.copied());
    }
    asked
}
