//! Which recipe file is laid over which: it decides whose file an image gets when two bring the same path.

use super::Origin;
use super::place::At;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// All files of a recipe by the name that [`Origin`] shows, with those that each is laid over.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    layers: BTreeMap<Arc<str>, Layer>,
}

#[derive(Debug, Clone)]
struct Layer {
    /// Place in the order in which the files are laid, from 0.
    order: usize,
    below: BTreeSet<Arc<str>>,
}

impl Lineage {
    /// Adds the file that is laid next, with those that it extends, directly or by way of others.
    pub fn lay(&mut self, file: Arc<str>, below: BTreeSet<Arc<str>>) {
        let order = self.layers.len();
        self.layers.insert(file, Layer { order, below });
    }

    /// The file of `upper` extends that of `lower`, directly or by way of others.
    pub fn is_over(&self, upper: &Origin, lower: &Origin) -> bool {
        self.layers.get(&upper.file).is_some_and(|layer| layer.below.contains(&lower.file))
    }

    /// A file is laid after all those that it extends.
    pub fn order(&self, origin: &Origin) -> usize {
        self.layers.get(&origin.file).map_or(0, |layer| layer.order)
    }
}

/// What became of named items of earlier files.
#[derive(Debug, Default)]
pub struct Earlier {
    /// Where an item stands -> where the one stands that it was laid over.
    pub laid_over: HashMap<At, At>,
    /// List and name of those that were taken out.
    pub removed: HashSet<(String, String)>,
}
