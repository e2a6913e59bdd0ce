//! Lays the layers of an image over each other (image-spec, layer.md).

use super::super::SourceError;
use crate::entry::{Body, BodyAt, Entry, Kind};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Marks a removal, in front of the name of what is removed.
const WHITEOUT: &str = ".wh.";
/// Removes all that lower layers have in its folder.
const OPAQUE: &str = ".wh..wh..opq";
/// Other notes of the file system that made the layer; they stand for no file.
const NOTE: &str = ".wh..wh.";

/// The files of an image so far.
#[derive(Debug, Default)]
pub struct Stack {
    entries: BTreeMap<String, Entry>,
}

impl Stack {
    /// Lays a layer over what is there. `layer` is for messages. Whiteouts only remove what lower layers have, wherever
    /// they stand in their own layer.
    pub fn add(&mut self, layer: &str, entries: Vec<Entry>) -> Result<(), SourceError> {
        for entry in &entries {
            let (dir, name) = split(&entry.path);
            if name == OPAQUE {
                self.remove_below(dir);
            } else if let Some(removed) = name.strip_prefix(WHITEOUT).filter(|_| !name.starts_with(NOTE)) {
                if removed.is_empty() || removed == "." || removed == ".." {
                    return Err(bad(layer, &entry.path, "a whiteout of nothing"));
                }
                let path = join(dir, removed);
                self.remove_below(&path);
                self.entries.remove(&path);
            }
        }
        for entry in independent(entries) {
            if split(&entry.path).1.starts_with(WHITEOUT) {
                continue;
            }
            if entry.kind != Kind::Dir {
                self.remove_below(&entry.path);
            }
            for (end, _) in entry.path.match_indices('/') {
                let parent = &entry.path[..end];
                if self.entries.get(parent).is_some_and(|found| found.kind != Kind::Dir) {
                    let problem = format!("it lies below `{parent}`, which is no folder");
                    return Err(bad(layer, &entry.path, &problem));
                }
            }
            self.entries.insert(entry.path.clone(), entry);
        }
        Ok(())
    }

    fn remove_below(&mut self, dir: &str) {
        if dir.is_empty() {
            return self.entries.clear();
        }
        let prefix = format!("{dir}/");
        let below = self.entries.range(prefix.clone()..).map(|(path, _)| path);
        let below: Vec<String> = below.take_while(|path| path.starts_with(&prefix)).cloned().collect();
        for path in below {
            self.entries.remove(&path);
        }
    }

    /// All files, sorted by path. Names of one file are hard links again.
    pub fn finish(self) -> Vec<Entry> {
        let mut first: BTreeMap<(Arc<Path>, u64), Entry> = BTreeMap::new();
        let mut out: Vec<Entry> = Vec::with_capacity(self.entries.len());
        for (_, mut entry) in self.entries {
            if let Kind::File(Body { size: 1.., at: BodyAt::File { path, offset }, .. }) = &entry.kind {
                let place = (path.clone(), *offset);
                match first.get(&place) {
                    Some(same) if (same.mode, same.uid, same.gid) == (entry.mode, entry.uid, entry.gid) => {
                        entry.kind = Kind::Hardlink(same.path.clone());
                    }
                    Some(_) => {}
                    None => drop(first.insert(place, entry.clone())),
                }
            }
            out.push(entry);
        }
        out
    }
}

/// Hard links as files of their own (with the same body): the name that they link to may be hidden by another layer.
fn independent(entries: Vec<Entry>) -> Vec<Entry> {
    let files: BTreeMap<String, Kind> =
        entries.iter().filter(|e| matches!(e.kind, Kind::File(_))).map(|e| (e.path.clone(), e.kind.clone())).collect();
    let file_of = |mut entry: Entry| {
        if let Kind::Hardlink(target) = &entry.kind {
            entry.kind = files.get(target).expect("an unpacked archive's hard links lead to its files").clone();
        }
        entry
    };
    entries.into_iter().map(file_of).collect()
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.into() } else { format!("{dir}/{name}") }
}

