//! Follows symlinks inside the image, as path_resolution(7) says, never on the host.

use crate::entry::Kind;

/// The kernel's own limit (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Folders of `/` that are symlinks to the same name below `usr` in a merged layout.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    /// The symlinks on the way, in the order in which they were followed.
    pub links: Vec<String>,
    /// The path that is no symlink; it need not exist. `None` when there are too many links.
    pub end: Option<String>,
}

/// Resolves a path (with or without a leading `/`). `lookup` says what is at a path; a folder need not be known.
/// With `merged`, `lib/x` is taken as `usr/lib/x` even where the link `lib` is not there (yet).
pub fn resolve<'a>(path: &str, merged: bool, lookup: impl Fn(&str) -> Option<&'a Kind>) -> Resolved {
    let mut todo: Vec<String> = path.split('/').rev().map(Into::into).collect();
    let mut at = String::new();
    let mut links = Vec::new();
    while let Some(part) = todo.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            _ => {}
        }
        let next = if at.is_empty() { part } else { format!("{at}/{part}") };
        match lookup(&next) {
            Some(Kind::Symlink(target)) => {
                if links.len() == MAX_LINKS {
                    return Resolved { links, end: None };
                }
                if target.starts_with('/') {
                    at.clear();
                }
                todo.extend(target.split('/').rev().map(String::from));
                links.push(next);
            }
            None if merged && MERGED.contains(&next.as_str()) => at = format!("usr/{next}"),
            _ => at = next,
        }
    }
    Resolved { links, end: Some(at) }
}

/// A path of a package in the merged layout: `lib/x` becomes `usr/lib/x`, the folder `lib` itself `usr/lib`.
pub fn merge_usr(path: &str, is_dir: bool) -> String {
    let (first, inner) = path.split_once('/').map_or((path, false), |(first, _)| (first, true));
    match MERGED.contains(&first) && (inner || is_dir) {
        true => format!("usr/{path}"),
        false => path.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn links_are_followed_inside_the_image() {
        let link = |to: &str| Kind::Symlink(to.into());
        let tree: HashMap<&str, Kind> = HashMap::from([
            ("usr/lib/libx.so.1", link("libx.so.1.2")),
            ("etc/abs", link("/usr/lib/libx.so.1")),
            ("etc/up", link("../../../etc/abs")),
            ("loop", link("loop")),
            ("dir", link("usr/lib")),
            ("lib64", link("usr/lib64")),
        ]);
        let go = |path: &str, merged| resolve(path, merged, |p| tree.get(p));
        let end = |path: &str, merged| go(path, merged).end;
        assert_eq!(end("/usr/lib/libx.so.1", false), Some("usr/lib/libx.so.1.2".into()));
        let all = go("etc/up", false);
        assert_eq!(all.links, ["etc/up", "etc/abs", "usr/lib/libx.so.1"]);
        assert_eq!(all.end, Some("usr/lib/libx.so.1.2".into()));
        assert_eq!(end("loop", false), None);
        assert_eq!(end("dir/a/./b/../c", false), Some("usr/lib/a/c".into()));
        assert_eq!(end("/lib/y", true), Some("usr/lib/y".into()));
        assert_eq!(end("/lib/y", false), Some("lib/y".into()));
        assert_eq!(end("/lib64/y", false), Some("usr/lib64/y".into()));
        assert_eq!(end("../..", false), Some("".into()));
    }

    #[test]
    fn merged_layout() {
        for (raw, is_dir, merged) in [
            ("lib/x", false, "usr/lib/x"),
            ("lib", true, "usr/lib"),
            ("lib", false, "lib"),
            ("lib64/ld.so", false, "usr/lib64/ld.so"),
            ("libx/y", false, "libx/y"),
            ("usr/lib/x", false, "usr/lib/x"),
            ("etc", true, "etc"),
        ] {
            assert_eq!(merge_usr(raw, is_dir), merged, "{raw}");
        }
    }
}
