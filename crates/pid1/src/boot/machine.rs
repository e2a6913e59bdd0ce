//! The state of this boot: what is known before the boot config is read, and after.

use crate::base::timeline::Timeline;
use crate::boot::devices::Loading;
use crate::boot::network::NetWatch;
use crate::boot::table;
use crate::boot::time::Gate;
use crate::boot::verify::Check;
use crate::modules::{self, Ahead, Devices};
use crate::run::power;
use crate::run::watchdog::Watchdog;
use bootwright_base::Failure;
use bootwright_base::cmdline::Cmdline;
use bootwright_base::sys::Sys;
use bootwright_contract::{BootConfig, Policy};
use bootwright_roots::{self as netroot, Board, Context, Journal, Keepers, NetworkView, Owner};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// What every part of PID1 is given once the boot config is read; shared by all threads, never changed.
pub struct Boot {
    pub config: BootConfig,
    pub cmdline: Cmdline,
    pub timeline: Arc<Timeline>,
    pub sys: &'static dyn Sys,
    /// Network root and volumes, as they are.
    pub board: Arc<Board>,
    /// Who keeps them.
    pub keepers: Keepers,
    /// Opens when the clock is set.
    pub time: Gate,
    /// The hardware watchdog, if the config has one.
    pub watchdog: Watchdog,
}

impl Boot {
    pub fn new(config: BootConfig, cmdline: Cmdline, timeline: Arc<Timeline>, sys: &'static dyn Sys) -> Boot {
        let board = Arc::new(Board::new(timeline.clone()));
        let (keepers, time, watchdog) = (Keepers::default(), Gate::default(), Watchdog::default());
        Boot { config, cmdline, timeline, sys, board, keepers, time, watchdog }
    }

    /// What to do when the phase fails: command line, then boot config, then PID1's table.
    pub fn policy(&self, phase: &str) -> Policy {
        table::policy_for(phase, Some(&self.config), &self.cmdline)
    }
}

/// What the phases work on: filled as the boot goes on.
pub struct Machine {
    pub sys: &'static dyn Sys,
    pub timeline: Arc<Timeline>,
    cmdline: OnceLock<Cmdline>,
    boot: OnceLock<Arc<Boot>>,
    /// What is still to be compared before the services start.
    pub check: Slot<Check>,
    /// What phase `early` has seen, for phase `devices`.
    pub devices: Slot<Devices>,
    /// Modules of the initramfs that are loaded while the network comes up.
    pub ahead: Slot<Ahead>,
    /// Modules that are loaded beside the phases before `modules`.
    pub loading: Slot<Loading>,
    network: OnceLock<NetWatch>,
    /// Set when the initramfs's modules have gone.
    initramfs_over: Arc<AtomicBool>,
}

/// What one phase leaves for a later one.
pub struct Slot<T>(Mutex<Option<T>>);

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot(Mutex::new(None))
    }
}

impl<T> Slot<T> {
    /// Takes the place of what was left before.
    pub fn keep(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    /// What was left, once.
    pub fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A phase needs what an earlier one did not bring.
#[derive(Debug, thiserror::Error)]
#[error("there is no boot config")]
pub struct NoConfig;

impl Machine {
    pub fn new(sys: &'static dyn Sys, timeline: Arc<Timeline>) -> Machine {
        Machine {
            sys,
            timeline,
            cmdline: OnceLock::new(),
            boot: OnceLock::new(),
            check: Slot::default(),
            devices: Slot::default(),
            ahead: Slot::default(),
            loading: Slot::default(),
            network: OnceLock::new(),
            initramfs_over: Arc::default(),
        }
    }

    /// The kernel command line; empty until `/proc` is mounted.
    pub fn cmdline(&self) -> Cmdline {
        self.cmdline.get().cloned().unwrap_or_default()
    }

    /// Keeps the command line; a second call changes nothing.
    pub fn set_cmdline(&self, cmdline: Cmdline) {
        self.cmdline.get_or_init(|| cmdline);
    }

    /// Keeps the boot config; a second call changes nothing.
    pub fn set_config(&self, config: BootConfig) {
        self.boot.get_or_init(|| {
            let timeline = self.timeline.clone();
            Arc::new(Boot::new(config, self.cmdline(), timeline, self.sys))
        });
    }

    /// The boot config, once it is read.
    pub fn config(&self) -> Option<&BootConfig> {
        self.boot.get().map(|b| &b.config)
    }

    /// The state for later phases.
    pub fn boot(&self) -> Result<&Arc<Boot>, NoConfig> {
        self.boot.get().ok_or(NoConfig)
    }

    /// For what cannot go on without a boot config, whatever the policy of `config` said.
    pub fn boot_or_die(&self) -> Arc<Boot> {
        match self.boot.get() {
            Some(boot) => boot.clone(),
            None => power::halt_and_explain(&self.timeline, "config", &NoConfig.to_string()),
        }
    }

    /// The network, once it has been started.
    pub fn network(&self) -> Option<&NetWatch> {
        self.network.get()
    }

    /// Keeps the view of the network; a second call changes nothing.
    pub fn set_network(&self, watch: NetWatch) {
        self.network.get_or_init(|| watch);
    }

    /// True once the files of the initramfs have gone.
    pub fn initramfs_over(&self) -> Arc<AtomicBool> {
        self.initramfs_over.clone()
    }

    /// The machine as roots need to know it.
    pub fn roots(&self) -> Result<Context<'_>, NoConfig> {
        let boot = self.boot()?;
        let Boot { config, cmdline, board, .. } = &**boot;
        Ok(Context { config, cmdline, sys: self.sys, journal: &*self.timeline, board, owner: self })
    }

    /// Whether the root comes over the network.
    pub fn wants_network(&self) -> bool {
        self.config().is_some_and(|config| netroot::wants_network(config, &self.cmdline()))
    }
}

impl Journal for Timeline {
    fn note(&self, text: &str) {
        Timeline::note(self, text);
    }

    fn waited(&self, seconds: f64) {
        Timeline::waited(self, seconds);
    }

    fn down(&self, how: &str) {
        Timeline::down(self, how);
    }
}

impl Owner for Machine {
    fn network(&self) -> NetworkView {
        let Some(network) = self.network() else { return NetworkView { over: true, ..NetworkView::default() } };
        let state = network.state();
        NetworkView { up: state.up, over: state.over, facts: state.facts }
    }

    fn load_modules(&self, wanted: &[(&str, &str)]) -> Result<(), Failure> {
        modules::load_needed(self, wanted)
    }

    fn await_clock(&self, limit: Duration) {
        if let Ok(boot) = self.boot() {
            boot.time.wait(limit);
        }
    }
}
