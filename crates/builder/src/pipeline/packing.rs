//! Tree -> Segments -> Packed: boot and root side by side, then config, which names the others.

use super::baking::Baking;
use super::{Options, boot_config::boot_config, sysctl_d};
use crate::assembly::TreeBuild;
use crate::entry::{Body, Entry, Kind, Sha256};
use crate::error::{Exit, Failure};
use crate::pack::{
    Holder, PackContext, PackError, PackSettings, check_xattrs, describe_segment, image_of, pack_images, pack_segment,
    prove, xxh64_of,
};
use crate::recipe::{CheckedRecipe, RootMode, SegmentName};
use crate::segment::{
    Archive, NetworkImages, NetworkRoot, PackedSegment, Reserved, boot_config_entry, config_sums, is_image, lay_out,
    lay_out_export,
};
use crate::tree::Tree;
use bootwright_contract::sums::is_module;
use bootwright_contract::{BootConfig, Images, SegmentSums, Trust, paths};
use sha2::{Digest, Sha256 as Hasher};

/// Container images of at most so many bytes are in the initrd, wherever the root is.
const SMALL_IMAGES: u64 = 256 << 10;

/// The segments in the order of `initrd.img`, and the image's id.
pub struct Packing {
    pub segments: Vec<PackedSegment>,
    /// The root, where it is not in the initrd.
    pub root: Option<NetworkRoot>,
    /// Container images, where they are not in the initrd.
    pub images: Option<NetworkImages>,
    /// 32 hex digits of a hash over kernel, segments and command line.
    pub image_id: String,
}

impl Packing {
    /// All packed segments, wherever they go.
    pub fn packed(&self) -> impl Iterator<Item = &PackedSegment> {
        let elsewhere = self.root.as_ref().map(|root| &root.segment);
        self.segments.iter().chain(elsewhere).chain(self.images.as_ref().map(|images| &images.segment))
    }
}

/// Packs the segments; those of a network root and of images beside it are no part of the initrd. `clock_floor`: seconds since 1970.
pub fn pack_all(
    recipe: &CheckedRecipe,
    build: &TreeBuild,
    baking: Option<&Baking>,
    clock_floor: u64,
    trust: Option<Trust>,
    options: &Options,
) -> Result<Packing, Failure> {
    let how = PackSettings::of(recipe);
    let cx = PackContext { cache: &options.cache, ui: &options.ui, jobs: options.settings.jobs };
    let pack = |name: SegmentName, extra: &[Entry]| -> Result<PackedSegment, PackError> {
        pack_segment(name, &build.tree, extra, &how, cx)
    };
    let (boot, images, root) = std::thread::scope(|scope| {
        let boot = scope.spawn(|| pack(SegmentName::Boot, &[]));
        let images = scope.spawn(|| baking.map(|baking| pack_images(&baking.baked.entries, cx)).transpose());
        let root = pack(SegmentName::Root, &[]);
        (boot.join().expect("packing does not panic"), images.join().expect("packing does not panic"), root)
    });
    let (boot, images, root) = (boot?, images?, root?);
    let images = images.map(network_images).transpose()?;
    let config_sums = config_sums(&build.tree).map_err(reserved)?;
    let mut network_root = match recipe.root.mode.is_network() {
        true => Some(network_root(&root, &build.tree, recipe)?),
        false => None,
    };
    // Where an initrd holds no root it may still hold images: a second disk for a few kilobytes would be all trouble.
    let apart = network_root.is_some() && images.as_ref().is_some_and(|images| images.image.size > SMALL_IMAGES);
    if let (Some(root), Some(NetworkImages { image, .. }), true) = (&mut network_root, &images, apart) {
        add_to_export(&mut root.export, image);
    }
    let files = |name| -> Result<String, Failure> {
        Ok(xxh64_of(listed_files(&lay_out(name, &build.tree, &[]).map_err(reserved)?))?)
    };
    let sums = |name: SegmentName, sums: Sha256, xxh64: Option<String>| SegmentSums {
        name: name.as_str().into(),
        sums_sha256: sums.to_string(),
        xxh64,
    };
    let mut named = vec![sums(SegmentName::Boot, boot.sums_sha256, Some(files(SegmentName::Boot)?))];
    if network_root.is_none() {
        let xxh64 = match is_image(SegmentName::Root, recipe.root.image) {
            true => xxh64_of([(paths::ROOT_IMAGE, &image_of(&root)?)].into_iter())?,
            false => files(SegmentName::Root)?,
        };
        named.push(sums(SegmentName::Root, root.sums_sha256, Some(xxh64)));
    }
    if let (Some(NetworkImages { segment, image }), false) = (&images, apart) {
        let xxh64 = xxh64_of([(paths::IMAGES_FILE, image)].into_iter())?;
        named.push(sums(SegmentName::Images, segment.sums_sha256, Some(xxh64)));
    }
    named.push(sums(SegmentName::Config, config_sums, None));
    let told = images.as_ref().zip(baking).map(|(images, baking)| Images {
        sha256: images.image.sha256.to_string(),
        size: images.image.size,
        // What comes with the initramfs has the segment's sums.
        verity: images.segment.verity.clone().filter(|_| apart),
        store: baking.store.clone(),
    });
    let mut config = boot_config(recipe, &build.kernel, clock_floor, named, network_root.as_ref(), told, trust);
    config.sysctls = sysctl_d::add_to(&recipe.sysctls, &build.tree, &options.ui)?;
    let to_json = |config: &BootConfig| serde_json::to_vec_pretty(config).expect("the boot config is plain data");
    config.image_id = image_id(recipe, build, [&boot, &root], &to_json(&config));
    let image_id = config.image_id.clone();
    let json = to_json(&config);
    let config = pack(SegmentName::Config, &[boot_config_entry(json)])?;
    let (carried, images) = if apart { (None, images) } else { (images.map(|images| images.segment), None) };
    let root = network_root.is_none().then_some(root);
    let segments = [Some(boot), root, carried, Some(config)].into_iter().flatten().collect();
    Ok(Packing { segments, root: network_root, images, image_id })
}

