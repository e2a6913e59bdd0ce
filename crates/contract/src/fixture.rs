//! A boot config and a service for tests.

use crate::{
    BootConfig, CONTRACT_VERSION, Hostname, Limits, Memory, Modules, Network, Ready, Restart, Root, RootImage,
    RootMode, Service, Time,
};

/// A boot config with nothing in it.
pub fn boot_config() -> BootConfig {
    let network = Network::dhcp(60);
    let root = Root {
        mode: RootMode::Ram,
        sources: vec![],
        image: RootImage::Squashfs,
        size: None,
        sha256: None,
        verity: None,
        tree_xxh64: None,
        tree_sums_sha256: None,
        lost_reboot_s: None,
        corrupted_reboot_s: None,
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
        images: None,
        state: vec![],
        report: None,
        zram: None,
        sysctls: Default::default(),
        hostname: Hostname { dhcp: true, fallback: None },
        services: vec![],
        policies: Default::default(),
        shutdown_timeout_s: 60,
        watchdog: None,
        memory: None,
    }
}

/// Shares of a worker.
pub fn memory() -> Memory {
    Memory {
        kernel_mib: 8,
        system_mib: 16,
        containerd_mib: 40,
        kubelet_mib: 48,
        shim_mib: 4,
        images_percent: 15,
        max_pods: 0,
        drop_in: None,
        drop_in_head: String::new(),
    }
}

/// A service that is ready as soon as it runs and is not restarted.
pub fn service(name: &str, exec: &[&str]) -> Service {
    Service {
        name: name.into(),
        exec: exec.iter().map(|arg| arg.to_string()).collect(),
        env: Default::default(),
        after: vec![],
        ready: Ready::Started,
        ready_timeout_s: 10,
        restart: Restart::Never,
        backoff_ms: 10,
        stop_signal: "TERM".into(),
        stop_timeout_s: 5,
        stop_cgroups: vec![],
        log_kib: 64,
        console: false,
        oom_score_adj: 0,
        limits: Limits { memory_min_mib: 0, memory_max_mib: 0, tasks_max: None, cpu_weight: 100 },
    }
}
