//! What phases need to reach servers: that of the root, of a volume, or of a manifest.

use crate::base::network::NetWatch;
use crate::base::node::Node;
use crate::modules;
use bootwright_base::Failure;
use bootwright_base::gate::Gate;
use bootwright_base::sys::Sys;
use bootwright_contract::PhaseId;
use bootwright_roots::{NetworkView, NodeControl, RootContext};
use std::sync::Arc;
use std::time::Duration;

/// Access to servers for one attempt at a phase.
pub struct ServerAccess {
    pub node: Arc<Node>,
    /// The attempt's own: closed when the attempt is given up.
    pub sys: Arc<dyn Sys>,
    /// The phase to which waiting times are added.
    pub phase: PhaseId,
    /// `None` when the network was never started.
    pub network: Option<NetWatch>,
    /// Opens when all modules that are loaded beside the network were tried.
    pub ahead: Arc<Gate>,
}

impl ServerAccess {
    /// The machine as roots know it.
    pub fn context(&self) -> RootContext<'_> {
        let Node { config, cmdline, statuses, timeline, plan, .. } = &*self.node;
        let elsewhere = plan.sources.as_ref().is_ok_and(|sources| sources.len() > 1);
        RootContext { config, cmdline, sys: &self.sys, journal: &**timeline, statuses, node: self, elsewhere }
    }
}

impl NodeControl for ServerAccess {
    fn waited(&self, seconds: f64) {
        self.node.timeline.waited(self.phase.name(), seconds);
    }

    fn network(&self) -> NetworkView {
        let Some(network) = &self.network else { return NetworkView { over: true, ..NetworkView::default() } };
        let state = network.state();
        NetworkView { up: state.up, over: state.over, facts: state.facts }
    }

    fn load_modules(&self, wanted: &[(&str, &str)]) -> Result<(), Failure> {
        self.ahead.pass();
        modules::load_named(&*self.sys, &self.node, wanted)
    }

    fn await_clock(&self, limit: Duration) {
        self.node.time.wait(limit);
    }
}
