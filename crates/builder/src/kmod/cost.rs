//! What further modules would cost an image, measured with the kernel package that it is built from.

use super::KmodError;
use super::kernel::{KernelFiles, read_plain};
use super::select::select;
use super::strip::strip_module;
use crate::cache::Cache;
use crate::parallel;
use crate::recipe::{CheckedRecipe, Kernel, ModuleRequest};
use crate::tree::Supply;
use bootwright_contract::modalias::module_name;
use serde::Serialize;
use std::collections::BTreeSet;

/// Level of zstd where the recipe names none: that of mksquashfs.
const DEFAULT_LEVEL: i32 = 15;

/// Modules that come into an image, with all that they need and it lacks.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ModuleCost {
    /// Sorted.
    pub modules: Vec<String>,
    /// Asked for, but the kernel package has no module of that name.
    pub absent: Vec<String>,
    /// Bytes as they lie in the root.
    pub raw: u64,
    /// Bytes that they take when blocks of the root's size are compressed with zstd, next to nothing else.
    pub packed: u64,
}

/// Measures. `present`: modules that the image has, by [`module_name`].
pub(crate) fn module_cost(
    recipe: &CheckedRecipe,
    supply: &Supply<'_>,
    wanted: &[String],
    present: &BTreeSet<String>,
    cache: &Cache,
    jobs: usize,
) -> Result<ModuleCost, KmodError> {
    let kernel = &recipe.kernel;
    let files = KernelFiles::load(kernel, supply)?;
    let is_known = |name: &&String| {
        let name = module_name(name);
        files.modules.contains_key(&name) || files.builtin.contains(&name)
    };
    let (known, absent): (Vec<&String>, Vec<&String>) = wanted.iter().partition(is_known);
    let request = |name: &&String| ModuleRequest { text: (*name).clone(), origin: kernel.origin.clone() };
    let asked = Kernel {
        modules: known.iter().map(request).collect(),
        load: Vec::new(),
        netroot: None,
        modaliases: Vec::new(),
        ..kernel.clone()
    };
    let selection = select(&asked, &files, cache, jobs)?;
    let modules: Vec<String> = selection.root.into_keys().filter(|name| !present.contains(name)).collect();
    let of_package: u64 = modules.iter().map(|name| files.modules[name].body.size).sum();
    let (raw, packed) = match kernel.strip_root {
        true => packed_size(&modules, &files, recipe, jobs)?,
        // The package's own files, which are compressed already.
        false => (of_package, of_package),
    };
    Ok(ModuleCost { modules, absent: absent.into_iter().cloned().collect(), raw, packed })
}

/// Bytes of the modules without what they can be loaded without, and of the same packed.
fn packed_size(
    modules: &[String],
    files: &KernelFiles,
    recipe: &CheckedRecipe,
    jobs: usize,
) -> Result<(u64, u64), KmodError> {
    let stripped = parallel::map(modules, jobs, |name| {
        let file = &files.modules[name];
        strip_module(&read_plain(file)?).map_err(|problem| KmodError::CannotStrip { path: file.path.clone(), problem })
    });
    let bytes = stripped.into_iter().collect::<Result<Vec<Vec<u8>>, KmodError>>()?.concat();
    let level = recipe.root.level.filter(|_| recipe.root.compressor == "zstd");
    let level = level.and_then(|level| i32::try_from(level).ok()).unwrap_or(DEFAULT_LEVEL);
    let blocks: Vec<&[u8]> = bytes.chunks(recipe.root.block_kib as usize * 1024).collect();
    let sizes =
        parallel::map(&blocks, jobs, |block| zstd::bulk::compress(block, level).map(|packed| packed.len() as u64));
    let sizes: std::io::Result<Vec<u64>> = sizes.into_iter().collect();
    let sizes = sizes.map_err(|cause| KmodError::Read { path: "a kernel module".into(), cause })?;
    Ok((bytes.len() as u64, sizes.into_iter().sum()))
}

/// The kernel's config, `boot/config-<release>` of its component; `None` where it has none.
pub(crate) fn load_config(
    recipe: &CheckedRecipe,
    supply: &Supply<'_>,
    release: &str,
) -> Result<Option<String>, KmodError> {
    let path = format!("boot/config-{release}");
    let offered = supply.part(&recipe.kernel.component).and_then(|part| part.offers.get(&path));
    let Some(crate::entry::Kind::File(body)) = offered.map(|offered| &offered.entry.kind) else { return Ok(None) };
    let bytes = body.read_start(body.size).map_err(|cause| KmodError::Read { path, cause })?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}
