//! A layer of a container image as containerd's overlay snapshotter keeps it: the folder that becomes a layer of an overlay.
//!
//! containerd unpacks each layer by itself (2.4.2, core/diff/apply/apply_linux.go and pkg/archive/tar.go, `applyNaive`): what lower
//! layers hold has no say in it, but that a folder which the layer does not name has their mode and owner. So a symlink of a lower
//! layer is not followed, and a hard link to a file of one cannot be made. Removals are the overlay's own marks
//! (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"): a character device 0:0, and an attribute.

use crate::cache::unpacked::{Member, MemberKind};
use crate::entry::{Entry, Kind, Xattrs};
use std::collections::{BTreeMap, HashMap};

/// In front of the name of what is removed (image-spec, layer.md).
const WHITEOUT: &str = ".wh.";
/// Removes all that lower layers have in its folder.
const OPAQUE: &str = ".wh..wh..opq";
/// The overlay's word for that.
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
/// Symlinks on the way to one name: continuity's limit (fs/path.go, `walkLinks`).
const MAX_LINKS: usize = 255;

/// One layer, unpacked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layer {
    /// By path, without a leading `/`; the folder of each name is there too, but for the layer's own.
    names: BTreeMap<String, usize>,
    files: Vec<File>,
    /// Nothing of lower layers shows.
    opaque: bool,
}

/// An inode: hard links are several names of one.
#[derive(Debug, Clone, PartialEq)]
struct File {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    xattrs: Xattrs,
    mtime: i64,
}

/// Something of an image with the time of its last change, in seconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedEntry {
    pub entry: Entry,
    pub mtime: u32,
}

/// Why a layer cannot be unpacked: containerd refuses it too, unless it is something that no image of ours can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}`: {problem}")]
pub struct LayerError {
    pub path: String,
    pub problem: String,
}

impl Layer {
    /// Unpacks a layer. `lower`: the layers below, the nearest first.
    ///
    /// # Errors
    /// [`LayerError`] with the first member that cannot be unpacked.
    pub fn unpack(members: &[Member], lower: &[&Layer]) -> Result<Self, LayerError> {
        let mut layer = Self::default();
        for member in members {
            layer.add(member, lower).map_err(|problem| LayerError { path: member.name.clone(), problem })?;
        }
        Ok(layer)
    }

    fn add(&mut self, member: &Member, lower: &[&Layer]) -> Result<(), String> {
        let name = plain(&member.name);
        let (folder, name) = name.rsplit_once('/').unwrap_or(("", &name));
        if name.is_empty() || name == ".." {
            // The layer's own folder is containerd's.
            return Ok(());
        }
        if name.len() > 255 {
            return Err("a name of more than 255 bytes (NAME_MAX)".into());
        }
        let folder = self.resolve(folder)?;
        self.make_folder(&folder, lower)?;
        if name.starts_with(WHITEOUT) {
            return self.remove(&folder, name, member);
        }
        let path = join(&folder, name);
        let file = match &member.kind {
            MemberKind::Hardlink(target) => {
                let file = self.link_target(target)?;
                self.take_away(&path);
                file
            }
            MemberKind::Unusable(problem) => return Err(problem.clone()),
            MemberKind::Dir => match self.at(&path).filter(|at| self.files[*at].kind == Kind::Dir) {
                Some(folder) => folder,
                None => self.put(&path, Kind::Dir),
            },
            MemberKind::File(body) => self.put(&path, Kind::File(body.clone())),
            MemberKind::Symlink(target) => self.put(&path, Kind::Symlink(target.clone())),
            MemberKind::Node(kind) => self.put(&path, kind.clone()),
        };
        self.names.insert(path, file);
        self.describe(file, member)
    }

    /// Gives a file what its last name says of it.
    fn describe(&mut self, file: usize, member: &Member) -> Result<(), String> {
        let file = &mut self.files[file];
        (file.mode, file.uid, file.gid) = (member.mode, member.uid, member.gid);
        file.mtime = member.mtime;
        let takes_user = matches!(file.kind, Kind::Dir | Kind::File(_));
        for (name, value) in &member.xattrs {
            match name.split_once('.').unwrap_or_default().0 {
                // containerd leaves those out (`setxattr` and its caller).
                "trusted" => {}
                "user" if !takes_user => {}
                "user" | "security" => drop(file.xattrs.insert(name.clone(), value.clone())),
                _ => return Err(format!("the attribute `{name}`, which a squashfs cannot hold")),
            }
        }
        Ok(())
    }

