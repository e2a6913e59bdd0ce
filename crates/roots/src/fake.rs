//! A machine for tests of roots: nothing happens in it.

use crate::board::{Journal, StatusBoard};
use crate::context::{Context, NetworkView, Owner};
use bootwright_base::Failure;
use bootwright_base::cmdline::{Cmdline, parse_cmdline};
use bootwright_base::sys::Sys;
use bootwright_base::sys::fake::Fake;
use bootwright_contract::BootConfig;
use std::sync::Arc;
use std::time::Duration;

/// Forgets what it is told.
pub struct Silent;

impl Journal for Silent {
    fn note(&self, _: &str) {}
    fn down(&self, _: &str) {}
}

/// Has no network and no modules.
struct Nothing;

impl Owner for Nothing {
    fn waited(&self, _: f64) {}

    fn network(&self) -> NetworkView {
        NetworkView { over: true, ..NetworkView::default() }
    }

    fn load_modules(&self, _: &[(&str, &str)]) -> Result<(), Failure> {
        Ok(())
    }

    fn await_clock(&self, _: Duration) {}
}

/// What a [`Context`] borrows.
pub struct World {
    config: BootConfig,
    cmdline: Cmdline,
    sys: Arc<dyn Sys>,
    board: Arc<StatusBoard>,
}

impl World {
    pub fn new(config: BootConfig, cmdline: &str) -> World {
        World {
            config,
            cmdline: parse_cmdline(cmdline),
            sys: Arc::new(Fake::default()),
            board: Arc::new(StatusBoard::new(Arc::new(Silent))),
        }
    }

    pub fn context(&self) -> Context<'_> {
        let World { config, cmdline, sys, board } = self;
        Context { config, cmdline, sys, journal: &Silent, board, owner: &Nothing, elsewhere: false }
    }
}
