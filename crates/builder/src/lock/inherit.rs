//! Pins of the recipes that a recipe extends: what it does not change stays what they were built and tested with.

use super::{Lock, LockError, LockedComponent, load_lock};
use crate::recipe::{CheckedRecipe, Component};
use std::path::{Path, PathBuf};

/// The locks of the recipes that a recipe extends, as far as they exist: the nearest first.
#[derive(Debug)]
pub struct Inherited {
    locks: Vec<(PathBuf, Lock)>,
}

impl Inherited {
    /// # Errors
    /// A lock that is there and cannot be used.
    pub fn load(recipe: &CheckedRecipe) -> Result<Self, LockError> {
        let mut locks = Vec::new();
        for path in &recipe.inherited_locks {
            if let Some(lock) = load_lock(path)? {
                locks.push((path.clone(), lock));
            }
        }
        Ok(Self { locks })
    }

    /// The pins of a component of `recipe` in the nearest lock that was made for the same source, and that lock's path.
    pub fn find(&self, recipe: &CheckedRecipe, component: &Component) -> Option<(&Path, LockedComponent)> {
        self.locks.iter().find_map(|(path, lock)| {
            let locked = lock.components.iter().find(|locked| locked.name == component.name)?;
            // Local paths in a lock start at the folder of its recipe.
            let same = locked.spec.moved(folder(path), folder(&recipe.path)) == component.source;
            same.then(|| (path.as_path(), LockedComponent { spec: component.source.clone(), ..locked.clone() }))
        })
    }

    /// The newest of the locks: seconds since 1970.
    pub fn time(&self) -> Option<u64> {
        self.locks.iter().map(|(_, lock)| lock.time).max()
    }
}

fn folder(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}
