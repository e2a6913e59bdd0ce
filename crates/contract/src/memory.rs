//! What of a machine's memory is kept for whom: one function for the builder's budget and for PID1. Whole KiB, no I/O.
//!
//! A page of a tmpfs counts for the cgroup that touches it first (Documentation/admin-guide/cgroup-v2.rst, "Memory Ownership"):
//! what a pod writes for the pod, what containerd unpacks and the logs that it writes for containerd, and so does the shim of each pod, as
//! containerd starts it.

use serde::{Deserialize, Serialize};

const MIB: u64 = 1 << 10;
/// What is kept for others than pods is at most this part of what is free, so that a small machine has pods at all.
const KEPT_PERCENT: u64 = 60;
/// The system needs more on a large machine: this part of the memory beside what the recipe says.
const SYSTEM_PART: u64 = 32;
/// Memory of a pod when nobody says how many there are.
const POD: u64 = 24 * MIB;
/// kubelet's own default (<https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/>, `maxPods`).
const MOST_PODS: u64 = 110;
const LEAST_PODS: u64 = 4;

/// `[memory]`: what is kept, MiB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// What the kernel takes after PID1 has started: drivers and what they allocate.
    pub kernel_mib: u32,
    /// PID1, services, logs and what is written to the root.
    pub system_mib: u32,
    /// containerd without images and shims.
    pub containerd_mib: u32,
    pub kubelet_mib: u32,
    /// Of each pod, outside its own cgroup: its shim.
    pub shim_mib: u32,
    /// Percent of the rest for images that are pulled.
    pub images_percent: u32,
    /// 0: as many as the memory is enough for.
    pub max_pods: u32,
    /// File of kubelet's configuration that PID1 writes, absolute; absent: none.
    pub drop_in: Option<String>,
    /// What it begins with: all that is the same on every machine, to the value of `memory.available` of `evictionHard`.
    pub drop_in_head: String,
}

/// How the memory of a machine is shared, KiB. All but `eviction`, which is a part of `pods`, add up to `total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// `MemTotal` of proc_meminfo(5).
    pub total: u64,
    /// In use when PID1 starts, and not to be had back: the kernel, the image in memory.
    pub held: u64,
    pub kernel: u64,
    pub system: u64,
    pub containerd: u64,
    pub kubelet: u64,
    pub images: u64,
    /// Those of all pods.
    pub shims: u64,
    pub pods: u64,
    /// What kubelet keeps free of it by eviction.
    pub eviction: u64,
    pub max_pods: u64,
}

impl Memory {
    /// Shares out `total` KiB, of which `held` are in use for good.
    pub fn plan(&self, total: u64, held: u64) -> MemoryPlan {
        let mib = |mib: u32| u64::from(mib) * MIB;
        let held = held.min(total);
        let free = total - held;
        let wanted = [
            mib(self.kernel_mib),
            mib(self.system_mib) + total / SYSTEM_PART,
            mib(self.containerd_mib),
            mib(self.kubelet_mib),
        ];
        let (sum, most) = (wanted.iter().sum::<u64>(), free * KEPT_PERCENT / 100);
        let [kernel, system, containerd, kubelet] =
            wanted.map(|kib| if sum > most { kib * most / sum.max(1) } else { kib });
        let rest = free - kernel - system - containerd - kubelet;
        let images = rest * u64::from(self.images_percent.min(90)) / 100;
        let (left, shim) = (rest - images, mib(self.shim_mib));
        let max_pods = match self.max_pods {
            0 => (left / (POD + shim)).clamp(LEAST_PODS, MOST_PODS),
            count => u64::from(count),
        };
        let shims = (max_pods * shim).min(left / 2);
        let pods = left - shims;
        let eviction = (total / 64).clamp(8 * MIB, 100 * MIB).min(pods / 8);
        MemoryPlan { total, held, kernel, system, containerd, kubelet, images, shims, pods, eviction, max_pods }
    }
}

impl MemoryPlan {
    /// What `memory.min` guards of containerd's cgroup, where images and shims count too.
    pub fn containerd_guard(&self) -> u64 {
        self.containerd + self.images + self.shims
    }

    /// KiB that a size such as `images:60%+pods:30%` stands for: the parts are `images`, `pods` and `system`. `None` when it is none.
    pub fn share(&self, size: &str) -> Option<u64> {
        let mut sum = 0;
        for term in size.split('+') {
            let (part, percent) = term.strip_suffix('%')?.split_once(':')?;
            let percent = percent.parse::<u64>().ok().filter(|percent| (1..=100).contains(percent))?;
            let kib = match part {
                "images" => self.images,
                "pods" => self.pods,
                "system" => self.system,
                _ => return None,
            };
            sum += kib * percent / 100;
        }
        // A tmpfs of no size would have no limit.
        Some(sum.max(MIB))
    }

