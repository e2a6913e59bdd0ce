//! The node: what is known from phase `config` on.

use crate::base::timeline::Timeline;
use bootwright_base::cmdline::Cmdline;
use bootwright_base::gate::Gate;
use bootwright_base::sys::Sys;
use bootwright_contract::{BootConfig, MemoryPlan};
use bootwright_roots::{Attachments, Journal, RootPlan, RootStatuses};
use std::sync::Arc;

/// Given to everything from phase `verify` on. Shared by all threads and never changed.
pub struct Node {
    pub config: BootConfig,
    pub cmdline: Cmdline,
    /// How the memory is shared, where the recipe says.
    pub memory: Option<MemoryPlan>,
    /// Where the root and the volumes come from.
    pub plan: RootPlan,
    pub timeline: Arc<Timeline>,
    pub sys: &'static dyn Sys,
    /// State of network root and volumes.
    pub statuses: Arc<RootStatuses>,
    /// Their connections.
    pub attachments: Attachments,
    /// Opens when the clock is set, or when it is known that no server sets it.
    pub time: Gate,
}

impl Node {
    pub fn new(config: BootConfig, cmdline: Cmdline, timeline: Arc<Timeline>, sys: &'static dyn Sys) -> Node {
        let plan = RootPlan::resolve(&config, &cmdline);
        let statuses = Arc::new(RootStatuses::new(timeline.clone()));
        let (attachments, time) = (Attachments::default(), Gate::default());
        Node { config, cmdline, memory: None, plan, timeline, sys, statuses, attachments, time }
    }
}

impl Journal for Timeline {
    fn note(&self, text: &str) {
        Timeline::note(self, text);
    }

    fn down(&self, how: &str) {
        Timeline::down(self, how);
    }
}
