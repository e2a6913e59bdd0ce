//! A kernel package: the kernel's own file, its release, its modules by name and what is built in.

use super::KmodError;
use super::modinfo::{ModInfo, exported, parse_modinfo, unpack_module};
use crate::entry::{Body, Kind};
use crate::parallel;
use crate::recipe::Kernel;
use crate::tree::Supply;
use bootwright_contract::modalias::{kernel_name, module_name};
use std::collections::{BTreeMap, BTreeSet};

/// A module file of the package.
#[derive(Debug, Clone)]
pub struct ModuleFile {
    /// Below the release's folder: `kernel/fs/ext4/ext4.ko.xz`.
    pub path: String,
    pub body: Body,
}

impl ModuleFile {
    /// The same, unpacked: `kernel/fs/ext4/ext4.ko`.
    pub fn plain_path(&self) -> &str {
        let end = self.path.find(".ko").map_or(self.path.len(), |at| at + 3);
        &self.path[..end]
    }
}

#[derive(Debug)]
pub struct KernelFiles {
    pub release: String,
    pub vmlinuz: Body,
    /// By [`module_name`].
    pub modules: BTreeMap<String, ModuleFile>,
    /// Text of `modules.builtin`.
    pub builtin_list: String,
    /// Names of modules that are built in.
    pub builtin: BTreeSet<String>,
    /// Modules that are built in, by [`module_name`], and an alias of each.
    pub builtin_aliases: Vec<(String, String)>,
    /// Place of each module in `modules.order`, in which the kernel's build linked them.
    pub order: BTreeMap<String, usize>,
}

impl KernelFiles {
    pub fn load(kernel: &Kernel, supply: &Supply<'_>) -> Result<Self, KmodError> {
        let (component, origin) = (kernel.component.clone(), kernel.origin.clone());
        let Some(part) = supply.part(&kernel.component) else {
            return Err(KmodError::NoComponent { component, origin });
        };
        let file = |path: &str| match part.offers.get(path).map(|offered| &offered.entry.kind) {
            Some(Kind::File(body)) => Some(body),
            _ => None,
        };
        let below = |prefix: &'static str| {
            part.offers.range(prefix.to_string()..).take_while(move |(path, _)| path.starts_with(prefix))
        };
        let kernels: Vec<&str> = below("boot/vmlinuz-").map(|(path, _)| path.as_str()).collect();
        let [path] = kernels[..] else {
            return Err(KmodError::NotOneKernel { component, found: kernels.len(), origin });
        };
        let release = path["boot/vmlinuz-".len()..].to_string();
        let vmlinuz = file(path).cloned().ok_or(KmodError::NotOneKernel { component, found: 0, origin })?;
        let folder = format!("usr/lib/modules/{release}/");
        let mut modules = BTreeMap::new();
        for (path, _) in below("usr/lib/modules/").filter(|(path, _)| path.contains(".ko")) {
            if let (Some(inner), Some(body)) = (path.strip_prefix(&folder), file(path)) {
                modules.insert(module_name(inner), ModuleFile { path: inner.into(), body: body.clone() });
            }
        }
        let text = |name: &str| file(&format!("{folder}{name}")).map_or(Ok(Vec::new()), |body| read(name, body));
        let builtin_list = String::from_utf8_lossy(&text("modules.builtin")?).into_owned();
        let builtin = builtin_list.lines().filter(|line| !line.is_empty()).map(module_name).collect();
        let builtin_aliases = parse_builtin_aliases(&text("modules.builtin.modinfo")?);
        let order = String::from_utf8_lossy(&text("modules.order")?).into_owned();
        let order = order.lines().enumerate().map(|(place, path)| (module_name(path), place)).collect();
        Ok(Self { release, vmlinuz, modules, builtin_list, builtin, builtin_aliases, order })
    }

    /// `.modinfo` of some modules, read at once.
    pub fn read_infos(&self, names: &[&String], jobs: usize) -> Result<Vec<ModInfo>, KmodError> {
        self.read_modules(names, jobs, parse_modinfo)
    }

    /// Modules that export a symbol.
    pub fn exporting(&self, symbol: &str, jobs: usize) -> Result<Vec<String>, KmodError> {
        let names: Vec<&String> = self.modules.keys().collect();
        let exporting = self.read_modules(&names, jobs, |bytes| Ok(exported(bytes)?.contains(symbol)))?;
        Ok(names.into_iter().zip(exporting).filter(|(_, exports)| *exports).map(|(name, _)| name.clone()).collect())
    }

    /// What `parse` makes of each of some modules.
    pub fn read_modules<T: Send>(
        &self,
        names: &[&String],
        jobs: usize,
        parse: impl Fn(&[u8]) -> Result<T, String> + Sync,
    ) -> Result<Vec<T>, KmodError> {
        let files: Vec<&ModuleFile> = names.iter().map(|name| &self.modules[*name]).collect();
        let parsed = parallel::map(&files, jobs, |file| {
            let bytes = read_plain(file)?;
            parse(&bytes).map_err(|problem| KmodError::BadModule { path: file.path.clone(), problem })
        });
        parsed.into_iter().collect()
    }
}

/// A module's bytes, unpacked.
pub fn read_plain(file: &ModuleFile) -> Result<Vec<u8>, KmodError> {
    let bytes = read(&file.path, &file.body)?;
    unpack_module(&file.path, bytes).map_err(|problem| KmodError::BadModule { path: file.path.clone(), problem })
}

fn read(path: &str, body: &Body) -> Result<Vec<u8>, KmodError> {
    let bytes = body.read_start(body.size).map_err(|cause| KmodError::Read { path: path.into(), cause })?;
    match bytes.len() as u64 == body.size {
        true => Ok(bytes),
        false => Err(KmodError::Read { path: path.into(), cause: std::io::ErrorKind::UnexpectedEof.into() }),
    }
}

/// `modules.builtin.modinfo`: NUL-separated `<module>.<key>=<value>` (Documentation/kbuild/kbuild.rst).
fn parse_builtin_aliases(bytes: &[u8]) -> Vec<(String, String)> {
    let fields = bytes.split(|b| *b == 0).filter_map(|field| std::str::from_utf8(field).ok());
    let alias = |field: &str| {
        let (key, alias) = field.split_once('=')?;
        Some((kernel_name(key.strip_suffix(".alias")?), alias.to_string()))
    };
    fields.filter_map(alias).collect()
}
