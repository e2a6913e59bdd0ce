//! Signals that ask PID1 to go down.

use crate::run::power::PowerAction;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The meanings of signals, as in busybox's init. Ctrl-Alt-Del comes as SIGINT.
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

/// Blocks the signals that the main loop reads from its descriptor, and SIGCHLD, for which a thread waits. Must be
/// called before the first thread is made, so that all threads inherit it.
pub fn block() -> Result<(), Errno> {
    let mut set = handled();
    set.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)
}

/// A descriptor that is readable when a signal has come.
pub fn open() -> Result<SignalFd, Errno> {
    SignalFd::with_flags(&handled(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// Reads all signals. Returns the first that asks for the machine to go down.
pub fn read(signals: &SignalFd) -> Option<(Signal, PowerAction)> {
    let mut asked = None;
    while let Ok(Some(info)) = signals.read_signal() {
        let found = MEANINGS.iter().find(|(signal, _)| *signal as u32 == info.ssi_signo);
        asked = asked.or(found.copied());
    }
    asked
}
