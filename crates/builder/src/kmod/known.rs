//! What the modules of a kernel say of themselves, each read once; of all of them the cache keeps it, as reading them costs
//! more than the rest of a build.

use super::KmodError;
use super::kernel::KernelFiles;
use super::modinfo::ModInfo;
use crate::cache::Cache;
use sha2::Digest;
use std::collections::BTreeMap;

/// Raised when the same modules say something else to us.
const FORMAT: u32 = 1;
const KIND: &str = "modinfo";

pub(super) struct Known<'a> {
    pub files: &'a KernelFiles,
    pub jobs: usize,
    cache: &'a Cache,
    infos: BTreeMap<String, ModInfo>,
}

impl<'a> Known<'a> {
    pub fn new(files: &'a KernelFiles, cache: &'a Cache, jobs: usize) -> Self {
        Self { files, jobs, cache, infos: BTreeMap::new() }
    }

    /// Of some modules, which exist, by name. Of those only that were read.
    pub fn read(&mut self, names: &[String]) -> Result<&BTreeMap<String, ModInfo>, KmodError> {
        let missing: Vec<&String> = names.iter().filter(|name| !self.infos.contains_key(*name)).collect();
        let infos = self.files.read_infos(&missing, self.jobs)?;
        self.infos.extend(missing.into_iter().cloned().zip(infos));
        Ok(&self.infos)
    }

    pub fn read_all(&mut self) -> Result<&BTreeMap<String, ModInfo>, KmodError> {
        if self.infos.len() < self.files.modules.len() {
            self.infos = self.load_all()?;
        }
        Ok(&self.infos)
    }

    pub fn into_infos(self) -> BTreeMap<String, ModInfo> {
        self.infos
    }

    fn load_all(&mut self) -> Result<BTreeMap<String, ModInfo>, KmodError> {
        let key = self.key();
        let kept = self.cache.derived(KIND, &key).and_then(|path| std::fs::read(path).ok());
        if let Some(infos) = kept.and_then(|json| serde_json::from_slice(&json).ok()) {
            return Ok(infos);
        }
        let names: Vec<String> = self.files.modules.keys().cloned().collect();
        let infos = self.read(&names)?.clone();
        let file = self.cache.temp_file()?;
        let json = serde_json::to_vec(&infos).expect("plain values");
        std::fs::write(file.path(), json)
            .map_err(|cause| KmodError::Read { path: file.path().display().to_string(), cause })?;
        self.cache.adopt_derived(KIND, &key, file.path())?;
        Ok(infos)
    }

    fn key(&self) -> String {
        let mut hasher = sha2::Sha256::new();
        hasher.update(FORMAT.to_le_bytes());
        for file in self.files.modules.values() {
            hasher.update(file.path.len().to_le_bytes());
            hasher.update(&file.path);
            hasher.update(file.body.sha256.0);
        }
        hex::encode(hasher.finalize())
    }
}
