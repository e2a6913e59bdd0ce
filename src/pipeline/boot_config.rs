//! The boot config that goes into an image, from the checked recipe and what the tree found.

use crate::recipe::CheckedRecipe;
use crate::tree::KernelBuild;
use bootwright_contract::{BootConfig, CONTRACT_VERSION, Lost, Modules, Root, SegmentSums};

/// The image's id is still empty. `clock_floor`: seconds since 1970. `segments`: sums of boot, root and config.
pub fn boot_config(
    recipe: &CheckedRecipe,
    kernel: &KernelBuild,
    clock_floor: u64,
    segments: Vec<SegmentSums>,
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
        root: Root {
            mode: recipe.root.mode,
            sources: Vec::new(),
            image: recipe.root.image,
            size: None,
            sha256: None,
            tree_sums_sha256: None,
            read_write: false,
            lost: Lost::Wait,
            overlay_size: recipe.root.overlay_size.clone(),
            read_ahead_kb: recipe.root.read_ahead_kb,
            tmpfs: recipe.root.tmpfs.clone(),
        },
        zram: recipe.zram.clone(),
        sysctls: recipe.sysctls.clone(),
        hostname: recipe.hostname.clone(),
        services: recipe.services.clone(),
        policies: recipe.policies.clone(),
        shutdown_timeout_s: recipe.shutdown_timeout_s,
    }
}
