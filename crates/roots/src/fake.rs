//! For tests: a machine in which nothing happens.

use crate::context::{NetworkView, NodeControl, RootContext};
use crate::statuses::{Journal, RootStatuses};
use bootwright_base::Failure;
use bootwright_base::cmdline::{Cmdline, parse_cmdline};
use bootwright_base::sys::Sys;
use bootwright_base::sys::fake::FakeSys;
use bootwright_contract::BootConfig;
use std::sync::Arc;
use std::time::Duration;

/// A journal that drops all lines.
pub struct Silent;

impl Journal for Silent {
    fn note(&self, _: &str) {}
    fn down(&self, _: &str) {}
}

/// A node without network and modules.
struct Nothing;

impl NodeControl for Nothing {
    fn waited(&self, _: f64) {}

    fn network(&self) -> NetworkView {
        NetworkView { over: true, ..NetworkView::default() }
    }

    fn load_modules(&self, _: &[(&str, &str)]) -> Result<(), Failure> {
        Ok(())
    }

    fn await_clock(&self, _: Duration) {}
}

/// Owns what a [`RootContext`] borrows.
pub struct World {
    config: BootConfig,
    cmdline: Cmdline,
    sys: Arc<dyn Sys>,
    statuses: Arc<RootStatuses>,
}

impl World {
    pub fn new(config: BootConfig, cmdline: &str) -> World {
        World {
            config,
            cmdline: parse_cmdline(cmdline),
            sys: Arc::new(FakeSys::default()),
            statuses: Arc::new(RootStatuses::new(Arc::new(Silent))),
        }
    }

    pub fn context(&self) -> RootContext<'_> {
        let World { config, cmdline, sys, statuses } = self;
        RootContext { config, cmdline, sys, journal: &Silent, statuses, node: &Nothing, elsewhere: false }
    }
}
