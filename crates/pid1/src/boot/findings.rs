//! What phases find for those after them.

use crate::base::network::NetHandle;
use crate::base::node::Node;
use crate::base::timeline::Timeline;
use crate::boot::devices::Loading;
use crate::boot::early::Early;
use crate::boot::server_access::ServerAccess;
use crate::boot::verify::ContentCheck;
use crate::modules::SeenDevices;
use crate::run::power;
use bootwright_base::Failure;
use bootwright_base::cmdline::Cmdline;
use bootwright_base::gate::Gate;
use bootwright_base::sys::Sys;
use bootwright_contract::PhaseId;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A phase needs what an earlier one did not bring.
#[derive(Debug, thiserror::Error)]
#[error("there is no boot config")]
pub struct NoConfig;

/// All that was found so far. Only the table sees it: a phase is given what it needs of it.
pub struct Findings {
    pub sys: &'static dyn Sys,
    pub timeline: Arc<Timeline>,
    /// Empty until `/proc` is mounted.
    pub cmdline: Cmdline,
    /// From phase `config` on.
    pub node: Option<Arc<Node>>,
    pub network: Option<NetHandle>,
    /// The images of the root, whose contents are compared before the services start.
    pub images: Vec<ContentCheck>,
    /// What phase `early` has seen of the machine's devices.
    pub seen: Option<SeenDevices>,
    /// Opens when the modules are there that are loaded while the network comes up.
    pub ahead: Arc<Gate>,
    /// Set when the files of the initramfs have gone.
    pub initramfs_over: Arc<AtomicBool>,
    /// Modules that are loaded beside the phases before `modules`.
    pub loading: Option<Loading>,
}

/// What one attempt at a phase has found.
pub enum Finding {
    Nothing,
    Cmdline(Cmdline),
    Node(Arc<Node>),
    Images(Vec<ContentCheck>),
    Early(Early),
    Loading(Loading),
}

/// How an attempt ended. One that failed may have found something all the same.
pub struct AttemptEnd {
    pub found: Finding,
    pub outcome: Result<(), Failure>,
}

/// The work of one attempt, with all that it needs.
pub type AttemptWork = Box<dyn FnOnce() -> AttemptEnd + Send>;

impl AttemptEnd {
    /// An attempt that finds something or fails.
    pub fn with<T>(outcome: Result<T, Failure>, found: fn(T) -> Finding) -> AttemptEnd {
        match outcome {
            Ok(value) => AttemptEnd { found: found(value), outcome: Ok(()) },
            Err(failure) => AttemptEnd { found: Finding::Nothing, outcome: Err(failure) },
        }
    }

    /// An attempt that finds nothing for others.
    pub fn of(outcome: Result<(), Failure>) -> AttemptEnd {
        AttemptEnd { found: Finding::Nothing, outcome }
    }
}

impl Findings {
    pub fn new(sys: &'static dyn Sys, timeline: Arc<Timeline>) -> Findings {
        Findings {
            sys,
            timeline,
            cmdline: Cmdline::default(),
            node: None,
            network: None,
            images: Vec::new(),
            seen: None,
            ahead: Arc::new(Gate::opened()),
            initramfs_over: Arc::default(),
            loading: None,
        }
    }

    /// Takes in what a phase has found.
    pub fn keep(&mut self, found: Finding) {
        match found {
            Finding::Nothing => {}
            Finding::Cmdline(cmdline) => self.cmdline = cmdline,
            Finding::Node(node) => self.node = Some(node),
            Finding::Images(images) => self.images = images,
            Finding::Early(Early { seen, ahead }) => (self.seen, self.ahead) = (seen, ahead),
            Finding::Loading(loading) => self.loading = Some(loading),
        }
    }

    /// The machine, once its config is read.
    pub fn node(&self) -> Result<Arc<Node>, NoConfig> {
        self.node.clone().ok_or(NoConfig)
    }

    /// For what cannot go on without a boot config, whatever the policy of `config` said.
    pub fn node_or_die(&self) -> Arc<Node> {
        match self.node() {
            Ok(node) => node,
            Err(error) => power::halt_and_explain(&self.timeline, PhaseId::Config.name(), &error.to_string()),
        }
    }

    /// The way to servers, for an attempt at that phase.
    pub fn servers(&self, phase: PhaseId, sys: Arc<dyn Sys>) -> Result<ServerAccess, NoConfig> {
        let network = self.network.as_ref().map(NetHandle::watch);
        Ok(ServerAccess { node: self.node()?, sys, phase, network, ahead: self.ahead.clone() })
    }
}
