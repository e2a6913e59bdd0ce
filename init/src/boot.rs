//! The state of this boot: what is known before the boot config is read, and after.

use crate::cmdline::Cmdline;
use crate::modules::Devices;
use crate::net::NetWatch;
use crate::netroot::{self, Board, Keepers};
use crate::phases;
use crate::power;
use crate::sys::Sys;
use crate::time::Gate;
use crate::timeline::Timeline;
use crate::verify::Check;
use crate::watchdog::Watchdog;
use bootwright_contract::{BootConfig, Policy};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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
        phases::policy_for(phase, Some(&self.config), &self.cmdline)
    }
}

/// What the phases work on: filled as the boot goes on.
pub struct Machine {
    pub sys: &'static dyn Sys,
    pub timeline: Arc<Timeline>,
    cmdline: OnceLock<Cmdline>,
    boot: OnceLock<Arc<Boot>>,
    /// What is still to be compared before the services start.
    check: Mutex<Option<Check>>,
    /// What phase `early` has seen, for phase `devices`.
    devices: Mutex<Option<Devices>>,
    network: OnceLock<NetWatch>,
    /// Set when the initramfs's modules have gone.
    initramfs_over: Arc<AtomicBool>,
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
            check: Mutex::new(None),
            devices: Mutex::new(None),
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

    /// Whether the root comes over the network.
    pub fn wants_network(&self) -> bool {
        self.config().is_some_and(|config| netroot::wants_network(config, &self.cmdline()))
    }

    /// Keeps the devices for phase `devices`.
    pub fn keep_devices(&self, devices: Devices) {
        *self.devices.lock().unwrap_or_else(PoisonError::into_inner) = Some(devices);
    }

    /// The devices that were kept, once.
    pub fn take_devices(&self) -> Option<Devices> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps the comparison of the root image for phase `image`, in place of that of an earlier attempt.
    pub fn keep_check(&self, check: Check) {
        *self.check.lock().unwrap_or_else(PoisonError::into_inner) = Some(check);
    }

    /// The comparison of the root image, once.
    pub fn take_check(&self) -> Option<Check> {
        self.check.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
