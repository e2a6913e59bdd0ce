//! What modules export to each other, and who needs what of it.

use super::KmodError;
use super::kernel::KernelFiles;
use super::modinfo::{ModInfo, exported};
use bootwright_contract::modalias::module_name;
use goblin::elf::Elf;
use goblin::elf::section_header::SHN_UNDEF;
use std::collections::{BTreeMap, BTreeSet};

/// Symbols that an unpacked module needs of others, in the order of its table of symbols. Its first row has no name.
fn needed(bytes: &[u8]) -> Result<Vec<String>, String> {
    let elf = Elf::parse(bytes).map_err(|e| e.to_string())?;
    let undefined = elf.syms.iter().filter(|symbol| symbol.st_shndx == SHN_UNDEF as usize);
    let names = undefined.filter_map(|symbol| elf.strtab.get_at(symbol.st_name)).filter(|name| !name.is_empty());
    Ok(names.map(Into::into).collect())
}

/// Sorts what each module depends on as depmod finds it: by the first symbol of the module that it has. `depends=`, which
/// the kernel's build wrote, has another order.
pub fn order_depends(files: &KernelFiles, infos: &mut BTreeMap<String, ModInfo>, jobs: usize) -> Result<(), KmodError> {
    let several: Vec<&String> = infos.iter().filter(|(_, info)| info.depends.len() > 1).map(|(name, _)| name).collect();
    let depends = several.iter().flat_map(|name| &infos[*name].depends).map(|name| module_name(name));
    let owners: BTreeSet<String> = depends.filter(|name| files.modules.contains_key(name)).collect();
    let owners: Vec<&String> = owners.iter().collect();
    let exports = files.read_modules(&owners, jobs, exported)?;
    let exports: BTreeMap<&str, BTreeSet<String>> = owners.iter().map(|name| name.as_str()).zip(exports).collect();
    let needs = files.read_modules(&several, jobs, needed)?;
    let needs: BTreeMap<String, Vec<String>> = several.into_iter().cloned().zip(needs).collect();
    for (name, needs) in &needs {
        let first_of = |depends: &String| {
            let exports = exports.get(module_name(depends).as_str());
            needs
                .iter()
                .position(|symbol| exports.is_some_and(|exports| exports.contains(symbol)))
                .unwrap_or(usize::MAX)
        };
        if let Some(info) = infos.get_mut(name) {
            info.depends.sort_by_cached_key(first_of);
        }
    }
    Ok(())
}