    fn at(&self, path: &str) -> Option<usize> {
        self.names.get(path).copied()
    }

    /// A new file in the place of what is there.
    fn put(&mut self, path: &str, kind: Kind) -> usize {
        self.take_away(path);
        self.files.push(File { kind, mode: 0o755, uid: 0, gid: 0, xattrs: Xattrs::new(), mtime: 0 });
        self.names.insert(path.into(), self.files.len() - 1);
        self.files.len() - 1
    }

    /// Removes a name of this layer with all below it.
    fn take_away(&mut self, path: &str) {
        self.names.remove(path);
        let below = format!("{path}/");
        let names = self.names.range(below.clone()..).take_while(|(name, _)| name.starts_with(&below));
        let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
        for name in &names {
            self.names.remove(name);
        }
    }

    /// The path of a folder with the symlinks of this layer followed, as continuity's `fs.RootPath` does; what is missing stays.
    fn resolve(&self, path: &str) -> Result<String, String> {
        let mut todo: Vec<String> = path.split('/').rev().map(String::from).collect();
        let (mut done, mut links) = (String::new(), 0);
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.truncate(done.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = join(&done, &part);
            match self.at(&next).map(|at| &self.files[at].kind) {
                Some(Kind::Symlink(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err("too many links lead to it".into());
                    }
                    if target.starts_with('/') {
                        done.clear();
                    }
                    todo.extend(target.split('/').rev().map(String::from));
                }
                Some(kind) if *kind != Kind::Dir && !todo.is_empty() => {
                    return Err(format!("it lies below `{next}`, which is no folder"));
                }
                _ => done = next,
            }
        }
        Ok(done)
    }

    /// Makes a folder, and those above it, that the layer has not named: as it is in the nearest lower layer that has it.
    fn make_folder(&mut self, path: &str, lower: &[&Layer]) -> Result<(), String> {
        if path.is_empty() {
            return Ok(());
        }
        match self.at(path).map(|at| &self.files[at].kind) {
            Some(Kind::Dir) => return Ok(()),
            Some(_) => return Err(format!("it lies below `{path}`, which is no folder")),
            None => {}
        }
        self.make_folder(path.rsplit_once('/').map_or("", |(above, _)| above), lower)?;
        let folder = self.put(path, Kind::Dir);
        let found = lower.iter().find_map(|layer| layer.look_up(path));
        if let Some(found) = found.filter(|found| found.kind == Kind::Dir) {
            let mut xattrs = found.xattrs.clone();
            xattrs.remove(OPAQUE_XATTR);
            self.files[folder] = File { xattrs, ..found.clone() };
        }
        Ok(())
    }

    /// What is at a path of this layer, with all links followed.
    fn look_up(&self, path: &str) -> Option<&File> {
        Some(&self.files[self.at(&self.resolve(path).ok()?)?])
    }

    /// What a hard link becomes another name of: a symlink itself, not what it leads to.
    fn link_target(&self, target: &str) -> Result<usize, String> {
        let target = plain(target);
        let (folder, name) = target.rsplit_once('/').unwrap_or(("", &target));
        let found = self.at(&join(&self.resolve(folder)?, name));
        match found {
            Some(found) if self.files[found].kind != Kind::Dir => Ok(found),
            Some(_) => Err(format!("a hard link to `{target}`, which is a folder")),
            None => Err(format!(
                "a hard link to `{target}`, which is not in the same layer: containerd does not unpack such an image"
            )),
        }
    }

