//! Puts the kernel's modules, their lists and their firmware into the tree.

use super::KmodError;
use super::firmware::add_firmware;
use super::kernel::{KernelFiles, ModuleFile, read_plain};
use super::select::{Demand, Selection, Unserved, select};
use super::strip::strip_module;
use super::tables::{
    ListedModule, ListedModules, Table, format_softdep, format_sums, index_builtin_alias, list_alias, list_builtin,
    list_dep,
};
use crate::cache::Cache;
use crate::entry::{Body, BodyAt, Entry, Kind, Sha256};
use crate::module_signing::ModuleSigner;
use crate::parallel;
use crate::recipe::{CheckedRecipe, Kernel, SegmentName};
use crate::tree::{Draft, Reason, Supply, TreeEntry};
use bootwright_contract::paths::MODULE_SUMS;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::collections::BTreeMap;
use twox_hash::XxHash64;

/// Raised when the same kernel and requests are selected otherwise.
const FORMAT: u32 = 12;

/// What the cache keeps: the selection, and the modules that it unpacked.
#[derive(Debug, Serialize, Deserialize)]
struct CachedSelection {
    selection: Selection,
    plain: BTreeMap<String, UnpackedModule>,
}

/// An unpacked module in the cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct UnpackedModule {
    sha256: Sha256,
    size: u64,
    xxh64: String,
}

/// The kernel that the image boots.
#[derive(Debug, Clone)]
pub struct KernelBuild {
    /// The folder's name below `/lib/modules`.
    pub release: String,
    /// The kernel itself, `boot/vmlinuz-<release>` of its component.
    pub vmlinuz: Body,
    /// Names of the early modules in the order in which they are to be loaded; those built into the kernel are left out.
    pub early: Vec<String>,
    /// The same for those loaded from the root.
    pub load: Vec<String>,
    /// Modaliases of the recipe's machines that nothing serves.
    pub unserved: Vec<Unserved>,
}

pub(crate) fn add_kernel(
    recipe: &CheckedRecipe,
    supply: &Supply<'_>,
    draft: &mut Draft,
    signer: Option<&ModuleSigner>,
    cache: &Cache,
    jobs: usize,
) -> Result<KernelBuild, KmodError> {
    let files = KernelFiles::load(&recipe.kernel, supply)?;
    let record = load_record(&recipe.kernel, &files, signer, cache, jobs)?;
    let selection = &record.selection;
    let mut adder = ModuleAdder { kernel: &recipe.kernel, files: &files, draft };
    let (mut boot_sums, mut root_sums) = (BTreeMap::new(), BTreeMap::new());
    for (name, why) in &selection.boot {
        let (path, plain) = (files.modules[name].plain_path(), &record.plain[name]);
        boot_sums.insert(path, plain.xxh64.clone());
        adder.add_module(SegmentName::Boot, path, plain_body(plain, cache)?, why)?;
    }
    let root_path: fn(&ModuleFile) -> &str =
        if recipe.kernel.strip_root { ModuleFile::plain_path } else { |file| &file.path };
    for (name, why) in &selection.root {
        let file = &files.modules[name];
        let (body, xxh64) = match recipe.kernel.strip_root {
            true => (plain_body(&record.plain[name], cache)?, record.plain[name].xxh64.clone()),
            false => (file.body.clone(), hash_packed(file)?),
        };
        root_sums.insert(root_path(file), xxh64);
        adder.add_module(SegmentName::Root, root_path(file), body, why)?;
    }
    let listed = |modules: &BTreeMap<String, Demand>, path: fn(&ModuleFile) -> &str| {
        let one = |name: &String| ListedModule {
            path: path(&files.modules[name]),
            info: &selection.infos[name],
            place: files.order.get(name).copied().unwrap_or(usize::MAX),
        };
        modules.keys().map(|name| (name.clone(), one(name))).collect::<ListedModules<'_>>()
    };
    adder.add_tables(SegmentName::Boot, &listed(&selection.boot, ModuleFile::plain_path), &boot_sums)?;
    adder.add_tables(SegmentName::Root, &listed(&selection.root, root_path), &root_sums)?;
    adder.add_builtin(selection)?;
    add_firmware(&recipe.kernel, selection, supply, draft)?;
    let Selection { early, load, unserved, .. } = record.selection;
    Ok(KernelBuild { release: files.release, vmlinuz: files.vmlinuz, early, load, unserved })
}

