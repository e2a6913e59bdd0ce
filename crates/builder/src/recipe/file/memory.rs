//! `[memory]`, as written.

use schemars::JsonSchema;
use serde::Deserialize;

/// What is kept of a node's memory for whom; the rest is for pods. MiB, for programs as they were measured.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryFile {
    /// What the kernel takes once PID1 runs: drivers and what they allocate.
    #[serde(default = "kernel_mib")]
    pub kernel_mib: u32,
    /// PID1, services, logs and what is written to the root; 1/32 of the memory comes on top.
    #[serde(default = "system_mib")]
    pub system_mib: u32,
    /// containerd, without images and shims; default 40 where there is a service of that name.
    pub containerd_mib: Option<u32>,
    /// kubelet; default 48 where there is a service of that name.
    pub kubelet_mib: Option<u32>,
    /// Of each pod, outside the pod's own limit: its shim.
    #[serde(default = "shim_mib")]
    pub shim_mib: u32,
    /// Percent of the rest for images that are pulled.
    #[serde(default = "images_percent")]
    #[schemars(range(max = 90))]
    pub images_percent: u32,
    /// Pods of a node; default: as many as the memory is enough for, 4 to 110.
    #[schemars(range(min = 1))]
    pub max_pods: Option<u32>,
    /// What must be left for pods with `ram_mib` of `[budget]`, or the build fails.
    pub workload_mib: Option<u64>,
}

fn kernel_mib() -> u32 {
    8
}

fn system_mib() -> u32 {
    16
}

fn shim_mib() -> u32 {
    4
}

fn images_percent() -> u32 {
    15
}
