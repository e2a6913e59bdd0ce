//! What the image's components could give: every pool by the path that its files would have in the image.

use super::error::Owner;
use super::links::{merge_usr, resolve};
use super::select::compile;
use super::{Resolved, TreeError};
use crate::entry::{Entry, Kind};
use crate::recipe::{Component, SegmentName};
use crate::source::{Flaw, FlawKind, Pool};
use globset::GlobSet;
use std::collections::BTreeMap;

/// A file of a pool.
#[derive(Debug, Clone)]
pub struct Offered {
    /// As it is in the package, where the recipe's globs and renames look.
    pub source_path: String,
    /// With its path in the image.
    pub entry: Entry,
}

/// A component with its pool by image path; what it excludes is not in it.
#[derive(Debug)]
pub struct Part<'a> {
    pub component: &'a Component,
    pub offers: BTreeMap<String, Offered>,
    /// Packages that those of the component depend on and that it does not have.
    pub depends: &'a [String],
    /// What its archives hold that no image can; what it excludes is not in it.
    pub flaws: Vec<Flaw>,
}

/// All components, in the recipe's order.
#[derive(Debug)]
pub struct Supply<'a> {
    pub parts: Vec<Part<'a>>,
}

/// A file in a pool, by component.
#[derive(Debug, Clone, Copy)]
pub struct SuppliedEntry<'a> {
    pub component: &'a Component,
    pub offered: &'a Offered,
}

impl<'a> Supply<'a> {
    pub fn of(components: &'a [Component], pools: &'a [(String, Pool)]) -> Result<Self, TreeError> {
        let mut parts = Vec::new();
        for component in components.iter().filter(|c| c.enabled) {
            let pool = pools.iter().find(|(name, _)| *name == component.name).map(|(_, pool)| pool);
            let pool = pool.ok_or_else(|| TreeError::NoPool { component: component.name.clone() })?;
            let exclude = compile(component, &component.exclude)?;
            let flaws = pool.flaws.iter().filter(|flaw| !exclude.is_match(&flaw.path)).cloned().collect();
            parts.push(Part { component, offers: offers(component, pool, &exclude)?, depends: &pool.depends, flaws });
        }
        Ok(Self { parts })
    }

    pub fn part(&self, component: &str) -> Option<&Part<'a>> {
        self.parts.iter().find(|part| part.component.name == component)
    }

    /// What is at that image path: in `first`'s pool if it is there, else in the first component that has it.
    pub fn at(&self, path: &str, first: &str) -> Option<SuppliedEntry<'_>> {
        self.parts_from(first)
            .find_map(|part| part.offers.get(path).map(|offered| SuppliedEntry { component: part.component, offered }))
    }

    /// Fails if some pool would have something at that image path, but for a flaw.
    pub fn check_flawless(&self, path: &str) -> Result<(), TreeError> {
        for Part { component, flaws, .. } in &self.parts {
            let here =
                |flaw: &&Flaw| flaw.kind == FlawKind::Unusable && image_path(component, &flaw.path, false) == path;
            if let Some(flaw) = flaws.iter().find(here) {
                let (flaw, component) = (Box::new(flaw.clone()), Box::new(Owner::component(component)));
                return Err(TreeError::Unusable { flaw, component });
            }
        }
        Ok(())
    }

    /// Follows symlinks through the pools, `first`'s before the others'.
    pub fn resolve(&self, path: &str, first: &str) -> Resolved {
        resolve(path, true, |p| self.at(p, first).map(|found| &found.offered.entry.kind))
    }

    /// All parts, that of `first` before the others.
    fn parts_from(&self, first: &str) -> impl Iterator<Item = &Part<'a>> {
        let own = self.parts.iter().filter(move |p| p.component.name == first);
        own.chain(self.parts.iter().filter(move |p| p.component.name != first))
    }
}

/// The path in the image, and what a hard link names, after `rename` and in the merged layout.
fn image_path(component: &Component, source_path: &str, is_dir: bool) -> String {
    if let Some(renamed) = component.rename.get(source_path) {
        return place(component, renamed, is_dir);
    }
    // A folder that is renamed takes along what is in it.
    for (from, to) in component.rename.iter().rev() {
        if let Some(rest) = source_path.strip_prefix(from.as_str()).and_then(|rest| rest.strip_prefix('/')) {
            return place(component, &format!("{to}/{rest}"), is_dir);
        }
    }
    place(component, source_path, is_dir)
}

/// The boot segment is an initramfs of its own, without the root's merged layout.
pub(super) fn place(component: &Component, path: &str, is_dir: bool) -> String {
    match component.segment {
        SegmentName::Boot => path.to_string(),
        SegmentName::Root | SegmentName::Images | SegmentName::Config => merge_usr(path, is_dir),
    }
}

fn offers(component: &Component, pool: &Pool, exclude: &GlobSet) -> Result<BTreeMap<String, Offered>, TreeError> {
    for from in component.rename.keys() {
        let inside =
            |path: &str| path.strip_prefix(from.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !pool.entries.iter().any(|entry| inside(&entry.path)) {
            let (component, origin) = (component.name.clone(), component.origin.clone());
            return Err(TreeError::RenameOfNothing { from: from.clone(), component, origin });
        }
    }
    let mut offers: BTreeMap<String, Offered> = BTreeMap::new();
    for entry in &pool.entries {
        if exclude.is_match(&entry.path) {
            continue;
        }
        let path = image_path(component, &entry.path, entry.kind == Kind::Dir);
        let kind = match &entry.kind {
            Kind::Hardlink(target) => Kind::Hardlink(image_path(component, target, false)),
            kind => kind.clone(),
        };
        let source_path = entry.path.clone();
        let offered = Offered { source_path, entry: Entry { path: path.clone(), kind, ..entry.clone() } };
        if let Some(taken) = offers.insert(path, offered) {
            let path = &taken.entry.path;
            if taken.entry.kind != Kind::Dir || offers[path].entry.kind != Kind::Dir {
                let owner = Box::new(Owner::component(component));
                let difference = "two files of the package have that path in the merged layout or after `rename`";
                return Err(TreeError::Conflict {
                    path: path.clone(),
                    first: owner.clone(),
                    second: owner,
                    difference,
                });
            }
        }
    }
    Ok(offers)
}