struct ModuleAdder<'a> {
    kernel: &'a Kernel,
    files: &'a KernelFiles,
    draft: &'a mut Draft,
}

impl ModuleAdder<'_> {
    /// The boot segment has no merged layout: its modules lie below `lib`.
    fn path(&self, segment: SegmentName, inner: &str) -> String {
        let folder = if segment == SegmentName::Boot { "lib" } else { "usr/lib" };
        format!("{folder}/modules/{}/{inner}", self.files.release)
    }

    fn add_module(&mut self, segment: SegmentName, path: &str, body: Body, why: &Demand) -> Result<(), KmodError> {
        let reason = Reason::Module { by: why.by.clone(), relation: why.relation.clone() };
        self.add(segment, path, body, self.kernel.component.clone(), reason)
    }

    /// libkmod's indexes are for programs of the root: PID1 reads texts.
    fn add_tables(
        &mut self,
        segment: SegmentName,
        modules: &ListedModules<'_>,
        sums: &BTreeMap<&str, String>,
    ) -> Result<(), KmodError> {
        self.add_table(segment, "modules.dep", list_dep(modules))?;
        self.add_table(segment, "modules.alias", list_alias(modules))?;
        self.add_text(segment, "modules.softdep", format_softdep(modules))?;
        self.add_text(segment, MODULE_SUMS, format_sums(sums))
    }

    /// What is present in the root without a file there.
    fn add_builtin(&mut self, selection: &Selection) -> Result<(), KmodError> {
        let files = self.files;
        self.add_text(SegmentName::Boot, "modules.builtin", files.builtin_list.clone())?;
        let loaded = selection.loaded.iter().map(|name| files.modules[name].plain_path());
        self.add_table(SegmentName::Root, "modules.builtin", list_builtin(&files.builtin_list, loaded))?;
        let of_kernel = files.builtin_aliases.iter().map(|(name, alias)| (name.as_str(), alias.as_str()));
        let infos = selection.loaded.iter().map(|name| (name.as_str(), &selection.infos[name]));
        let of_loaded = infos.flat_map(|(name, info)| info.aliases.iter().map(move |alias| (name, alias.as_str())));
        let index = index_builtin_alias(of_kernel.chain(of_loaded));
        self.add_computed(SegmentName::Root, "modules.builtin.alias.bin", index)
    }

    fn add_table(&mut self, segment: SegmentName, name: &str, table: Table) -> Result<(), KmodError> {
        if segment == SegmentName::Root {
            self.add_computed(segment, &format!("{name}.bin"), table.index())?;
        }
        self.add_text(segment, name, table.text)
    }

    fn add_text(&mut self, segment: SegmentName, name: &str, text: String) -> Result<(), KmodError> {
        self.add_computed(segment, name, text.into_bytes())
    }

    fn add_computed(&mut self, segment: SegmentName, name: &str, bytes: Vec<u8>) -> Result<(), KmodError> {
        self.add(segment, name, Body::from_bytes(bytes), "kernel".into(), Reason::Computed)
    }

    fn add(
        &mut self,
        segment: SegmentName,
        inner: &str,
        body: Body,
        component: String,
        reason: Reason,
    ) -> Result<(), KmodError> {
        let path = self.path(segment, inner);
        let entry = Entry::of_root(path, Kind::File(body), 0o644);
        Ok(self.draft.add(TreeEntry { entry, component, origin: self.kernel.origin.clone(), reason, segment })?)
    }
}

