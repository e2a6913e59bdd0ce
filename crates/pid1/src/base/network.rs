//! The network, as everybody but its own thread sees it.

use crate::base::node::Node;
use bootwright_base::wake::{Sleeper, Waker};
use bootwright_contract::paths;
use bootwright_netconf::setup::{self, NetworkFacts, NetworkFiles};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the network thread has reached so far.
#[derive(Debug, Clone, Default)]
pub struct NetState {
    /// The phase is over, ok or not: services after `network` may start.
    pub over: bool,
    /// The phase `time` is over, ok or not.
    pub time_over: bool,
    /// A link is set up now.
    pub up: bool,
    pub facts: NetworkFacts,
}

/// The running network thread, as the main loop sees it.
#[derive(Default)]
pub struct NetHandle {
    watch: NetWatch,
    /// Readable when the state has changed.
    pub changed: Option<Sleeper>,
}

/// The state of the network; clones see the same one.
#[derive(Clone, Default)]
pub struct NetWatch {
    state: Arc<Mutex<NetState>>,
    waker: Option<Waker>,
}

impl NetHandle {
    /// A network of which nothing is known yet; without the pair nobody is woken when that changes.
    pub fn new(pair: Option<(Waker, Sleeper)>) -> NetHandle {
        let (waker, changed) = pair.unzip();
        NetHandle { watch: NetWatch { state: Arc::default(), waker }, changed }
    }

    /// The state now.
    pub fn state(&self) -> NetState {
        self.watch.state()
    }

    /// Another look at the same state.
    pub fn watch(&self) -> NetWatch {
        self.watch.clone()
    }
}

impl NetWatch {
    /// The state now.
    pub fn state(&self) -> NetState {
        self.lock().clone()
    }

    /// Changes the state and wakes the main loop.
    pub fn update(&self, change: impl FnOnce(&mut NetState)) {
        change(&mut self.lock());
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }

    /// Writes the files again: those of the initramfs are gone after the switch, and `/etc` may come from a volume.
    pub fn write_files_again(&self, node: &Node) {
        if let Err(error) = setup::write_files(&places(), &self.state().facts) {
            node.timeline.note(&["network: ", &error.to_string()].concat());
        }
    }

    fn lock(&self) -> MutexGuard<'_, NetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the network's files are.
pub fn places() -> NetworkFiles {
    NetworkFiles { etc: "/etc".into(), run: Path::new(paths::RUN).into() }
}