    fn remove(&mut self, folder: &str, mark: &str, member: &Member) -> Result<(), String> {
        if mark == OPAQUE {
            match self.at(folder) {
                Some(folder) => drop(self.files[folder].xattrs.insert(OPAQUE_XATTR.into(), b"y".to_vec())),
                None => self.opaque = true,
            }
            return Ok(());
        }
        let removed = &mark[WHITEOUT.len()..];
        if ["", ".", ".."].contains(&removed) {
            return Err("a whiteout of nothing".into());
        }
        let path = join(folder, removed);
        if self.at(&path).is_some() {
            return Err(format!("a whiteout of `{path}`, which the layer itself has brought"));
        }
        let mark = self.put(&path, Kind::CharDevice { major: 0, minor: 0 });
        let file = &mut self.files[mark];
        (file.mode, file.uid, file.gid) = (0, member.uid, member.gid);
        Ok(())
    }

    /// The layer's folder and all in it below `folder`, sorted by path.
    pub fn entries(&self, folder: &str) -> Vec<TimedEntry> {
        let mut own = Entry::of_root(folder, Kind::Dir, 0o755);
        if self.opaque {
            own.xattrs.insert(OPAQUE_XATTR.into(), b"y".to_vec());
        }
        let mut entries = vec![TimedEntry { entry: own, mtime: 0 }];
        let mut first: HashMap<usize, String> = HashMap::new();
        for (name, at) in &self.names {
            let file = &self.files[*at];
            let path = join(folder, name);
            let kind = match first.get(at) {
                Some(first) => Kind::Hardlink(first.clone()),
                None => file.kind.clone(),
            };
            first.entry(*at).or_insert_with(|| path.clone());
            let mode = if matches!(file.kind, Kind::Symlink(_)) { 0o777 } else { file.mode };
            let File { uid, gid, ref xattrs, mtime, .. } = *file;
            // As containerd bounds times; those of a squashfs are 32 bits.
            let mtime = u32::try_from(mtime.max(0)).unwrap_or(u32::MAX);
            entries.push(TimedEntry { entry: Entry { path, kind, mode, uid, gid, xattrs: xattrs.clone() }, mtime });
        }
        entries.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
        entries
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.into() } else { format!("{folder}/{name}") }
}

