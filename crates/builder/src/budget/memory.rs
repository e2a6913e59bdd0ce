//! What a node will have for pods: PID1's own function ([`bootwright_contract::Memory::plan`]) on the memory of a machine that does not exist
//! yet.

use super::ram::{Initrd, KERNEL_RUNNING, PAGE_STRUCTURES, RamTerm};
use crate::recipe::MemoryNeeds;
use bootwright_contract::{Memory, MemoryPlan};
use serde::{Deserialize, Serialize};

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// RAM sizes that `build` shows, MiB.
pub const SHOWN_MIB: [u64; 6] = [256, 512, 1024, 2048, 4096, 8192];

/// What of an image decides how much a node has left. Bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeMemory {
    /// The recipe's `[memory]`.
    pub shares: Memory,
    /// `workload_mib` of it.
    pub workload_mib: Option<u64>,
    /// The initrd as it is loaded.
    pub packed: u64,
    /// Pages of what the kernel unpacks of it.
    pub unpacked: u64,
    /// A root image that is fetched into memory.
    pub fetched: u64,
}

/// Pods have less than the recipe asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lack {
    pub ram_mib: u64,
    pub left_mib: u64,
    pub wanted_mib: u64,
}

impl NodeMemory {
    pub fn of(needs: &MemoryNeeds, initrd: Initrd, fetched: u64) -> Self {
        let MemoryNeeds { shares, workload_mib } = needs.clone();
        Self { shares, workload_mib, packed: initrd.packed, unpacked: initrd.content, fetched }
    }

    /// The plan of a machine with so much RAM, as its PID1 will make it.
    pub fn at(&self, ram_mib: u64) -> MemoryPlan {
        let total = total_of(ram_mib);
        let held = kernel_at_start(total, self.packed) + self.unpacked + self.fetched;
        self.shares.plan(total / KIB, held / KIB)
    }

    /// What it has for pods with that RAM, if that is less than the recipe asks for.
    pub fn lacks(&self, ram_mib: Option<u64>) -> Option<Lack> {
        let (ram_mib, wanted_mib) = (ram_mib?, self.workload_mib?);
        let left_mib = self.at(ram_mib).pods / KIB;
        (left_mib < wanted_mib).then_some(Lack { ram_mib, left_mib, wanted_mib })
    }

    /// All of the machine's RAM by what it is for.
    pub fn terms(&self, ram_mib: u64) -> Vec<RamTerm> {
        let plan = self.at(ram_mib);
        let total = total_of(ram_mib);
        let term = |name: &str, bytes: u64, source: &str| RamTerm { name: name.into(), bytes, source: source.into() };
        let share = |name: &str, kib: u64, source: &str| term(name, kib * KIB, source);
        vec![
            term("kernel, page structures", ram_mib * MIB - total, "measured: what MemTotal lacks of the RAM"),
            term("kernel when PID1 starts", kernel_at_start(total, self.packed), "measured: boots at 256 MiB to 4 GiB"),
            term("initramfs, image in memory", self.unpacked, "pages of what the kernel unpacks"),
            term("image that is fetched", self.fetched, "pages of the root image"),
            share("kernel later", plan.kernel, "`kernel_mib`: drivers and what they allocate"),
            share(
                "system",
                plan.system,
                "`system_mib` and 1/32 of the memory: PID1, services, logs, what is written to the root",
            ),
            share("containerd", plan.containerd, "`containerd_mib`"),
            share("shims", plan.shims, "`shim_mib` for each pod"),
            share("kubelet", plan.kubelet, "`kubelet_mib`"),
            share("pulled images", plan.images, "`images_percent` of the rest"),
            share("pods", plan.pods, "what is left: kubelet's limit for all of them"),
        ]
    }
}

/// `MemTotal`, bytes.
fn total_of(ram_mib: u64) -> u64 {
    let ram = ram_mib * MIB;
    ram.saturating_sub(KERNEL_RUNNING + ram / PAGE_STRUCTURES)
}

/// What is not available when PID1 starts, beside the pages of files; bytes. `packed`: the initrd, whose pages stay for a while on the lists of the
/// processors that have freed them, and then are free without being counted.
fn kernel_at_start(total: u64, packed: u64) -> u64 {
    interpolated(total, KERNEL_AT_START) + kept_free(total) + packed.min(total / FREED_PART)
}

