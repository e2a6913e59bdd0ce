//! A comparison as tables for people: the totals first.

use super::{Change, Diff, FileChange, Weight};
use crate::budget::mb;
use crate::inspect::report::table;

impl Diff {
    /// `top`: how many packages, modules and files are shown of each.
    pub fn to_text(&self, top: usize) -> String {
        let mut text = format!("{}\n-> {}\n\n", self.before, self.after);
        if self.identical {
            return text + "identical: the same bytes\n";
        }
        let bytes = |change: &Change| row(change, mb);
        text += &table(&["", "before", "after", "change"], self.totals.iter().map(bytes), &[1, 2, 3]);
        let mib = |change: &Change| row(change, |mib| format!("{mib} MiB"));
        text += &table(&["RAM", "before", "after", "change"], self.ram.iter().map(mib), &[1, 2, 3]);
        let settings = self.settings.iter().map(|s| vec![s.name.clone(), said(&s.before), said(&s.after)]);
        text += &table(&["", "before", "after"], settings, &[]);
        let groups = match self.weight {
            Weight::Packed => "component, packed",
            Weight::Unpacked => "unpacked",
        };
        text += &table(&[groups, "before", "after", "change"], self.components.iter().map(bytes), &[1, 2, 3]);
        let packages = self.packages.iter().take(top).map(|package| {
            vec![package.name.clone(), said(&package.before), said(&package.after), package.component.clone()]
        });
        text += &table(&["package", "before", "after", "component"], packages, &[]);
        text = with_rest(text, self.packages.len(), top);
        text += &files("kernel module", &self.modules, top);
        text += &files("file", &self.files, top);
        if self.is_empty() {
            text += "the same files; they are packed in another way\n";
        }
        text.trim_end().to_string() + "\n"
    }

    /// Nothing in it differs but the bytes of the boot files.
    fn is_empty(&self) -> bool {
        let Self { components, packages, modules, files, settings, .. } = self;
        let is_segment = |name: &str| name.starts_with("segment ");
        components.is_empty()
            && packages.is_empty()
            && modules.is_empty()
            && files.is_empty()
            && settings.iter().all(|setting| is_segment(&setting.name))
    }
}

fn files(title: &str, files: &[FileChange], top: usize) -> String {
    let rows = files.iter().take(top).map(|file| {
        let FileChange { change, component, what } = file;
        let mut row = row(change, mb);
        let name = row.remove(0);
        row.extend([what.as_str().to_string(), component.clone().unwrap_or_default(), name]);
        row
    });
    with_rest(table(&["before", "after", "change", "what", "component", title], rows, &[0, 1, 2]), files.len(), top)
}

/// Tells of rows that were left out.
fn with_rest(text: String, rows: usize, top: usize) -> String {
    match rows > top {
        true => format!("{}\n... and {} more; --top {rows} shows them\n\n", text.trim_end(), rows - top),
        false => text,
    }
}

fn row(change: &Change, shown: impl Fn(u64) -> String) -> Vec<String> {
    [change.name.clone()].into_iter().chain(change.figures(shown, "-", "-")).collect()
}

fn said(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| "-".into())
}
