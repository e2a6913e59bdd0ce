//! Writes `out/<recipe>/`: kernel, initrd, its segments, and the documents about them; swapped in as a whole.

mod error;
mod export;
mod ipxe;
pub mod manifest;
mod root;
mod sbom;
mod sign;
mod staging;
#[cfg(test)]
mod tests;
mod write;

pub use error::EmitError;
pub use ipxe::MANIFEST_WORD;
pub use root::{IMAGE as ROOT_IMAGE, IMAGES as IMAGES_FILE};
pub use sbom::{SbomFormats, carried as carried_sbom};
pub(crate) use staging::{FolderKind, Readers, Staging};
pub(crate) use write::write_file;

use crate::assembly::TreeBuild;
use crate::baked::BakedRecord;
use crate::budget::{self, BudgetReport, Sizes};
use crate::entry::Sha256;
use crate::measure::{CommandLine, MEASUREMENTS, MeasuredFile, MeasuredProgram, Measurements, VERSION};
use crate::recipe::{Allowance, CheckedRecipe, RootMode};
use crate::root_mode::server_files;
use crate::segment::{NetworkImages, NetworkRoot, PackedSegment};
use crate::signing::SigningKey;
use crate::source::{PackageFacts, PatchFacts, Pin};
use crate::ui::Ui;
use manifest::{BootFile, MANIFEST, Manifest, RamRecord, load_manifest};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Folder of the configurations of servers in an image's own.
const SERVERS: &str = "servers";

/// All that an image's folder is made from.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    pub recipe: &'a CheckedRecipe,
    pub build: &'a TreeBuild,
    /// In the order in which they stand in `initrd.img`.
    pub segments: &'a [PackedSegment],
    /// The root, where the initrd does not hold it.
    pub root: Option<&'a NetworkRoot>,
    /// The container images that are baked in, and their file where the initrd does not hold it.
    pub baked: &'a [BakedRecord],
    pub images: Option<&'a NetworkImages>,
    /// Content id, hex.
    pub image_id: &'a str,
    /// Names and lines of its PID1, an ELF file.
    pub pid1_debug: Option<&'a [u8]>,
    pub sources: &'a [SourceRecord],
    /// That the recipe allows in it.
    pub secrets: &'a [Allowance],
    /// Seconds since 1970 of the lock: the only time in what is written.
    pub time: u64,
    /// What bills of materials are written.
    pub sbom: SbomFormats,
    /// Who signs the root image, and its serial.
    pub signing: Option<(&'a SigningKey, u64)>,
}

impl Image<'_> {
    /// Its initrd takes other roots than this build's, if they are signed.
    fn is_renewable(&self) -> bool {
        self.root.is_some() && (self.signing.is_some() || self.recipe.root.trust.is_some())
    }
}

/// What a component was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceRecord {
    pub component: String,
    /// `deb`, `url`, `go`, `oci` or `path`; `rust` for PID1.
    pub kind: String,
    pub pins: Vec<Pin>,
    /// By pin name; more than the pins where a source knows what is inside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PackageFacts>,
    /// What was changed in the packages' source code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<PatchFacts>,
}

impl SourceRecord {
    /// Names and versions of the packages that are in the image, as in its bill of materials.
    pub fn packages_within(&self) -> Vec<(&str, &str)> {
        sbom::packages_of(self).into_iter().map(|package| (package.name, package.version)).collect()
    }
}

/// What became of an image. While this is there, no other build replaces what lies in `<out>/<recipe>/`.
#[derive(Debug)]
pub struct Emitted {
    /// What the image weighs, compared with what was there before.
    pub budget: BudgetReport,
    pub manifest: Manifest,
    /// Of the image that it took the place of.
    pub earlier: Option<Manifest>,
    _staging: Staging,
}

const KERNEL: &str = "vmlinuz";
const INITRD: &str = "initrd.img";
const SCRIPT: &str = "boot.ipxe";
/// Names and lines of PID1: boots nothing, tells what an address on a console was.
pub(crate) const PID1_DEBUG: &str = "init.debug";
const SUMS: &str = "SHA256SUMS";