/// Of `MemTotal`, MiB, what the kernel has allocated, MiB: boots of `worker` with an NBD root in QEMU, Debian 13 kernel 6.12.
const KERNEL_AT_START: &[(u64, u64)] = &[(210, 25), (271, 25), (461, 36), (713, 56), (965, 58), (1971, 53), (3919, 77)];
/// How much of a freed initrd was not counted: boots with a root in memory at 256 MiB to 2 GiB.
const FREED_PART: u64 = 80;

/// What the kernel keeps free of everybody: `high` watermarks, one and a half times `min_free_kbytes` (mm/page_alloc.c,
/// `calculate_min_free_kbytes`, `__setup_per_zone_wmarks`). From 512 MiB on there are huge pages, and it is at least a twentieth of the memory, or 22 MiB for each
/// of two zones, three above 3 GiB (mm/khugepaged.c, `set_recommended_min_free_kbytes`).
fn kept_free(total: u64) -> u64 {
    let plain = (16 * total / KIB).isqrt() * KIB;
    let zones = if total > 3 << 30 { 3 } else { 2 };
    let huge = if total < 512 * MIB { 0 } else { (total / 20).min(zones * 22 * MIB) };
    plain.max(huge) * 3 / 2
}

/// Between two measurements in proportion, beyond them as the nearest one.
fn interpolated(total: u64, points: &[(u64, u64)]) -> u64 {
    let at = total / MIB;
    let above = points.iter().position(|(x, _)| *x >= at).unwrap_or(points.len());
    match (above.checked_sub(1).and_then(|below| points.get(below)), points.get(above)) {
        (Some((x0, y0)), Some((x1, y1))) => {
            let up = y1.saturating_sub(*y0) * MIB * (at - x0) / (x1 - x0);
            let down = y0.saturating_sub(*y1) * MIB * (at - x0) / (x1 - x0);
            y0 * MIB + up - down
        }
        (Some((_, y)), None) | (None, Some((_, y))) => y * MIB,
        (None, None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kernel_mib: u32, packed: u64, unpacked: u64) -> NodeMemory {
        let shares = Memory { kernel_mib, ..bootwright_contract::fixture::memory() };
        NodeMemory { shares, workload_mib: Some(100), packed, unpacked, fetched: 0 }
    }

    /// What PID1 said on consoles of `worker`, RAM and MiB for pods: with its root in memory, and on an NBD server.
    #[test]
    fn the_model_says_what_machines_said() {
        let (in_memory, on_a_server) = (node(12, 40_800_000, 41_500_000), node(8, 2_400_000, 9_650_000));
        let seen = [
            (&in_memory, &[(256, 31), (512, 183), (1024, 472), (2048, 1174)][..]),
            (
                &on_a_server,
                &[(256, 42), (320, 80), (512, 211), (768, 339), (1024, 506), (2048, 1219), (4096, 2550)][..],
            ),
        ];
        for (node, boots) in seen {
            for (ram_mib, pods_mib) in boots {
                let said = node.at(*ram_mib).pods / KIB;
                assert!(
                    said.abs_diff(*pods_mib) * 10 <= *pods_mib,
                    "{ram_mib} MiB: {pods_mib} for pods, the model says {said}"
                );
            }
        }
    }

    #[test]
    fn terms_are_all_of_the_memory() {
        for (ram_mib, fetched) in [(192, 0), (512, 30 << 20), (8192, 1)] {
            let node = NodeMemory { fetched, ..node(8, 1 << 20, 5 << 20) };
            let sum: u64 = node.terms(ram_mib).iter().map(|term| term.bytes).sum();
            assert!(sum.abs_diff(ram_mib * MIB) < 4 * KIB, "{ram_mib}: {:?}", node.terms(ram_mib));
        }
    }

    #[test]
    fn too_little_for_the_workload_is_told() {
        let node = node(8, 1 << 20, 5 << 20);
        let lack = node.lacks(Some(256)).expect("256 MiB leave less than 100 for pods");
        assert_eq!((lack.ram_mib, lack.wanted_mib, lack.left_mib), (256, 100, node.at(256).pods / KIB));
        assert_eq!((node.lacks(Some(1024)), node.lacks(None)), (None, None));
    }
}
