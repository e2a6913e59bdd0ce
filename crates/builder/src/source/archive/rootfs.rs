//! The tree that archives unpack to, in memory: what GNU tar makes of one archive, umoci and containerd of an image's layers.
//!
//! Members are laid in their order. Links on the way to a name are followed inside the tree, as path_resolution(7) does
//! below a chroot(2); the name itself is never followed. What cannot be laid is a [`Flaw`] and counts only when it is wanted.

use super::super::{Flaw, FlawKind};
use crate::cache::unpacked::{Member, MemberKind};
use crate::entry::{Body, Entry, Kind, Xattrs, parse_entry_path};
use std::collections::{BTreeMap, HashMap};

/// Marks a removal, in front of the name of what is removed (image-spec, layer.md).
const WHITEOUT: &str = ".wh.";
/// Removes all that lower layers have in its folder.
const OPAQUE: &str = ".wh..wh..opq";
/// Other notes of the file system that made the layer; they stand for no file.
const NOTE: &str = ".wh..wh.";
/// Symlinks on the way to one name; the kernel's own limit (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;
/// Folders in each other: what is deeper has no path that programs can use (`PATH_MAX`), and trees are walked recursively.
const MAX_DEPTH: usize = 1024;

/// Whose rules hold where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// GNU tar's: a folder with something in it stays a folder, and no name has `..` in it.
    Tar,
    /// Those of image layers: whatever is there gives way, `..` ends at the root, and whiteouts remove.
    Layers,
}

/// What the archives gave.
#[derive(Debug, Default, PartialEq)]
pub struct Contents {
    /// Sorted by path, no path twice; folders that no archive named are left to whoever needs them, unless they are empty.
    pub entries: Vec<Entry>,
    /// Sorted by path.
    pub flaws: Vec<Flaw>,
}

/// A tree in the making.
#[derive(Debug)]
pub struct Rootfs {
    manner: Manner,
    /// Archives laid so far.
    archives: Vec<String>,
    nodes: Vec<Node>,
    /// What could be put nowhere.
    unplaced: Vec<Flaw>,
}

/// An inode: hard links are several names of one.
#[derive(Debug)]
struct Node {
    what: What,
    mode: u32,
    uid: u32,
    gid: u32,
    xattrs: Xattrs,
    /// Index of the archive that it came from.
    archive: usize,
}

#[derive(Debug)]
enum What {
    Dir {
        names: BTreeMap<String, Name>,
        /// No archive named it: it was made for what lies in it.
        implied: bool,
    },
    File(Body),
    Symlink(String),
    /// A device node or fifo.
    LeftOut,
    Unusable(String),
}

/// A folder's name for a node.
#[derive(Debug, Clone, Copy)]
struct Name {
    node: usize,
    /// Index of the archive that brought the name.
    archive: usize,
}

const ROOT: usize = 0;

impl Rootfs {
    pub fn new(manner: Manner) -> Self {
        let what = What::Dir { names: BTreeMap::new(), implied: true };
        let root = Node { what, mode: 0o755, uid: 0, gid: 0, xattrs: Xattrs::new(), archive: 0 };
        Self { manner, archives: Vec::new(), nodes: vec![root], unplaced: Vec::new() }
    }

    /// Lays an archive's members over what is there. `archive` is for messages.
    pub fn lay(&mut self, archive: &str, members: &[Member]) {
        self.archives.push(archive.into());
        for member in members {
            if let Err(problem) = self.lay_member(member) {
                let path = self.clean(&member.name).unwrap_or_else(|_| member.name.clone());
                self.unplaced.push(Flaw { archive: archive.into(), path, problem, kind: FlawKind::Unusable });
            }
        }
    }

