//! The boot config that goes into an image, from the checked recipe and what the tree found.

use crate::kmod::KernelBuild;
use crate::recipe::CheckedRecipe;
use crate::segment::NetworkRoot;
use bootwright_contract::{BootConfig, CONTRACT_VERSION, Images, Modules, Root, SegmentSums, Trust};

/// The image's id is still empty. `clock_floor`: seconds since 1970. `segments`: sums of those of the initrd. `root`: the
/// root, where the initrd does not hold it. `images`: those that are baked in. `trust`: whose other root images are taken.
pub fn boot_config(
    recipe: &CheckedRecipe,
    kernel: &KernelBuild,
    clock_floor: u64,
    segments: Vec<SegmentSums>,
    root: Option<&NetworkRoot>,
    images: Option<Images>,
    trust: Option<Trust>,
) -> BootConfig {
    BootConfig {
        version: CONTRACT_VERSION,
        recipe: recipe.name.clone(),
        image_id: String::new(),
        clock_floor,
        segments,
        modules: Modules {
            release: kernel.release.clone(),
            early: kernel.early.clone(),
            load: kernel.load.clone(),
            coldplug: true,
        },
        network: recipe.network.clone(),
        time: recipe.time.clone(),
        root: Root {
            mode: recipe.root.mode.into(),
            sources: recipe.root.sources.clone(),
            size: root.map(|root| root.proven.size),
            sha256: root.map(|root| root.proven.sha256.to_string()),
            verity: root.map(|root| root.proven.verity.clone()),
            tree_xxh64: root.and_then(|root| root.tree_xxh64.clone()),
            tree_sums_sha256: root.map(|root| root.export.sums_sha256.to_string()),
            lost_reboot_s: recipe.root.lost_reboot_s,
            corrupted_reboot_s: recipe.root.corrupted_reboot_s,
            trust,
            image: recipe.root.image,
            overlay_size: recipe.root.overlay_size.clone(),
            read_ahead_kb: recipe.root.read_ahead_kb,
            tmpfs: recipe.root.tmpfs.clone(),
        },
        images,
        state: recipe.state.clone(),
        zram: recipe.zram.clone(),
        report: recipe.report.clone(),
        sysctls: recipe.sysctls.clone().into(),
        hostname: recipe.hostname.clone(),
        services: recipe.services.clone(),
        policies: recipe.policies.clone().into(),
        shutdown_timeout_s: recipe.shutdown_timeout_s,
        watchdog: recipe.watchdog.clone(),
        memory: recipe.memory.as_ref().map(|memory| memory.shares.clone()),
    }
}
