//! What attaching a root is given of the machine, and what it tells its owner.

use super::statuses::{Journal, RootStatuses};
use bootwright_base::Failure;
use bootwright_base::cmdline::Cmdline;
use bootwright_base::sys::{self, Sys};
use bootwright_contract::BootConfig;
use bootwright_netconf::setup::NetworkFacts;
use std::sync::Arc;
use std::time::Duration;

/// The network, as it is now.
#[derive(Debug, Clone, Default)]
pub struct NetworkView {
    /// A link is set up.
    pub up: bool,
    /// Nobody tries to set one up any more.
    pub over: bool,
    pub facts: NetworkFacts,
}

/// Who owns the machine: does what roots need done of the network, the modules and the clock.
pub trait NodeControl: Sync {
    /// So many seconds were spent waiting for the network or a server, on behalf of the root or a volume.
    fn waited(&self, seconds: f64);
    /// The network now.
    fn network(&self) -> NetworkView;
    /// Loads kernel modules by name, each with options (may be empty), and waits until they are there.
    fn load_modules(&self, wanted: &[(&str, &str)]) -> Result<(), Failure>;
    /// Waits until the clock is as right as it will get for now, at most `limit`.
    fn await_clock(&self, limit: Duration);
}

/// The machine, as far as a root has to know it.
pub struct RootContext<'a> {
    pub config: &'a BootConfig,
    pub cmdline: &'a Cmdline,
    pub sys: &'a Arc<dyn Sys>,
    pub journal: &'a dyn Journal,
    /// Where the state of each root and volume is written down.
    pub statuses: &'a Arc<RootStatuses>,
    pub node: &'a dyn NodeControl,
    /// The root can be had from another place if this one is too slow.
    pub elsewhere: bool,
}

impl RootContext<'_> {
    /// A line for people.
    pub fn note(&self, text: &str) {
        self.journal.note(text);
    }

    /// Does what waits for the network or a server, and has the time counted.
    pub fn wait<T>(&self, wait: impl FnOnce() -> T) -> T {
        let since = sys::uptime();
        let outcome = wait();
        self.node.waited((sys::uptime() - since).as_secs_f64());
        outcome
    }
}
