//! A machine for tests of roots: nothing happens in it.

use crate::{Board, Context, Journal, NetworkView, Owner};
use bootwright_base::Failure;
use bootwright_base::cmdline::{Cmdline, parse_cmdline};
use bootwright_base::sys::fake::Fake;
use bootwright_contract::BootConfig;
use std::sync::Arc;
use std::time::Duration;

/// Forgets what it is told.
pub struct Silent;

impl Journal for Silent {
    fn note(&self, _: &str) {}
    fn waited(&self, _: f64) {}
    fn down(&self, _: &str) {}
}

/// Has no network and no modules.
struct Nothing;

impl Owner for Nothing {
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
    sys: &'static Fake,
    board: Arc<Board>,
}

impl World {
    pub fn new(config: BootConfig, cmdline: &str) -> World {
        let sys = Box::leak(Box::new(Fake::default()));
        World { config, cmdline: parse_cmdline(cmdline), sys, board: Arc::new(Board::new(Arc::new(Silent))) }
    }

    pub fn context(&self) -> Context<'_> {
        let World { config, cmdline, sys, board } = self;
        Context { config, cmdline, sys: *sys, journal: &Silent, board, owner: &Nothing }
    }
}
