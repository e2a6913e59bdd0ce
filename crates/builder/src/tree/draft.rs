//! A tree while it is put together: entries that meet must agree.

use super::error::Owner;
use super::links::resolve;
use super::select::body_of_link;
use super::supply::{SuppliedEntry, Supply};
use super::{Reason, Resolved, Tree, TreeEntry, TreeError};
use crate::entry::{Body, Entry, Kind, MAX_FILE};
use crate::recipe::SegmentName;
use bootwright_contract::paths;
use std::collections::BTreeMap;

/// Bytes of one name (`NAME_MAX` of linux/limits.h).
const NAME_BYTES: usize = 255;
/// Bytes of a path: `PATH_MAX` of linux/limits.h holds the zero that ends it too, and PID1 opens all files of the root in
/// folders of the initramfs first.
const PATH_BYTES: usize = 4095 - paths::CONFIG_TREE.len() - 1;
/// Bytes of a symlink's target.
const TARGET_BYTES: usize = 4095;

#[derive(Debug, Default)]
pub struct Draft {
    pub tree: Tree,
    /// Device nodes and fifos that a component would have brought, by its name.
    pub left_out: BTreeMap<String, Vec<String>>,
}

impl Draft {
    /// Adds an entry. One that is there already must be the same; a folder that only came along gives way to one whose
    /// mode was chosen.
    pub fn add(&mut self, new: TreeEntry) -> Result<(), TreeError> {
        let path = &new.entry.path;
        let reserved = new.segment == SegmentName::Boot && (path == "bootwright" || path.starts_with("bootwright/"));
        if reserved || path.is_empty() && new.entry.kind != Kind::Dir {
            return Err(TreeError::Reserved { path: path.clone(), owner: Box::new(Owner::of(&new)) });
        }
        if path.is_empty() {
            return Ok(());
        }
        check_lengths(&new)?;
        if let Kind::File(Body { size, .. }) = new.entry.kind
            && size > MAX_FILE
        {
            let owner = Box::new(Owner::of(&new));
            return Err(TreeError::TooLarge { path: path.clone(), owner, size, limit: MAX_FILE });
        }
        let key = (new.segment, path.clone());
        match self.tree.entries.get(&key) {
            None => {}
            Some(old) if is_weak_folder(old) && new.entry.kind == Kind::Dir => {}
            Some(old) if is_weak_folder(&new) && old.entry.kind == Kind::Dir => return Ok(()),
            Some(old) => return self.check_agree(old, &new),
        }
        self.tree.entries.insert(key, new);
        Ok(())
    }

    /// Both can be there: they are the same, or folders of which one gives way to the other.
    pub(super) fn agree(&self, old: &TreeEntry, new: &TreeEntry) -> bool {
        let folders = old.entry.kind == Kind::Dir && new.entry.kind == Kind::Dir;
        folders && (is_weak_folder(old) || is_weak_folder(new)) || self.check_agree(old, new).is_ok()
    }

    fn check_agree(&self, old: &TreeEntry, new: &TreeEntry) -> Result<(), TreeError> {
        let (a, b) = (&old.entry, &new.entry);
        let same_content = match (self.body(old), self.body(new)) {
            (Some(a), Some(b)) => (a.sha256, a.size) == (b.sha256, b.size),
            _ => a.kind == b.kind,
        };
        let difference = match () {
            () if !same_content => "they differ",
            () if matches!(a.kind, Kind::Symlink(_)) => return Ok(()),
            () if a.mode != b.mode => "their modes differ",
            () if (a.uid, a.gid) != (b.uid, b.gid) => "their owners differ",
            () if a.xattrs != b.xattrs => "their extended attributes differ",
            () => return Ok(()),
        };
        let (first, second) = (Box::new(Owner::of(old)), Box::new(Owner::of(new)));
        Err(TreeError::Conflict { path: a.path.clone(), first, second, difference })
    }