    /// What kubelet is told, laid over its configuration; `head`: [`Memory::drop_in_head`]. Its limit for all pods is the
    /// capacity less what is reserved.
    pub fn kubelet_config(&self, head: &str) -> String {
        let kube = self.containerd_guard() + self.kubelet;
        // Of all logs, which have a quarter of the system's share, two files each.
        let log = (self.system / 8 / self.max_pods.max(1)).clamp(64, 10 * MIB);
        // As many as the kernel has at most: its default of `kernel.threads-max`, and of `kernel.pid_max` with up to 32 processors. One pod
        // may have half of them, all pods three quarters. `pid.available` of `evictionHard` lies between, so that who has so many is named.
        let tasks = (self.total / 128).clamp(1024, 32768);
        format!(
            "{head}{}Ki\nmaxPods: {}\npodPidsLimit: {}\ncontainerLogMaxSize: {log}Ki\n\
             systemReserved: {{memory: {}Ki, pid: '{}'}}\nkubeReserved: {{memory: {kube}Ki}}\n",
            self.eviction,
            self.max_pods,
            tasks / 2,
            self.total - self.pods - kube,
            tasks / 4,
        )
    }
}

/// As the console has it.
impl std::fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [total, held, system, containerd, kubelet, images, pods] = [
            self.total,
            self.held + self.kernel,
            self.system,
            self.containerd + self.shims,
            self.kubelet,
            self.images,
            self.pods,
        ]
        .map(|kib| kib / MIB);
        write!(
            f,
            "memory {total} MiB: {held} kernel and image, {system} system, {containerd} containerd, {kubelet} kubelet, {images} \
             pulled images, {pods} for {} pods",
            self.max_pods
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn worker() -> Memory {
        Memory { kernel_mib: 10, ..crate::fixture::memory() }
    }

    fn sum(plan: &MemoryPlan) -> u64 {
        let MemoryPlan { held, kernel, system, containerd, kubelet, images, shims, pods, .. } = *plan;
        held + kernel + system + containerd + kubelet + images + shims + pods
    }

    proptest! {
        /// Whatever the machine and the recipe: the shares add up, and kubelet takes what it is told.
        #[test]
        fn shares_add_up_and_kubelet_starts(
            total in 0u64..1 << 34, held in 0u64..1 << 34, mib in 0u32..4096, percent in 0u32..200, max_pods in 0u32..2000,
        ) {
            let memory = Memory {
                system_mib: mib, kubelet_mib: mib / 2, containerd_mib: mib * 2, images_percent: percent, max_pods, ..worker()
            };
            let plan = memory.plan(total, held);
            prop_assert_eq!(sum(&plan), total);
            prop_assert!(plan.eviction <= plan.pods, "kubelet refuses to reserve more than there is: {:?}", plan);
            prop_assert!(plan.max_pods > 0);
        }
    }

    #[test]
    fn what_is_kept_shrinks_where_little_is_free_and_never_takes_all() {
        let seen = |total_mib: u64| {
            let plan = worker().plan(total_mib * MIB, 80 * MIB);
            (plan.kubelet / MIB, plan.pods / MIB, plan.max_pods)
        };
        assert_eq!(
            [96, 131, 210, 462, 974].map(seen),
            [(3, 2, 4), (12, 8, 4), (31, 28, 4), (48, 187, 7), (48, 549, 22)]
        );
    }

    #[test]
    fn a_share_is_a_part_of_the_plan() {
        let plan = MemoryPlan { images: 1000, pods: 200_000, system: 50_000, ..MemoryPlan::default() };
        assert_eq!(plan.share("pods:10%"), Some(20_000));
        assert_eq!(plan.share("images:60%+pods:30%"), Some(60_600));
        assert_eq!(plan.share("images:1%"), Some(1024), "a tmpfs needs a size");
        for wrong in
            ["20%", "64M", "pods", "pods:", "pods:5", "pods:0%", "pods:101%", "kernel:5%", "pods:1%+", "pods:1%,mode=7"]
        {
            assert_eq!(plan.share(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn kubelet_reserves_all_but_what_pods_have() {
        let plan = worker().plan(462 * MIB, 80 * MIB);
        let text = plan.kubelet_config("evictionHard:\n  memory.available: ");
        let number = |key: &str| -> u64 {
            let rest = text.split(key).nth(1).unwrap_or_else(|| panic!("{key}: {text}"));
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap_or_else(|_| panic!("{key}: {text}"))
        };
        let reserved = number("systemReserved: {memory: ") + number("kubeReserved: {memory: ");
        assert_eq!(plan.total - reserved, plan.pods);
        assert_eq!((number("maxPods: "), number("podPidsLimit: ")), (plan.max_pods, 462 * 8 / 2));
        assert_eq!(number("pid: '"), 462 * 8 / 4);
        assert!(number("containerLogMaxSize: ") * 2 * plan.max_pods <= plan.system / 4, "{text}");
        assert!(
            text.starts_with(&format!("evictionHard:\n  memory.available: {}Ki\nmaxPods: ", plan.eviction)),
            "{text}"
        );
    }

    #[test]
    fn the_console_has_it_in_a_line() {
        let line = worker().plan(462 * MIB, 80 * MIB).to_string();
        let expected = "memory 462 MiB: 90 kernel and image, 30 system, 68 containerd, 48 kubelet, 38 pulled images, 187 for 7 pods";
        assert_eq!(line, expected);
    }
}