fn bad(layer: &str, entry: &str, problem: &str) -> SourceError {
    SourceError::BadArchive { archive: layer.into(), entry: entry.into(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Sha256;

    /// Layers as text: `a/` is a folder, `a=x` a file with that body, `a->b` a symlink, `a==b` a hard link.
    fn layer(number: usize, text: &str) -> Vec<Entry> {
        let entry = |word: &str| {
            let (path, kind) = if let Some((path, target)) = word.split_once("->") {
                (path, Kind::Symlink(target.into()))
            } else if let Some((path, target)) = word.split_once("==") {
                (path, Kind::Hardlink(target.into()))
            } else if let Some((path, body)) = word.split_once('=') {
                // Where a body is tells files from each other, as in an unpacked archive.
                let at = BodyAt::File { path: Path::new(&format!("layer-{number}-{path}")).into(), offset: 0 };
                (path, Kind::File(Body { sha256: Sha256::of(body.as_bytes()), size: body.len() as u64, at }))
            } else {
                (word.trim_end_matches('/'), Kind::Dir)
            };
            Entry::of_root(path, kind, 0o755)
        };
        text.split_whitespace().map(entry).collect()
    }

    fn merge(layers: &[&str]) -> Result<String, String> {
        let mut stack = Stack::default();
        for (number, text) in layers.iter().enumerate() {
            stack.add("layer", layer(number, text)).map_err(|e| e.to_string())?;
        }
        let shown = |entry: Entry| match entry.kind {
            Kind::Dir => format!("{}/", entry.path),
            Kind::Hardlink(target) => format!("{}=={target}", entry.path),
            Kind::Symlink(target) => format!("{}->{target}", entry.path),
            Kind::File(Body { at: BodyAt::File { path, .. }, .. }) => {
                format!("{}={}", entry.path, &path.to_str().unwrap()["layer-".len().."layer-".len() + 1])
            }
            other => panic!("{other:?}"),
        };
        Ok(stack.finish().into_iter().map(shown).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn whiteouts() {
        for (layers, expected) in [
            // A file, a folder with what is in it, and a name that just starts the same.
            (&["a/ a/x=1 a/y=1", "a/.wh.x="][..], "a/ a/y=0"),
            (&["a/ a/b/ a/b/x=1 ab=1", ".wh.a="], "ab=0"),
            (&["a/ a/x=1", "a/ a/x=2"], "a/ a/x=1"),
            // An opaque folder keeps what its own layer brings, wherever the mark stands.
            (&["a/ a/x=1 a/b/ a/b/y=1", "a/ a/new=2 a/.wh..wh..opq="], "a/ a/new=1"),
            (&["a/ a/x=1", "a/ a/.wh..wh..opq= a/x=2"], "a/ a/x=1"),
            (&["a=1 b/", ".wh..wh..opq= c=2"], "c=1"),
            // A whiteout and its file in one layer: the file is the newer one.
            (&["x=1", ".wh.x= x=2"], "x=1"),
            (&["a/ a/x=1", ".wh.a= a/ a/y=1"], "a/ a/y=1"),
            // A removed file may come back, and a whiteout of nothing that is there is fine.
            (&["x=1", ".wh.x= .wh.none=", "x=3"], "x=2"),
            // Marks of the file system that made the layer.
            (&["x=1", ".wh..wh.plnk/ .wh..wh.aufs="], "x=0"),
            // Kinds change.
            (&["a/ a/x=1", "a=2"], "a=1"),
            (&["a/ a/x=1", "a->b"], "a->b"),
            (&["a=1", "a/ a/x=2"], "a/ a/x=1"),
            (&["a/ a/x=1", "a/"], "a/ a/x=0"),
        ] {
            assert_eq!(merge(layers).unwrap(), expected, "{layers:?}");
        }
    }

    #[test]
    fn hard_links() {
        for (layers, expected) in [
            (&["a=1 b==a c==a"][..], "a=0 b==a c==a"),
            // The name that was linked to is gone or another file: the others keep the body.
            (&["a=1 b==a c==a", ".wh.a="], "b=0 c==b"),
            (&["a=1 b==a", "a=2"], "a=1 b=0"),
            (&["x=1 a==x", ".wh.a="], "x=0"),
            (&["b=1 a==b"], "a=0 b==a"),
        ] {
            assert_eq!(merge(layers).unwrap(), expected, "{layers:?}");
        }
    }

    #[test]
    fn what_has_no_place_is_refused() {
        let expected = "`layer`: it lies below `lib`, which is no folder at `lib/x`";
        assert_eq!(merge(&["lib->usr/lib", "lib/x=1"]).unwrap_err(), expected);
        for name in [".wh.", ".wh..", "a/.wh..."] {
            let layer = format!("{name}=");
            let error = merge(&["a/", &layer]).unwrap_err();
            assert_eq!(error, format!("`layer`: a whiteout of nothing at `{name}`"));
        }
    }
}