fn hash_packed(file: &ModuleFile) -> Result<String, KmodError> {
    file.body.xxh64().map_err(|cause| KmodError::Read { path: file.body.place().display().to_string(), cause })
}

fn plain_body(plain: &UnpackedModule, cache: &Cache) -> Result<Body, KmodError> {
    let path = cache.blob(&plain.sha256).ok_or_else(|| KmodError::Read {
        path: plain.sha256.to_string(),
        cause: std::io::ErrorKind::NotFound.into(),
    })?;
    Ok(Body { sha256: plain.sha256, size: plain.size, at: BodyAt::File { path: path.into(), offset: 0 } })
}

/// The selection for this kernel and these requests, from the cache where it was made before.
fn load_record(
    kernel: &Kernel,
    files: &KernelFiles,
    signer: Option<&ModuleSigner>,
    cache: &Cache,
    jobs: usize,
) -> Result<CachedSelection, KmodError> {
    let key = record_key(kernel, files, signer);
    let kept = cache.derived("modules", &key).and_then(|path| std::fs::read(path).ok());
    let kept = kept.and_then(|json| serde_json::from_slice::<CachedSelection>(&json).ok());
    if let Some(record) = kept
        && record.plain.values().all(|plain| cache.blob(&plain.sha256).is_some())
    {
        return Ok(record);
    }
    let selection = select(kernel, files, cache, jobs)?;
    let of_root = selection.root.keys().filter(|name| kernel.strip_root && !selection.boot.contains_key(*name));
    let names: Vec<&String> = selection.boot.keys().chain(of_root).collect();
    let plain = parallel::map(&names, jobs, |name| {
        let file = &files.modules[*name];
        let mut bytes = read_plain(file)?;
        if kernel.strip {
            bytes =
                strip_module(&bytes).map_err(|problem| KmodError::CannotStrip { path: file.path.clone(), problem })?;
        }
        if let Some(signer) = signer {
            bytes = signer.sign(&bytes)?;
        }
        let (sha256, _) = cache.put_blob(&bytes)?;
        let xxh64 = format!("{:016x}", XxHash64::oneshot(0, &bytes));
        Ok(((*name).clone(), UnpackedModule { sha256, size: bytes.len() as u64, xxh64 }))
    });
    let record = CachedSelection { selection, plain: plain.into_iter().collect::<Result<_, KmodError>>()? };
    let file = cache.temp_file()?;
    let json = serde_json::to_vec(&record).expect("a selection is plain values");
    std::fs::write(file.path(), json)
        .map_err(|cause| KmodError::Read { path: file.path().display().to_string(), cause })?;
    cache.adopt_derived("modules", &key, file.path())?;
    Ok(record)
}

/// All that decides a selection: the kernel's files and what is asked for. Recipe lines are in it, as the reasons that are
/// kept name them.
fn record_key(kernel: &Kernel, files: &KernelFiles, signer: Option<&ModuleSigner>) -> String {
    let mut hasher = sha2::Sha256::new();
    let mut add = |text: &str| {
        hasher.update(text.len().to_le_bytes());
        hasher.update(text);
    };
    add(&FORMAT.to_string());
    add(if kernel.strip { "stripped" } else { "" });
    add(if kernel.strip_root { "root stripped" } else { "" });
    add(&signer.map(|signer| signer.identity().to_string()).unwrap_or_default());
    let netroot = kernel.netroot.clone().unwrap_or_default();
    add(if kernel.netroot.is_some() { "network root" } else { "" });
    for requests in [&kernel.early, &netroot, &kernel.modules, &kernel.load, &kernel.modaliases] {
        add(&requests.len().to_string());
        for request in requests {
            add(&request.text);
            add(&request.origin.to_string());
        }
    }
    add(&files.release);
    add(&files.builtin_list);
    for (name, alias) in &files.builtin_aliases {
        add(name);
        add(alias);
    }
    for file in files.modules.values() {
        add(&file.path);
        add(&file.body.sha256.to_string());
    }
    hex::encode(hasher.finalize())
}