/// Writes `<out>/<recipe>/` beside the old one, and puts it in its place when it is whole and within its budget; `smoke/`
/// stays. Over budget, what was there before stays.
///
/// # Errors
/// [`EmitError`]; what was there before is then still there.
pub fn emit_image(image: &Image<'_>, out: &Path, ui: &Ui) -> Result<Emitted, EmitError> {
    let readers = if image.secrets.is_empty() { Readers::All } else { Readers::Group };
    let staging = Staging::start(out, &image.recipe.image_name(), staging::IMAGE_FOLDER, readers)?;
    staging.make_folder("segments")?;
    let earlier = load_manifest(&staging.target().join(MANIFEST)).ok();
    let dir = staging.dir();
    let kernel = &image.build.kernel.vmlinuz;
    let measured_kernel = write::copy_kernel(kernel, &dir.join(KERNEL))?;
    let initrd = write::write_initrd(image.segments, &dir.join(INITRD))?;
    let segments = write::place_segments(image.segments, dir)?;
    let mut files = vec![
        BootFile { path: KERNEL.into(), size: kernel.size, sha256: kernel.sha256 },
        BootFile { path: INITRD.into(), size: image.segments.iter().map(|s| s.size).sum(), sha256: initrd },
    ];
    let mut root_files = match image.root {
        Some(root) => root::write_root(image.recipe.root.mode, root, dir)?,
        None => Vec::new(),
    };
    if let Some(images) = image.images {
        root_files.push(root::write_images(images, dir)?);
    }
    if image.recipe.root.mode == RootMode::Nfs && !export::owners_are_exact() {
        ui.say(format_args!("{}/: its files belong to you; `{}` has the owners", root::TREE, root::TAR));
    }
    let mut manifest = manifest::new_manifest(image, files.clone(), &segments, root_files.clone());
    let report = assess(image, &manifest, earlier.as_ref());
    manifest.ram = Some(RamRecord { unpack_mib: report.unpack.ram_mib, run_mib: report.steady.ram_mib });
    files.extend(root_files);
    let mut documents =
        vec![(SCRIPT.to_string(), ipxe::boot_script(image)?.into_bytes()), (MANIFEST.to_string(), manifest.to_json())];
    documents.push((MEASUREMENTS.to_string(), measurements(image, measured_kernel, initrd)?.to_json()));
    let bill = sbom::Bill {
        recipe: &image.recipe.name,
        id: image.image_id,
        time: image.time,
        files: &files,
        sources: image.sources,
    };
    documents.extend(image.sbom.documents(&bill));
    documents.extend(image.pid1_debug.map(|debug| (PID1_DEBUG.to_string(), debug.to_vec())));
    documents.extend(sign::signed_manifest(image));
    let servers = server_files(&image.recipe.name, image.recipe.root.mode, image.images.is_some());
    if !servers.is_empty() {
        staging.make_folder(SERVERS)?;
    }
    documents.extend(servers.into_iter().map(|s| (format!("{SERVERS}/{}", s.name), s.text.into_bytes())));
    for (name, bytes) in documents {
        write::write_file(&dir.join(&name), &bytes)?;
        files.push(BootFile { path: name, size: bytes.len() as u64, sha256: Sha256::of(&bytes) });
    }
    let of_segments = manifest.segments.iter().map(|s| (s.path.as_str(), s.sha256));
    let mut sums: Vec<(&str, Sha256)> = files.iter().map(|f| (f.path.as_str(), f.sha256)).chain(of_segments).collect();
    sums.sort();
    // As sha256sum(1) checks it.
    let sums: String = sums.iter().map(|(path, sha256)| format!("{sha256}  {path}\n")).collect();
    write::write_file(&dir.join(SUMS), sums.as_bytes())?;
    if report.violations().is_empty() {
        staging.finish()?;
        ui.detail(format_args!("wrote {}", staging.target().display()));
    }
    Ok(Emitted { budget: report, manifest, earlier, _staging: staging })
}

fn measurements(image: &Image<'_>, kernel: Option<MeasuredProgram>, initrd: Sha256) -> Result<Measurements, EmitError> {
    Ok(Measurements {
        version: VERSION,
        recipe: image.recipe.name.clone(),
        image_id: image.image_id.into(),
        kernel,
        initrd: MeasuredFile::initrd(INITRD, initrd),
        command_line: CommandLine::of_ipxe(ipxe::kernel_line(image)?),
    })
}

fn assess(image: &Image<'_>, manifest: &Manifest, earlier: Option<&Manifest>) -> BudgetReport {
    let recipe = image.recipe;
    let sizes = Sizes {
        kernel: image.build.kernel.vmlinuz.size,
        kernel_component: &recipe.kernel.component,
        segments: image.segments,
        root: image.root.map(|root| &root.segment),
        root_in_ram: match (image.recipe.root.mode, image.root) {
            (RootMode::Http, Some(root)) => root.proven.size,
            _ => 0,
        },
        images: image.images.map(|images| &images.segment),
        images_in_ram: match (image.recipe.root.mode, image.images) {
            (RootMode::Http, Some(images)) => images.image.size,
            _ => 0,
        },
        boot: recipe.pack.boot,
        stable: recipe.pack.stable,
        volatile: recipe.pack.volatile,
        cmdline: &recipe.kernel.cmdline,
        memory: recipe.memory.as_ref(),
    };
    budget::assess(sizes, &recipe.budget, &manifest.file_sizes(), earlier.map(Manifest::weights).as_ref())
}
