//! What attaching a root needs of the machine, and how it asks for it.

use super::statuses::{Journal, RootStatuses};
use bootwright_base::Failure;
use bootwright_base::cmdline::Cmdline;
use bootwright_base::sys::{self, Sys};
use bootwright_contract::BootConfig;
use bootwright_netconf::setup::NetworkFacts;
use std::sync::Arc;
use std::time::Duration;

/// The network now.
#[derive(Debug, Clone, Default)]
pub struct NetworkView {
    /// A link is set up.
    pub up: bool,
    /// No link is set up, and nobody tries any more.
    pub over: bool,
    pub facts: NetworkFacts,
}

/// What roots need from PID1: the network, kernel modules and the clock.
pub trait NodeControl: Sync {
    /// Records that so many seconds were spent waiting for the network or a server.
    fn waited(&self, seconds: f64);
    /// The state of the network now.
    fn network(&self) -> NetworkView;
    /// Loads kernel modules and waits until they are loaded. Each has a name and options, which may be empty.
    fn load_modules(&self, wanted: &[(&str, &str)]) -> Result<(), Failure>;
    /// Waits until the clock is set, or until it is known that no server sets it; at most `limit`.
    fn await_clock(&self, limit: Duration);
}

/// The machine, as far as roots know it.
pub struct RootContext<'a> {
    pub config: &'a BootConfig,
    pub cmdline: &'a Cmdline,
    pub sys: &'a Arc<dyn Sys>,
    pub journal: &'a dyn Journal,
    /// Takes the state of each root and volume.
    pub statuses: &'a Arc<RootStatuses>,
    pub node: &'a dyn NodeControl,
    /// Another source can be tried when this one is too slow.
    pub elsewhere: bool,
}

impl RootContext<'_> {
    /// Writes a line for people.
    pub fn note(&self, text: &str) {
        self.journal.note(text);
    }

    /// Runs a function that waits for the network or a server, and records the time that it takes.
    pub fn wait<T>(&self, wait: impl FnOnce() -> T) -> T {
        let since = sys::uptime();
        let outcome = wait();
        self.node.waited((sys::uptime() - since).as_secs_f64());
        outcome
    }
}
