//! Tree -> Segments -> Packed: boot and root side by side, then config, which names the others.

use super::{Options, boot_config::boot_config};
use crate::entry::{Entry, Sha256};
use crate::error::{Exit, Failure};
use crate::pack::{PackContext, PackError, PackSettings, describe_segment, pack_segment};
use crate::recipe::{CheckedRecipe, SegmentName};
use crate::segment::{PackedSegment, boot_config_entry, config_sums};
use crate::tree::TreeBuild;
use bootwright_contract::{BootConfig, SegmentSums};
use sha2::{Digest, Sha256 as Hasher};

/// The segments in the order of `initrd.img`, and the image's id.
pub struct Packing {
    pub segments: Vec<PackedSegment>,
    /// 32 hex digits of a hash over kernel, segments and command line.
    pub image_id: String,
}

/// Packs the three segments. `clock_floor`: seconds since 1970.
pub fn pack_all(
    recipe: &CheckedRecipe,
    build: &TreeBuild,
    clock_floor: u64,
    options: &Options,
) -> Result<Packing, Failure> {
    let how = PackSettings::of(recipe);
    let pack = |name: SegmentName, extra: &[Entry]| -> Result<PackedSegment, PackError> {
        let cx = PackContext { cache: &options.cache, ui: &options.ui, jobs: options.settings.jobs };
        pack_segment(name, &build.tree, extra, &how, cx)
    };
    let (boot, root) = std::thread::scope(|scope| {
        let boot = scope.spawn(|| pack(SegmentName::Boot, &[]));
        let root = pack(SegmentName::Root, &[]);
        (boot.join().expect("packing does not panic"), root)
    });
    let (boot, root) = (boot?, root?);
    let config_sums = config_sums(&build.tree).map_err(|e| Failure {
        exit: Exit::Usage,
        message: e.to_string(),
        help: Some("the image's own layout uses that path: choose another one".into()),
    })?;
    let sums =
        |name: SegmentName, sums: Sha256| SegmentSums { name: name.as_str().into(), sums_sha256: sums.to_string() };
    let named = vec![
        sums(SegmentName::Boot, boot.sums_sha256),
        sums(SegmentName::Root, root.sums_sha256),
        sums(SegmentName::Config, config_sums),
    ];
    let mut config = boot_config(recipe, &build.kernel, clock_floor, named);
    let to_json = |config: &BootConfig| serde_json::to_vec_pretty(config).expect("the boot config is plain data");
    config.image_id = image_id(recipe, build, [&boot, &root], &to_json(&config));
    let image_id = config.image_id.clone();
    let json = to_json(&config);
    let config = pack(SegmentName::Config, &[boot_config_entry(json)])?;
    Ok(Packing { segments: vec![boot, root, config], image_id })
}

/// A hash of the whole image: kernel, command line, packed segments, and of the config segment, which names the id, its
/// entries and the boot config as it is without.
fn image_id(recipe: &CheckedRecipe, build: &TreeBuild, packed: [&PackedSegment; 2], config: &[u8]) -> String {
    let mut hasher = Hasher::new();
    hasher.update(build.kernel.vmlinuz.sha256.0);
    hasher.update(recipe.kernel.cmdline.join(" "));
    packed.iter().for_each(|segment| hasher.update(segment.sha256.0));
    hasher.update(describe_segment(SegmentName::Config, &build.tree));
    hasher.update(config);
    hex::encode(hasher.finalize())[..32].to_string()
}