/// A name without `.`, `//` and `x/..`, relative to the root, as Go's `filepath.Clean` makes it; `..` at the start leads nowhere.
fn plain(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Body;

    /// A member in words: `a/`, `a=x`, `a->b`, `a==b`; `@700` and `+1000` behind it are the mode and the owner.
    fn member(word: &str) -> Member {
        let (word, uid) = word.rsplit_once('+').map_or((word, 0), |(word, uid)| (word, uid.parse().unwrap()));
        let (word, mode) = word.rsplit_once('@').unwrap_or((word, "755"));
        let (name, kind) = if let Some((name, target)) = word.split_once("->") {
            (name, MemberKind::Symlink(target.into()))
        } else if let Some((name, target)) = word.split_once("==") {
            (name, MemberKind::Hardlink(target.into()))
        } else if let Some((name, body)) = word.split_once('=') {
            (name, MemberKind::File(Body::from_bytes(body.as_bytes())))
        } else {
            (word, MemberKind::Dir)
        };
        let mode = u32::from_str_radix(mode, 8).unwrap();
        Member { name: name.into(), kind, mode, uid, gid: 0, xattrs: Xattrs::new(), mtime: 5 }
    }

    /// The last of these layers in such words; `a!` is a whiteout, `a*` an opaque folder.
    fn unpacked(layers: &[&str]) -> Result<String, String> {
        let mut done: Vec<Layer> = Vec::new();
        for text in layers {
            let lower: Vec<&Layer> = done.iter().rev().collect();
            let members: Vec<Member> = text.split_whitespace().map(member).collect();
            done.push(Layer::unpack(&members, &lower).map_err(|e| e.to_string())?);
        }
        let words = done.last().unwrap().entries("fs").into_iter().map(|TimedEntry { entry, .. }| {
            let name = entry.path.strip_prefix("fs").unwrap().trim_start_matches('/');
            let opaque = if entry.xattrs.contains_key(OPAQUE_XATTR) { "*" } else { "" };
            let mode = if entry.mode == 0o755 { String::new() } else { format!("@{:o}", entry.mode) };
            let owner = if entry.uid == 0 { String::new() } else { format!("+{}", entry.uid) };
            match entry.kind {
                Kind::Dir => format!("{name}/{opaque}{mode}{owner}"),
                Kind::File(body) => {
                    format!("{name}={}{mode}{owner}", String::from_utf8(body.read_start(9).unwrap()).unwrap())
                }
                Kind::Symlink(target) => format!("{name}->{target}{owner}"),
                Kind::Hardlink(target) => format!("{name}=={}", target.trim_start_matches("fs/")),
                Kind::CharDevice { major: 0, minor: 0 } => format!("{name}!"),
                other => panic!("{other:?}"),
            }
        });
        Ok(words.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn layers_are_unpacked_by_themselves() {
        let cases: &[(&[&str], &str)] = &[
            (&["a/ a/x=1 a/y=2"], "/ a/ a/x=1 a/y=2"),
            (&["a/x=1", "a/.wh.x="], "/ a/ a/x!"),
            (&["a/ a/b/ a/b/x=1", "a/ a/.wh..wh..opq= a/b/y=1"], "/ a/* a/b/ a/b/y=1"),
            (&["a=1", ".wh..wh..opq= b=1"], "/* b=1"),
            (&["x=1", ".wh.x= x=2"], "/ x=2"),
            (&["a/ a/x=1", ".wh.a= a/ a/y=1"], "/ a/ a/y=1"),
            // Links of lower layers are not followed, those of the layer are.
            (&["usr/lib/x=1 lib->usr/lib", "lib/y=1"], "/ lib/ lib/y=1"),
            (&["usr/lib/x=1 lib->/usr/lib lib/y=1"], "/ lib->/usr/lib usr/ usr/lib/ usr/lib/x=1 usr/lib/y=1"),
            // A folder that is not named is as it is below; where a link leads to one there, as that is.
            (&["a/@700+5 a/x=1", "a/y=1"], "/ a/@700+5 a/y=1"),
            (&["a/@700 a/x=1", "b=1", "a/b/y=1"], "/ a/@700 a/b/ a/b/y=1"),
            (&["a/@700", ".wh.a=", "a/y=1"], "/ a/ a/y=1"),
            (&["usr/lib/@711+3 lib->usr/lib", "lib/y=1"], "/ lib/@711+3 lib/y=1"),
            // What is replaced.
            (&["a/ a/x=1 a=2"], "/ a=2"),
            (&["a=1 a/ a/x=2"], "/ a/ a/x=2"),
            (&["d/@700 d/x=1 d/@711"], "/ d/@711 d/x=1"),
            // A hard link gives the file what it says itself, and stays when the other name goes.
            (&["x=1@644 y==x@600+3"], "/ x=1@600+3 y==x"),
            (&["x=1 y==x x=2"], "/ x=2 y=1"),
            (&["s->t h==s"], "/ h->t s==h"),
            (&["../x=1 /a/../y=2 ./z/"], "/ x=1 y=2 z/"),
        ];
        for (layers, expected) in cases {
            assert_eq!(unpacked(layers).as_deref(), Ok(*expected), "{layers:?}");
        }
    }

    #[test]
    fn what_containerd_does_not_unpack_is_refused() {
        for (layers, problem) in [
            (&["x=1", "y==x"][..], "`y`: a hard link to `x`, which is not in the same layer"),
            (&["d/ h==d"], "`h`: a hard link to `d`, which is a folder"),
            (&["a=1 a/x=2"], "`a/x`: it lies below `a`, which is no folder"),
            (&["a=1 a/b/x=2"], "`a/b/x`: it lies below `a`, which is no folder"),
            (&["x=1 .wh.x="], "`.wh.x`: a whiteout of `x`, which the layer itself has brought"),
            (&[".wh.="], "`.wh.`: a whiteout of nothing"),
            (&["a->b b->a a/x=1"], "`a/x`: too many links lead to it"),
        ] {
            let said = unpacked(layers).unwrap_err();
            assert!(said.starts_with(problem), "{layers:?}: {said}");
        }
    }

    #[test]
    fn times_are_whole_seconds_that_a_squashfs_holds() {
        let at = |mtime| {
            let layer = Layer::unpack(&[Member { mtime, ..member("x=1") }], &[]).unwrap();
            layer.entries("fs")[1].mtime
        };
        assert_eq!([-1, 0, 1_700_000_000, i64::MAX].map(at), [0, 0, 1_700_000_000, u32::MAX]);
    }
}
