//! The state of the network, as other threads than `network` see it.

use crate::base::node::Node;
use bootwright_base::wake::{Sleeper, Waker};
use bootwright_contract::paths;
use bootwright_netconf::setup::{self, NetworkFacts, NetworkFiles};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state of the network.
#[derive(Debug, Clone, Default)]
pub struct NetState {
    /// The phase `network` is over, successful or not: services with `after = ["network"]` may start.
    pub over: bool,
    /// The phase `time` is over, successful or not.
    pub time_over: bool,
    /// A link is set up.
    pub up: bool,
    pub facts: NetworkFacts,
}

/// The main loop's handle of the network thread.
#[derive(Default)]
pub struct NetHandle {
    watch: NetWatch,
    /// Becomes readable when the state changes.
    pub changed: Option<Sleeper>,
}

/// Shares the state. Clones see the same state.
#[derive(Clone, Default)]
pub struct NetWatch {
    state: Arc<Mutex<NetState>>,
    waker: Option<Waker>,
}

impl NetHandle {
    /// Makes a network without any facts. With a pair, changes wake the main loop.
    pub fn new(pair: Option<(Waker, Sleeper)>) -> NetHandle {
        let (waker, changed) = pair.unzip();
        NetHandle { watch: NetWatch { state: Arc::default(), waker }, changed }
    }

    /// A copy of the state.
    pub fn state(&self) -> NetState {
        self.watch.state()
    }

    /// Shares the state with another thread.
    pub fn watch(&self) -> NetWatch {
        self.watch.clone()
    }
}

impl NetWatch {
    /// A copy of the state.
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

    /// Writes the files again: after the switch those of the initramfs are gone, and a volume may have been mounted on
    /// `/etc`.
    pub fn write_files_again(&self, node: &Node) {
        if let Err(error) = setup::write_files(&places(), &self.state().facts) {
            node.timeline.note(&["network: ", &error.to_string()].concat());
        }
    }

    fn lock(&self) -> MutexGuard<'_, NetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folders of the network's files.
pub fn places() -> NetworkFiles {
    NetworkFiles { etc: "/etc".into(), run: Path::new(paths::RUN).into() }
}