    /// An error is why the member can be put nowhere.
    fn lay_member(&mut self, member: &Member) -> Result<(), String> {
        let path = self.clean(&member.name)?;
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if name.is_empty() {
            // The tree's root, usually `./`: the image has its own.
            return Ok(());
        }
        if self.manner == Manner::Layers && name.starts_with(WHITEOUT) {
            return self.remove_by(folder, name);
        }
        let folder = self.folder(folder, true)?.expect("it is made when it is missing");
        let there = self.name_in(folder, name);
        match (&member.kind, there.map(|there| &self.nodes[there.node].what)) {
            (MemberKind::Dir, Some(What::Dir { .. })) => {
                let node = there.expect("just matched").node;
                self.set_folder(node, member);
                self.set_name(folder, name, node);
                return Ok(());
            }
            (_, Some(What::Dir { names, .. })) if self.manner == Manner::Tar && !names.is_empty() => {
                return Err("it replaces a folder that holds other entries".into());
            }
            _ => {}
        }
        let node = match &member.kind {
            MemberKind::Hardlink(target) => match self.link_target(target) {
                Ok(node) => node,
                Err(problem) => self.add(What::Unusable(problem), member),
            },
            kind => {
                let what = match kind {
                    MemberKind::Dir => What::Dir { names: BTreeMap::new(), implied: false },
                    MemberKind::File(body) => What::File(body.clone()),
                    MemberKind::Symlink(target) => What::Symlink(target.clone()),
                    MemberKind::Node(_) => What::LeftOut,
                    MemberKind::Unusable(problem) => What::Unusable(problem.clone()),
                    MemberKind::Hardlink(_) => unreachable!("matched above"),
                };
                self.add(what, member)
            }
        };
        self.set_name(folder, name, node);
        Ok(())
    }

    /// A member's name as a path from the root: without `.`, and in layers without `..`, which goes no further than the root.
    fn clean(&self, name: &str) -> Result<String, String> {
        if self.manner == Manner::Tar {
            return parse_entry_path(name).map_err(|problem| problem.to_string());
        }
        let mut parts = Vec::new();
        for part in name.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        parse_entry_path(&parts.join("/")).map_err(|problem| problem.to_string())
    }

    fn add(&mut self, what: What, member: &Member) -> usize {
        let Member { mode, uid, gid, .. } = *member;
        let xattrs = member.xattrs.clone();
        self.nodes.push(Node { what, mode, uid, gid, xattrs, archive: self.archives.len() - 1 });
        self.nodes.len() - 1
    }

    fn set_folder(&mut self, node: usize, member: &Member) {
        let node = &mut self.nodes[node];
        (node.mode, node.uid, node.gid) = (member.mode, member.uid, member.gid);
        node.xattrs = member.xattrs.clone();
        if let What::Dir { implied, .. } = &mut node.what {
            *implied = false;
        }
    }

    fn names(&self, folder: usize) -> Option<&BTreeMap<String, Name>> {
        match &self.nodes[folder].what {
            What::Dir { names, .. } => Some(names),
            _ => None,
        }
    }

    fn name_in(&self, folder: usize, name: &str) -> Option<Name> {
        self.names(folder)?.get(name).copied()
    }

    fn set_name(&mut self, folder: usize, name: &str, node: usize) {
        let archive = self.archives.len() - 1;
        if let What::Dir { names, .. } = &mut self.nodes[folder].what {
            names.insert(name.into(), Name { node, archive });
        }
    }

