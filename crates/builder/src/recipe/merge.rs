//! `extends`: laying one file's tree over another's.
//!
//! Sections merge key by key, a later scalar wins, lists of the sections are joined. Named items (`[[component]]`,
//! `[[image]]`, `[[overlay]]`, `[[service]]`, `[[file]]`, `[[root.tmpfs]]`, `[[root.bind]]`) are laid over the earlier item of that name: tables in them
//! merge, lists and scalars are replaced, `exclude` is joined and takes back by `!`. `remove = true` takes the earlier item out, `replace = true`
//! puts the later one in its place.

use super::component::SourceSpec;
use super::lineage::Earlier;
use super::node::{TomlEntry, TomlNode, Value};
use super::problem::{FoundProblem, Problem};
use super::sources::{Sources, plain};
use crate::entry::parse_entry_path;
use std::path::PathBuf;

/// Lists of tables whose items have a name: list, key of the name.
const NAMED: [(&str, &str); 7] = [
    ("component", "name"),
    ("image", "ref"),
    ("overlay", "name"),
    ("service", "name"),
    ("file", "path"),
    ("tmpfs", "path"),
    ("bind", "path"),
];
/// Of these keys of a file, and of those of a component that are sources, one at most is written: a later one takes the place
/// of the other.
const BODIES: [&str; 4] = ["content", "link", "dir", "init"];
/// Lists that grow: what an extended recipe leaves out stays out, unless a later one takes it back by `!` and the entry as written there.
const GROWING: [&str; 1] = ["exclude"];
/// Tables that are one value: replaced as a whole.
const WHOLE: [&str; 1] = ["ready"];

/// Where in a recipe a table stands: it decides how its keys merge.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    Section,
    Component,
    Image,
    File,
    Item,
}

/// Lays `over` (the later file) over `base`. Duplicates inside `over` and removals of nothing are problems.
pub fn merge(
    base: TomlNode,
    over: TomlNode,
    sources: &Sources,
    earlier: &mut Earlier,
    problems: &mut Vec<FoundProblem>,
) -> TomlNode {
    Merge { sources, earlier, problems }.table(base, over, Within::Section, "")
}

struct Merge<'a> {
    sources: &'a Sources,
    earlier: &'a mut Earlier,
    problems: &'a mut Vec<FoundProblem>,
}

