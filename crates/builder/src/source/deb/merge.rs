//! Many packages, one pool: moves old paths below `usr/` and refuses packages that disagree.

use crate::entry::{Entry, Kind};
use crate::source::{Flaw, SourceError};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

/// Folders of the root that are symlinks into `usr/` (Debian 13 is usr-merged, as images are).
const MERGED: &[&str] = &["bin", "lib", "lib64", "sbin"];

/// The place of a path in a usr-merged tree: `lib/x` is `usr/lib/x`.
fn merged_path(path: &str) -> Option<String> {
    let first = path.split('/').next().unwrap_or_default();
    MERGED.contains(&first).then(|| format!("usr/{path}"))
}

/// Moves an entry below `usr/`. The links themselves (`bin` to `usr/bin`, of package base-files) stay.
fn merge_usr(mut entry: Entry) -> Entry {
    if matches!(&entry.kind, Kind::Symlink(_)) && MERGED.contains(&entry.path.as_str()) {
        return entry;
    }
    if let Some(path) = merged_path(&entry.path) {
        entry.path = path;
    }
    if let Kind::Hardlink(target) = &mut entry.kind
        && let Some(path) = merged_path(target)
    {
        *target = path;
    }
    entry
}

/// A flaw where its file would be.
pub fn merge_flaw(mut flaw: Flaw) -> Flaw {
    if let Some(path) = merged_path(&flaw.path) {
        flaw.path = path;
    }
    flaw
}

/// The union of the packages' files, by path; `packages` are names and entries, in the order of names.
///
/// A folder that several packages bring keeps the owner and mode of the first, as dpkg does. Anything else that two
/// packages bring must be the same in both.
pub fn merge_packages(packages: Vec<(&str, Vec<Entry>)>) -> Result<Vec<Entry>, SourceError> {
    let mut merged: BTreeMap<String, (Entry, &str)> = BTreeMap::new();
    for (package, entries) in packages {
        for entry in entries.into_iter().map(merge_usr) {
            match merged.entry(entry.path.clone()) {
                Slot::Vacant(slot) => {
                    slot.insert((entry, package));
                }
                Slot::Occupied(slot) => {
                    let (there, owner) = slot.get();
                    if !agree(there, &entry) {
                        return Err(conflict(&entry.path, owner, package));
                    }
                }
            }
        }
    }
    Ok(merged.into_values().map(|(entry, _)| entry).collect())
}

fn agree(a: &Entry, b: &Entry) -> bool {
    match (&a.kind, &b.kind) {
        (Kind::Dir, Kind::Dir) => true,
        (Kind::File(x), Kind::File(y)) => x.sha256 == y.sha256 && (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid),
        _ => a == b,
    }
}

fn conflict(path: &str, first: &str, second: &str) -> SourceError {
    let who = if first == second {
        format!("`{first}` brings two different things there, one below `usr/`")
    } else {
        format!("`{first}` and `{second}` bring different things there")
    };
    SourceError::BadInput {
        subject: path.into(),
        problem: who,
        help: "leave one of the packages out with `without`, or take it in a component of its own".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Body;

    fn file(path: &str, text: &str) -> Entry {
        Entry::of_root(path, Kind::File(Body::from_bytes(text.as_bytes())), 0o644)
    }

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry::of_root(path, kind, 0o755)
    }

    #[test]
    fn old_paths_move_below_usr() {
        let package = vec![
            entry("bin", Kind::Symlink("usr/bin".into())),
            entry("bin/link", Kind::Hardlink("bin/tool".into())),
            file("bin/tool", "x"),
            file("binary", "not bin"),
            entry("lib", Kind::Dir),
            entry("lib64/ld.so", Kind::Symlink("/lib/ld.so".into())),
            entry("usr/lib", Kind::Dir),
            file("usr/lib/z", "z"),
        ];
        let merged = merge_packages(vec![("a", package)]).unwrap();
        let paths: Vec<_> = merged.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["bin", "binary", "usr/bin/link", "usr/bin/tool", "usr/lib", "usr/lib/z", "usr/lib64/ld.so"]);
        assert_eq!(merged[2].kind, Kind::Hardlink("usr/bin/tool".into()));
    }

    #[test]
    fn packages_agree_or_are_named() {
        let shared = || vec![entry("etc", Kind::Dir), file("etc/same", "same")];
        let mut other_dir = shared();
        other_dir[0].mode = 0o700;
        let merged = merge_packages(vec![("a", shared()), ("b", other_dir)]).unwrap();
        assert_eq!((merged.len(), merged[0].mode), (2, 0o755));

        let executable = Entry { mode: 0o755, ..file("etc/same", "same") };
        let link = entry("etc/same", Kind::Symlink("x".into()));
        for other in [file("etc/same", "other"), executable, link, entry("etc/same", Kind::Dir)] {
            let error = merge_packages(vec![("a", shared()), ("b", vec![other])]).unwrap_err().to_string();
            assert_eq!(error, "`etc/same`: `a` and `b` bring different things there");
        }
        let twice = merge_packages(vec![("a", vec![file("lib/x", "1"), file("usr/lib/x", "2")])]).unwrap_err();
        assert!(twice.to_string().contains("`a` brings two different things"), "{twice}");
    }
}