    /// The folder at a path, with links followed. With `make`, what is missing on the way is made, also behind a link that
    /// leads nowhere; else `None`. An error says why there can be no folder.
    fn folder(&mut self, path: &str, make: bool) -> Result<Option<usize>, String> {
        let mut todo: Vec<String> = path.split('/').rev().map(Into::into).collect();
        // The folders from the root down to the one that was reached.
        let mut at = vec![ROOT];
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    at.truncate((at.len() - 1).max(1));
                    continue;
                }
                _ => {}
            }
            let here = at[at.len() - 1];
            if at.len() > MAX_DEPTH {
                return Err(format!("it lies more than {MAX_DEPTH} folders deep"));
            }
            let Some(found) = self.name_in(here, &part) else {
                if !make {
                    return Ok(None);
                }
                at.push(self.imply(here, &part));
                continue;
            };
            match &self.nodes[found.node].what {
                What::Dir { .. } => at.push(found.node),
                What::Symlink(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err("too many links lead to it".into());
                    }
                    if target.starts_with('/') {
                        at.truncate(1);
                    }
                    todo.extend(target.split('/').rev().map(String::from));
                }
                _ => return Err(format!("it lies below `{part}`, which is no folder")),
            }
        }
        Ok(at.pop())
    }

    /// Makes a folder that no archive named.
    fn imply(&mut self, folder: usize, name: &str) -> usize {
        let what = What::Dir { names: BTreeMap::new(), implied: true };
        let archive = self.archives.len() - 1;
        self.nodes.push(Node { what, mode: 0o755, uid: 0, gid: 0, xattrs: Xattrs::new(), archive });
        let node = self.nodes.len() - 1;
        self.set_name(folder, name, node);
        node
    }

    /// What a hard link becomes another name of: a symlink itself, not what it leads to (link(2)).
    fn link_target(&mut self, target: &str) -> Result<usize, String> {
        let path = self.clean(target).map_err(|problem| format!("a hard link to {problem}"))?;
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let found = self.folder(folder, false).ok().flatten().and_then(|folder| self.name_in(folder, name));
        match found {
            Some(found) if !matches!(self.nodes[found.node].what, What::Dir { .. }) => Ok(found.node),
            Some(_) => Err(format!("a hard link to `{path}`, which is a folder")),
            None => Err(format!("a hard link to `{path}`, which is no file of the archive")),
        }
    }

    /// Does what a whiteout says. Nothing of its own layer goes, wherever the mark stands in it.
    fn remove_by(&mut self, folder: &str, mark: &str) -> Result<(), String> {
        let removed = match mark {
            OPAQUE => None,
            mark if mark.starts_with(NOTE) => return Ok(()),
            mark => Some(&mark[WHITEOUT.len()..]),
        };
        if removed.is_some_and(|name| ["", ".", ".."].contains(&name)) {
            return Err("a whiteout of nothing".into());
        }
        // Where no folder is, nothing is to be removed.
        let Ok(Some(folder)) = self.folder(folder, false) else { return Ok(()) };
        let names = match removed {
            Some(name) => vec![name.to_string()],
            None => self.names(folder).into_iter().flat_map(BTreeMap::keys).cloned().collect(),
        };
        names.iter().for_each(|name| self.remove_lower(folder, name));
        Ok(())
    }

    /// Removes a name that a lower layer brought, with all below it; a folder stays if this layer put something into it.
    fn remove_lower(&mut self, folder: usize, name: &str) {
        let Some(found) = self.name_in(folder, name) else { return };
        let below: Vec<String> = self.names(found.node).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        below.iter().for_each(|name| self.remove_lower(found.node, name));
        let empty = self.names(found.node).is_none_or(BTreeMap::is_empty);
        if empty
            && found.archive < self.archives.len() - 1
            && let What::Dir { names, .. } = &mut self.nodes[folder].what
        {
            names.remove(name);
        }
    }

    /// All that was laid. Names of one file are hard links to the first of them.
    pub fn finish(self) -> Contents {
        let mut found = Vec::new();
        self.collect(ROOT, "", &mut found);
        found.sort();
        let mut contents = Contents { entries: Vec::with_capacity(found.len()), flaws: self.unplaced };
        let mut first: HashMap<usize, String> = HashMap::new();
        for (path, at) in found {
            let node = &self.nodes[at];
            let flaw = |problem: &str, kind| Flaw {
                archive: self.archives[node.archive].clone(),
                path: path.clone(),
                problem: problem.into(),
                kind,
            };
            let (kind, mode) = match &node.what {
                What::Dir { .. } => (Kind::Dir, node.mode),
                What::Symlink(target) => (Kind::Symlink(target.clone()), 0o777),
                What::File(body) => match first.get(&at) {
                    Some(first) => (Kind::Hardlink(first.clone()), node.mode),
                    None => {
                        first.insert(at, path.clone());
                        (Kind::File(body.clone()), node.mode)
                    }
                },
                What::LeftOut => {
                    contents.flaws.push(flaw("a device node or fifo", FlawKind::LeftOut));
                    continue;
                }
                What::Unusable(problem) => {
                    contents.flaws.push(flaw(problem, FlawKind::Unusable));
                    continue;
                }
            };
            let (uid, gid, xattrs) = (node.uid, node.gid, node.xattrs.clone());
            contents.entries.push(Entry { path, kind, mode, uid, gid, xattrs });
        }
        contents.flaws.sort_by(|a, b| a.path.cmp(&b.path));
        contents
    }

    /// Adds what lies in a folder, and says whether anything is kept of it.
    fn collect(&self, folder: usize, path: &str, found: &mut Vec<(String, usize)>) -> bool {
        let mut kept = false;
        for (name, Name { node, .. }) in self.names(folder).into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let (inner, implied) = match &self.nodes[*node].what {
                What::Dir { implied, .. } => (self.collect(*node, &path, found), *implied),
                _ => (false, false),
            };
            // A folder that was only made for what lies in it has its place by that.
            if !(implied && inner) {
                found.push((path, *node));
            }
            kept |= !matches!(self.nodes[*node].what, What::LeftOut | What::Unusable(_));
        }
        kept
    }
}

#[cfg(test)]
mod tests;
