//! What a recipe writes itself takes the place of what it inherits.

use super::error::Owner;
use super::{Draft, Reason, TreeEntry, TreeError};
use crate::entry::Kind;
use crate::recipe::{Lineage, SegmentName};

impl Draft {
    /// Adds an entry of an overlay or a `[[file]]`. It takes the place of one that is there if that is of an overlay or file
    /// of a recipe that its own extends: of a folder with all such entries below it, unless it is a folder itself.
    pub fn add_written(&mut self, new: TreeEntry, lineage: &Lineage) -> Result<(), TreeError> {
        let path = new.entry.path.clone();
        let gives_way = |old: &TreeEntry| is_written(old) && lineage.is_over(&new.origin, &old.origin);
        let Some(old) = self.get(new.segment, &path).filter(|old| gives_way(old)) else { return self.add(new) };
        if self.agree(old, &new) {
            return self.add(new);
        }
        let mut losers = vec![path.clone()];
        if old.entry.kind == Kind::Dir && new.entry.kind != Kind::Dir {
            let inside = format!("{path}/");
            let below = self.tree.entries.range((new.segment, inside.clone())..);
            let below = below.take_while(|((segment, path), _)| *segment == new.segment && path.starts_with(&inside));
            losers.extend(below.filter(|(_, old)| gives_way(old)).map(|((_, path), _)| path.clone()));
        }
        let owner = Owner::of(old);
        losers.iter().for_each(|path| self.take_out(new.segment, path));
        self.tree.gave_way.entry((new.segment, path)).or_default().insert(0, owner);
        self.add(new)
    }

    /// Takes an entry out. Other names of its file keep the content.
    fn take_out(&mut self, segment: SegmentName, path: &str) {
        let Some(taken) = self.tree.entries.remove(&(segment, path.to_string())) else { return };
        let mut first: Option<String> = None;
        for other in self.tree.entries.values_mut().filter(|e| e.segment == segment) {
            if !matches!(&other.entry.kind, Kind::Hardlink(target) if target == path) {
                continue;
            }
            other.entry.kind = match &first {
                Some(first) => Kind::Hardlink(first.clone()),
                None => taken.entry.kind.clone(),
            };
            first.get_or_insert_with(|| other.entry.path.clone());
        }
    }
}

