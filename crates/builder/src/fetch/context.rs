//! What everything that fetches may use: the cache, the user's choices, the folder of the recipe.

use super::VendorDir;
use crate::cache::Cache;
use crate::ui::Ui;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What every source may use.
pub struct Context<'a> {
    pub cache: &'a Cache,
    pub ui: &'a Ui,
    pub settings: &'a Settings,
    /// Folder of the recipe file: relative paths in a spec start here.
    pub recipe_dir: &'a Path,
}

/// Choices of the user that are no part of a recipe.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Use only what the cache holds.
    pub offline: bool,
    /// Takes the place of the network, for a build that is offline.
    pub vendor: Option<VendorDir>,
    /// Debian mirrors (`http://host/debian`), tried in turn; empty: those of the host's apt configuration.
    pub mirrors: Vec<String>,
    /// Where Debian packages are that mirrors have dropped (`https://host`, without a trailing slash); `None`: nowhere.
    pub snapshot: Option<String>,
    /// Parallel jobs, at least 1.
    pub jobs: usize,
    /// What this run has refreshed already; shared by clones.
    pub refreshed: Refreshed,
}

/// Metadata (package lists) in the cache that was brought up to date by this run: once is enough.
#[derive(Debug, Clone, Default)]
pub struct Refreshed(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Refreshed {
    pub fn holds(&self, place: &Path) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(place)
    }

    pub fn add(&self, place: &Path) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(place.into());
    }
}
