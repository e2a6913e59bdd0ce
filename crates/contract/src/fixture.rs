//! A boot config for tests.

use crate::{BootConfig, CONTRACT_VERSION, Hostname, Lost, Modules, Network, Root, RootImage, RootMode, Time};

/// A boot config with nothing in it.
pub fn boot_config() -> BootConfig {
    let network = Network::dhcp(60);
    let root = Root {
        mode: RootMode::Ram,
        sources: vec![],
        image: RootImage::Squashfs,
        size: None,
        sha256: None,
        xxh64: None,
        tree_xxh64: None,
        tree_sums_sha256: None,
        lost: Lost::Wait,
        trust: None,
        overlay_size: "32M".into(),
        read_ahead_kb: None,
        tmpfs: vec![],
    };
    BootConfig {
        version: CONTRACT_VERSION,
        recipe: "test".into(),
        image_id: "00".into(),
        clock_floor: 1,
        segments: vec![],
        modules: Modules::default(),
        network,
        time: Time::default(),
        root,
        state: vec![],
        report: None,
        zram: None,
        sysctls: Default::default(),
        hostname: Hostname { dhcp: true, fallback: None },
        services: vec![],
        policies: Default::default(),
        shutdown_timeout_s: 60,
        watchdog: None,
    }
}