impl Merge<'_> {
    fn table(&mut self, base: TomlNode, over: TomlNode, within: Within, section: &str) -> TomlNode {
        let at = over.at;
        let (Value::Table(mut merged), Value::Table(entries)) = (base.value, over.value) else {
            unreachable!("only tables are merged");
        };
        for entry in entries {
            drop_rivals(&mut merged, &entry, within);
            match merged.iter_mut().find(|e| e.key == entry.key) {
                Some(old) => {
                    let earlier = std::mem::replace(&mut old.node, TomlNode { at, value: Value::Bool(false) });
                    old.node = self.value(earlier, entry.node, within, section, &entry.key);
                    old.key_at = entry.key_at;
                }
                None => {
                    // Laid over nothing, so that its own duplicates are found.
                    let nothing = match &entry.node.value {
                        Value::List(_) => Value::List(Vec::new()),
                        Value::Table(_) => Value::Table(Vec::new()),
                        other => other.clone(),
                    };
                    let nothing = TomlNode { at: entry.node.at, value: nothing };
                    let node = self.value(nothing, entry.node, within, section, &entry.key);
                    merged.push(TomlEntry { key: entry.key, key_at: entry.key_at, node });
                }
            }
        }
        TomlNode { at, value: Value::Table(merged) }
    }

    fn value(&mut self, base: TomlNode, over: TomlNode, within: Within, section: &str, key: &str) -> TomlNode {
        match (&base.value, &over.value) {
            (Value::Table(_), Value::Table(_))
                if ["policies", "state", "registry"].contains(&section) || WHOLE.contains(&key) =>
            {
                over
            }
            (Value::Table(_), Value::Table(_)) => self.table(base, over, deeper(within), key),
            (Value::List(_), Value::List(_)) => match name_key(key, &over, within) {
                Some(name) => self.named(base, over, key, name),
                None if GROWING.contains(&key) => self.grown(base, over),
                None if within == Within::Section => joined(base, over),
                None => over,
            },
            _ => over,
        }
    }

    fn grown(&mut self, base: TomlNode, over: TomlNode) -> TomlNode {
        let mut items = base.items().to_vec();
        for item in over.items() {
            let Some(name) = item.text().and_then(|text| text.strip_prefix('!')) else {
                items.push(item.clone());
                continue;
            };
            let before = items.len();
            items.retain(|earlier| earlier.text() != Some(name));
            if items.len() == before {
                self.problems.push(FoundProblem { at: item.at, problem: Problem::NotExcluded { name: name.into() } });
            }
        }
        TomlNode { at: over.at, value: Value::List(items) }
    }

    fn named(&mut self, base: TomlNode, over: TomlNode, list: &str, name_key: &str) -> TomlNode {
        let at = over.at;
        let (Value::List(mut merged), Value::List(items)) = (base.value, over.value) else {
            unreachable!("only lists of tables have named items");
        };
        let inherited = merged.len();
        let mut removed = Vec::new();
        // Inherited items that one of these was laid over.
        let mut changed = Vec::new();
        let what = item_word(list);
        for mut item in items {
            let Some(name) = self.item_name(&item, list, name_key) else {
                merged.push(item);
                continue;
            };
            let place = merged.iter().position(|earlier| self.is_same(earlier, &item, list, name_key));
            let change = ["remove", "replace"].into_iter().find(|key| item.is_true(key));
            let before = place.filter(|i| *i < inherited);
            match (place, change) {
                (Some(i), _) if i >= inherited || changed.contains(&i) => {
                    let first = self.sources.origin(merged[i].at);
                    self.problems.push(FoundProblem {
                        at: item.at_of(name_key),
                        problem: Problem::Duplicate { what, name, first },
                    });
                }
                (Some(i), Some("remove")) => {
                    self.earlier.removed.insert((list.into(), name));
                    removed.push(i);
                }
                (Some(i), Some(_)) => {
                    self.earlier.laid_over.insert(item.at, merged[i].at);
                    merged[i] = item;
                }
                (Some(i), None) => {
                    self.earlier.laid_over.insert(item.at, merged[i].at);
                    let earlier = merged[i].clone();
                    if list == "overlay" && self.dir(&earlier) == self.dir(&item) {
                        // It says which one is meant: the folder stays that of the recipe which named it first.
                        item.remove("dir");
                    }
                    merged[i] = self.table(earlier, item, item_kind(list), list);
                }
                (None, Some(key)) => {
                    let problem = Problem::NothingToChange { what, name, key };
                    self.problems.push(FoundProblem { at: item.at_of(key), problem });
                }
                (None, None) => merged.push(item),
            }
            changed.extend(before);
        }
        let mut i = 0;
        merged.retain(|_| (!removed.contains(&i), i += 1).0);
        TomlNode { at, value: Value::List(merged) }
    }

    fn is_same(&self, earlier: &TomlNode, later: &TomlNode, list: &str, name_key: &str) -> bool {
        if list == "overlay" && later.text_of("name").is_none() {
            // Within one file a name tells two overlays of one folder apart.
            let both = earlier.text_of("name").is_none() || earlier.at.file != later.at.file;
            return both && self.folder(earlier).is_some() && self.folder(earlier) == self.folder(later);
        }
        item_name(earlier, name_key).is_some() && item_name(earlier, name_key) == item_name(later, name_key)
    }

    /// What stands for an item in messages.
    fn item_name(&self, item: &TomlNode, list: &str, name_key: &str) -> Option<String> {
        let folder = || item.text_of("dir").filter(|_| list == "overlay").map(String::from);
        item_name(item, name_key).or_else(folder)
    }

    /// What an overlay without a name is known by: its folder, wherever the path is written, and its place in the image.
    fn folder(&self, overlay: &TomlNode) -> Option<(PathBuf, String)> {
        let to = overlay.text_of("to").unwrap_or_default();
        Some((self.dir(overlay)?, parse_entry_path(to).unwrap_or_else(|_| to.into())))
    }

    fn dir(&self, overlay: &TomlNode) -> Option<PathBuf> {
        let dir = overlay.get("dir")?;
        Some(plain(&self.sources.dir(dir.at).join(dir.text()?)))
    }
}

/// An item that says from where it comes drops the other ways that the earlier one named; a file drops with its body the
/// mode that belonged to it.
fn drop_rivals(merged: &mut Vec<TomlEntry>, over: &TomlEntry, within: Within) {
    let rivals: &[&str] = match within {
        Within::Component => SourceSpec::KEYS,
        Within::File => &BODIES,
        Within::Image => &["layout", "builtin"],
        Within::Section | Within::Item => &[],
    };
    let rival = |e: &TomlEntry| e.key != over.key && rivals.contains(&e.key.as_str());
    if !rivals.contains(&over.key.as_str()) || !merged.iter().any(rival) {
        return;
    }
    let old_mode = |e: &TomlEntry| within == Within::File && e.key == "mode" && e.key_at.file != over.key_at.file;
    merged.retain(|e| !rival(e) && !old_mode(e));
}

fn deeper(within: Within) -> Within {
    if within == Within::Section { Within::Section } else { Within::Item }
}

fn item_kind(list: &str) -> Within {
    match list {
        "component" => Within::Component,
        "file" => Within::File,
        "image" => Within::Image,
        _ => Within::Item,
    }
}

fn name_key(list: &str, node: &TomlNode, within: Within) -> Option<&'static str> {
    let tables = within == Within::Section && matches!(node.value, Value::List(_));
    tables.then(|| NAMED.iter().find(|(l, _)| *l == list).map(|(_, name)| *name))?
}

fn item_word(list: &str) -> &'static str {
    match list {
        "component" => "component",
        "service" => "service",
        "file" => "file",
        "image" => "image",
        "overlay" => "overlay",
        "bind" => "bind mount",
        _ => "tmpfs",
    }
}

/// The item's name; a path in its plain form, so that `/etc/x` and `etc/x` are one.
fn item_name(item: &TomlNode, name_key: &str) -> Option<String> {
    let raw = item.text_of(name_key)?;
    match name_key {
        "path" => Some(parse_entry_path(raw).unwrap_or_else(|_| raw.to_string())),
        _ => Some(raw.to_string()),
    }
}

fn joined(base: TomlNode, over: TomlNode) -> TomlNode {
    let mut items = base.items().to_vec();
    items.extend(over.items().iter().cloned());
    TomlNode { at: over.at, value: Value::List(items) }
}
