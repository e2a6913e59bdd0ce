//! The difference to the last build, as rows.

use crate::budget::mb;
use crate::diff::{Change, Diff, FileChange};
use serde::Serialize;

/// Rows of files that are shown; `bootwright diff` has all.
const MOST_FILES: usize = 40;
/// In the place of what is not there.
const NONE: &str = "\u{2013}";

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangesView {
    pub identical: bool,
    pub before: String,
    pub groups: Vec<ChangeGroup>,
    pub more_files: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangeGroup {
    pub title: &'static str,
    pub rows: Vec<ChangeRow>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangeRow {
    pub name: String,
    pub before: String,
    pub after: String,
    /// Empty where there is no figure.
    pub by: String,
}

impl ChangesView {
    pub fn new(diff: &Diff) -> Self {
        let bytes = |change: &Change| row(change, mb);
        let of_files = |files: &[FileChange]| files.iter().take(MOST_FILES).map(|file| bytes(&file.change)).collect();
        let said = |text: &Option<String>| text.clone().unwrap_or_else(|| NONE.into());
        let text = |name: &str, before: &Option<String>, after: &Option<String>| ChangeRow {
            name: name.into(),
            before: said(before),
            after: said(after),
            by: String::new(),
        };
        let packages =
            diff.packages.iter().map(|p| text(&format!("{} ({})", p.name, p.component), &p.before, &p.after));
        let groups = vec![
            ChangeGroup { title: "Boot files", rows: diff.totals.iter().map(bytes).collect() },
            ChangeGroup {
                title: "RAM",
                rows: diff.ram.iter().map(|change| row(change, |mib| format!("{mib} MiB"))).collect(),
            },
            ChangeGroup {
                title: "Kernel, command line, segments",
                rows: diff.settings.iter().map(|s| text(&s.name, &s.before, &s.after)).collect(),
            },
            ChangeGroup { title: "Components", rows: diff.components.iter().map(bytes).collect() },
            ChangeGroup { title: "Packages", rows: packages.collect() },
            ChangeGroup { title: "Kernel modules", rows: of_files(&diff.modules) },
            ChangeGroup { title: "Files", rows: of_files(&diff.files) },
        ];
        let hidden = |files: &[FileChange]| files.len().saturating_sub(MOST_FILES);
        Self {
            identical: diff.identical,
            before: diff.before.clone(),
            groups: groups.into_iter().filter(|group| !group.rows.is_empty()).collect(),
            more_files: hidden(&diff.modules) + hidden(&diff.files),
        }
    }
}

fn row(change: &Change, shown: impl Fn(u64) -> String) -> ChangeRow {
    let [before, after, by] = change.figures(shown, NONE, "\u{2212}");
    ChangeRow { name: change.name.clone(), before, after, by }
}