/// The files that an archive's sums list, in that order, but for kernel modules, which are compared as they are loaded.
fn listed_files(archive: &Archive) -> impl Iterator<Item = (&str, &Body)> {
    let own = &paths::SUMS[1..];
    let wanted = move |entry: &&Entry| !entry.path.starts_with(own) && !is_module(&entry.path);
    archive.entries.iter().filter(wanted).filter_map(|entry| match &entry.kind {
        Kind::File(body) => Some((entry.path.as_str(), body)),
        _ => None,
    })
}

/// Takes the image out of the packed root segment, and lays the same root out as files.
fn network_root(segment: &PackedSegment, tree: &Tree, recipe: &CheckedRecipe) -> Result<NetworkRoot, Failure> {
    let image = image_of(segment)?;
    let proven = prove(paths::ROOT_IMAGE, &image)?;
    let export = lay_out_export(tree).map_err(reserved)?;
    let as_files = recipe.root.mode == RootMode::Nfs || recipe.root.choices.contains(&RootMode::Nfs);
    if as_files {
        check_xattrs(tree.segment(SegmentName::Root), Holder::Nfs)?;
    }
    let tree_xxh64 = if as_files { Some(xxh64_of(listed_files(&export))?) } else { None };
    Ok(NetworkRoot { segment: segment.clone(), image, proven, export, tree_xxh64 })
}

/// A server of files gives the images out with the root; no sums list them, as they prove themselves.
fn add_to_export(export: &mut Archive, image: &Body) {
    let path = paths::IMAGES_FILE.trim_start_matches('/');
    let at = export.entries.partition_point(|entry| entry.path.as_str() < path);
    export.entries.insert(at, Entry::of_root(path, Kind::File(image.clone()), 0o644));
}

/// Takes the file of all images out of their segment.
fn network_images(segment: PackedSegment) -> Result<NetworkImages, PackError> {
    let image = image_of(&segment)?;
    Ok(NetworkImages { segment, image })
}

fn reserved(e: Reserved) -> Failure {
    Failure {
        exit: Exit::Usage,
        message: e.to_string(),
        help: Some("the image's own layout uses that path: choose another one".into()),
    }
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