    fn body<'a>(&'a self, entry: &'a TreeEntry) -> Option<&'a Body> {
        match &entry.entry.kind {
            Kind::File(body) => Some(body),
            Kind::Hardlink(target) => match &self.get(entry.segment, target)?.entry.kind {
                Kind::File(body) => Some(body),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn get(&self, segment: SegmentName, path: &str) -> Option<&TreeEntry> {
        self.tree.entries.get(&(segment, path.to_string()))
    }

    /// What the node sees at a path after the config was laid over the root.
    pub fn on_node(&self, path: &str) -> Option<&TreeEntry> {
        self.get(SegmentName::Config, path).or_else(|| self.get(SegmentName::Root, path))
    }

    /// Follows symlinks in the root with the config laid over it.
    pub fn resolve(&self, path: &str) -> Resolved {
        resolve(path, false, |p| self.on_node(p).map(|e| &e.entry.kind))
    }

    /// Draws in what a pool has at a path, with the symlinks on the way. `None` when no pool has a file there; then
    /// nothing was added. Returns the image path of the file itself.
    pub fn draw(
        &mut self,
        supply: &Supply<'_>,
        path: &str,
        first: &str,
        reason: &Reason,
    ) -> Result<Option<String>, TreeError> {
        let Resolved { links, end: Some(end) } = supply.resolve(path, first) else { return Ok(None) };
        let Some(found) = supply.at(&end, first) else { return supply.check_flawless(&end).map(|()| None) };
        for link in &links {
            let link = supply.at(link, first).expect("it was just found there");
            self.add_found(supply, link, reason)?;
        }
        self.add_found(supply, found, reason)?;
        Ok(Some(end))
    }

    fn add_found(&mut self, supply: &Supply<'_>, found: SuppliedEntry<'_>, reason: &Reason) -> Result<(), TreeError> {
        let entry = &found.offered.entry;
        let kind = match &entry.kind {
            Kind::Hardlink(target) => {
                let part = supply.part(&found.component.name).expect("it was found in that part");
                Kind::File(body_of_link(part, entry, target)?)
            }
            kind => kind.clone(),
        };
        self.add(TreeEntry {
            entry: Entry { kind, ..entry.clone() },
            component: found.component.name.clone(),
            origin: found.component.origin.clone(),
            reason: reason.clone(),
            segment: found.component.segment,
        })
    }

    /// Adds the folders that entries lie in, owned by root with mode 0755.
    pub fn complete_parents(&mut self) -> Result<(), TreeError> {
        let mut missing = Vec::new();
        for ((segment, path), child) in &self.tree.entries {
            for (end, _) in path.match_indices('/') {
                let parent = &path[..end];
                match self.get(*segment, parent) {
                    Some(folder) if folder.entry.kind == Kind::Dir => {}
                    Some(other) => {
                        return Err(TreeError::NotAFolder {
                            path: path.clone(),
                            owner: Box::new(Owner::of(child)),
                            parent: parent.into(),
                            parent_owner: Box::new(Owner::of(other)),
                        });
                    }
                    None => missing.push(TreeEntry {
                        entry: Entry::of_root(parent, Kind::Dir, 0o755),
                        reason: Reason::Parent,
                        ..child.clone()
                    }),
                }
            }
        }
        missing.into_iter().try_for_each(|folder| self.add(folder))
    }

    /// Folders of the config segment that only came along take mode and owner of the root's: laid over it, they would
    /// change them.
    pub fn keep_folder_modes(&mut self) {
        let mut found = Vec::new();
        for folder in self.tree.segment(SegmentName::Config).filter(|e| is_weak_folder(e)) {
            if let Some(root) = self.get(SegmentName::Root, &folder.entry.path)
                && root.entry.kind == Kind::Dir
            {
                found.push(Entry { kind: Kind::Dir, ..root.entry.clone() });
            }
        }
        for entry in found {
            if let Some(folder) = self.tree.entries.get_mut(&(SegmentName::Config, entry.path.clone())) {
                folder.entry = entry;
            }
        }
    }
}

/// Every format can hold longer ones, but no file system of a node can, and the boot would fail.
fn check_lengths(new: &TreeEntry) -> Result<(), TreeError> {
    let path = &new.entry.path;
    let name = path.split('/').map(str::len).max().unwrap_or(0);
    let target = if let Kind::Symlink(target) = &new.entry.kind { target.len() } else { 0 };
    let lengths =
        [("a name", name, NAME_BYTES), ("a path", path.len(), PATH_BYTES), ("a target", target, TARGET_BYTES)];
    match lengths.into_iter().find(|(_, bytes, limit)| bytes > limit) {
        Some((what, bytes, limit)) => {
            Err(TreeError::TooLong { path: path.clone(), owner: Box::new(Owner::of(new)), what, bytes, limit })
        }
        None => Ok(()),
    }
}

/// Nobody chose its mode.
fn is_weak_folder(entry: &TreeEntry) -> bool {
    entry.entry.kind == Kind::Dir && matches!(entry.reason, Reason::Parent | Reason::Overlay)
}