/// It is of an overlay or a `[[file]]`; PID1 itself and its folders are not.
fn is_written(entry: &TreeEntry) -> bool {
    match entry.reason {
        Reason::Overlay | Reason::Inline => true,
        Reason::Init => matches!(entry.entry.kind, Kind::Symlink(_)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Body, Entry};
    use crate::recipe::Origin;

    /// `base`, `site` over it, and `other` beside them.
    fn lineage() -> Lineage {
        let mut lineage = Lineage::default();
        lineage.lay("base".into(), [].into());
        lineage.lay("site".into(), ["base".into()].into());
        lineage.lay("lab".into(), ["base".into(), "site".into()].into());
        lineage.lay("other".into(), ["base".into()].into());
        lineage
    }

    fn entry(file: &str, path: &str, kind: Kind, mode: u32) -> TreeEntry {
        let origin = Origin { file: file.into(), line: 1 };
        let (component, reason) = (format!("overlay:{file}"), Reason::Overlay);
        TreeEntry { entry: Entry::of_root(path, kind, mode), component, origin, reason, segment: SegmentName::Config }
    }

    fn text(file: &str, path: &str) -> TreeEntry {
        entry(file, path, Kind::File(Body::from_bytes(file.as_bytes())), 0o644)
    }

    fn hard(file: &str, path: &str, to: &str) -> TreeEntry {
        entry(file, path, Kind::Hardlink(to.into()), 0o644)
    }

    fn link(file: &str, path: &str) -> TreeEntry {
        entry(file, path, Kind::Symlink("x".into()), 0o777)
    }

    fn dir(file: &str, path: &str) -> TreeEntry {
        entry(file, path, Kind::Dir, 0o755)
    }

    fn build(entries: Vec<TreeEntry>) -> Result<Draft, String> {
        let mut draft = Draft::default();
        let added = entries.into_iter().try_for_each(|entry| draft.add_written(entry, &lineage()));
        added.and_then(|()| draft.complete_parents()).map(|()| draft).map_err(|e| e.to_string())
    }

    /// Path and file that it is of; `-> path` for a hard link.
    fn listed(draft: &Draft) -> Vec<String> {
        let shown = |e: &TreeEntry| match &e.entry.kind {
            Kind::Hardlink(to) => format!("{} {} -> {to}", e.entry.path, e.origin.file),
            _ => format!("{} {}", e.entry.path, e.origin.file),
        };
        draft.tree.entries.values().map(shown).collect()
    }

    #[test]
    fn what_extends_wins() {
        let cases = [
            ("a file", vec![text("base", "x"), text("site", "x")], vec!["x site"]),
            ("and again", vec![text("base", "x"), text("site", "x"), text("lab", "x")], vec!["x lab"]),
            ("past one that has it not", vec![text("base", "x"), text("lab", "x")], vec!["x lab"]),
            ("a link", vec![text("base", "x"), link("site", "x")], vec!["x site"]),
            (
                "a link in place of a folder",
                vec![dir("base", "d"), text("base", "d/a"), text("base", "da"), link("site", "d")],
                vec!["d site", "da base"],
            ),
            (
                "a folder in place of a link",
                vec![link("base", "d"), dir("site", "d"), text("site", "d/a")],
                vec!["d site", "d/a site"],
            ),
            (
                "another name of the file keeps its content",
                vec![text("base", "a"), hard("base", "b", "a"), hard("base", "c", "a"), text("site", "a")],
                vec!["a site", "b base", "c base -> b"],
            ),
            ("what is the same stays", vec![dir("base", "d"), dir("site", "d")], vec!["d base"]),
        ];
        for (what, entries, expected) in cases {
            let draft = build(entries).unwrap_or_else(|e| panic!("{what}: {e}"));
            // A folder that only came along is whose it was last.
            let found: Vec<String> = listed(&draft).iter().map(|l| l.replace("d site", "d base")).collect();
            let expected: Vec<String> = expected.iter().map(|l| l.replace("d site", "d base")).collect();
            assert_eq!(found, expected, "{what}");
        }
        let draft = build(vec![text("base", "a"), hard("base", "b", "a"), text("site", "a")]).unwrap();
        assert_eq!(draft.get(SegmentName::Config, "b").unwrap().entry.kind, text("base", "b").entry.kind);
    }

    #[test]
    fn whoever_gave_way_is_known() {
        let draft = build(vec![text("base", "x"), text("site", "x"), text("lab", "x")]).unwrap();
        let owners = &draft.tree.gave_way[&(SegmentName::Config, "x".to_string())];
        assert_eq!(
            owners.iter().map(Owner::to_string).collect::<Vec<_>>(),
            ["`overlay:site` (site:1)", "`overlay:base` (base:1)"]
        );
    }

    #[test]
    fn what_is_not_related_still_conflicts() {
        for (entries, said) in [
            (
                vec![text("site", "x"), text("other", "x")],
                "`x` is in `overlay:site` (site:1) and in `overlay:other` (other:1)",
            ),
            (vec![text("base", "x"), text("base", "x").moded()], "their modes differ"),
            (
                vec![dir("base", "d"), text("other", "d/a"), link("site", "d")],
                "`d` of `overlay:site` (site:1) is no folder",
            ),
            (vec![TreeEntry { reason: Reason::Computed, ..text("base", "x") }, text("site", "x")], "they differ"),
        ] {
            let error = build(entries).map(|draft| listed(&draft)).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    impl TreeEntry {
        fn moded(mut self) -> Self {
            self.entry.mode = 0o600;
            self
        }
    }
}
