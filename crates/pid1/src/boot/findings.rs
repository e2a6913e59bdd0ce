//! What phases find, for those that come later.

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

/// A phase needs the boot config, and there is none.
#[derive(Debug, thiserror::Error)]
#[error("there is no boot config")]
pub struct NoConfig;

/// All findings so far. Only the boot table sees them: each phase gets what it needs.
pub struct Findings {
    pub sys: &'static dyn Sys,
    pub timeline: Arc<Timeline>,
    /// Empty before phase `mounts`.
    pub cmdline: Cmdline,
    /// There from phase `config` on.
    pub node: Option<Arc<Node>>,
    pub network: Option<NetHandle>,
    /// Checks of the root's images, which run before the services start.
    pub images: Vec<ContentCheck>,
    /// The devices that phase `early` has found.
    pub seen: Option<SeenDevices>,
    /// Opens when all modules that are loaded beside the network were tried.
    pub ahead: Arc<Gate>,
    /// Set when the files of the initramfs are gone.
    pub initramfs_over: Arc<AtomicBool>,
    /// Modules that are being loaded beside the phases before `modules`.
    pub loading: Option<Loading>,
}

/// The finding of one attempt at a phase.
pub enum Finding {
    Nothing,
    Cmdline(Cmdline),
    Node(Arc<Node>),
    Images(Vec<ContentCheck>),
    Early(Early),
    Loading(Loading),
}

/// The end of an attempt. One that failed may have a finding too.
pub struct AttemptEnd {
    pub found: Finding,
    pub outcome: Result<(), Failure>,
}

/// The work of one attempt, which owns all that it needs.
pub type AttemptWork = Box<dyn FnOnce() -> AttemptEnd + Send>;

impl AttemptEnd {
    /// An attempt that has a finding or fails.
    pub fn with<T>(outcome: Result<T, Failure>, found: fn(T) -> Finding) -> AttemptEnd {
        match outcome {
            Ok(value) => AttemptEnd { found: found(value), outcome: Ok(()) },
            Err(failure) => AttemptEnd { found: Finding::Nothing, outcome: Err(failure) },
        }
    }

    /// An attempt without a finding.
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

    /// Keeps the finding of a phase.
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

    /// The node, once phase `config` has succeeded.
    ///
    /// # Errors
    /// [`NoConfig`]
    pub fn node(&self) -> Result<Arc<Node>, NoConfig> {
        self.node.clone().ok_or(NoConfig)
    }

    /// The node. Without a boot config the machine is halted with the reason, whatever the policy of phase `config`
    /// said.
    pub fn node_or_die(&self) -> Arc<Node> {
        match self.node() {
            Ok(node) => node,
            Err(error) => power::halt_and_explain(&self.timeline, PhaseId::Config.name(), &error.to_string()),
        }
    }

    /// Access to servers for an attempt at a phase.
    pub fn servers(&self, phase: PhaseId, sys: Arc<dyn Sys>) -> Result<ServerAccess, NoConfig> {
        let network = self.network.as_ref().map(NetHandle::watch);
        Ok(ServerAccess { node: self.node()?, sys, phase, network, ahead: self.ahead.clone() })
    }
}
