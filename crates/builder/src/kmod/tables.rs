//! The lists that modprobe reads, as depmod(8) writes them (modules.dep(5)): texts, and libkmod's indexes of the same. What
//! depmod would make of the image's own files is less, as modules that are stripped no longer tell their aliases.

use super::index::Index;
use super::modinfo::ModInfo;
use bootwright_contract::modalias::{module_name, normalize};
use std::collections::{BTreeMap, BTreeSet};

/// A module in a segment: its file below the release's folder, and what it says of itself.
#[derive(Debug, Clone, Copy)]
pub struct ListedModule<'a> {
    pub path: &'a str,
    pub info: &'a ModInfo,
    /// Its place in the kernel's `modules.order`; modules of one place are sorted by path.
    pub place: usize,
}

/// The modules of a segment by name.
pub type ListedModules<'a> = BTreeMap<String, ListedModule<'a>>;

/// Text and index of a list.
#[derive(Debug, Default)]
pub struct Table {
    pub text: String,
    index: Index,
}

impl Table {
    /// The index as a file.
    pub fn index(&self) -> Vec<u8> {
        self.index.to_bytes()
    }
}

/// `modules.dep`: a line a module: its file, then every module that it needs, directly or not. A module comes before what
/// it needs itself, so that they are loaded from the last to the first. What is not in `modules` (it is built in or loaded
/// already) is left out.
pub fn list_dep(modules: &ListedModules<'_>) -> Table {
    let order = by_need(modules);
    let mut table = Table::default();
    for (number, (name, listed)) in by_place(modules).into_iter().enumerate() {
        let mut needed = BTreeSet::new();
        collect_needed(name, modules, &mut needed);
        needed.remove(name.as_str());
        let mut needed: Vec<&str> = needed.into_iter().collect();
        needed.sort_by_key(|name| order.get(name).copied().unwrap_or(usize::MAX));
        let needed = needed.into_iter().map(|name| format!(" {}", modules[name].path));
        let line = format!("{}:{}", listed.path, needed.collect::<String>());
        table.index.insert(name.as_bytes(), &line, number as u32);
        table.text.push_str(&line);
        table.text.push('\n');
    }
    table
}

/// `modules.alias`: `alias <pattern> <module>`; the order of a module's own aliases is kept. libkmod's index is without
/// aliases whose brackets do not pair.
pub fn list_alias(modules: &ListedModules<'_>) -> Table {
    let mut table = Table { text: "# Aliases extracted from modules themselves.\n".into(), ..Table::default() };
    for (number, (name, listed)) in by_place(modules).into_iter().enumerate() {
        for alias in &listed.info.aliases {
            table.text.push_str(&format!("alias {alias} {name}\n"));
            if let Some(key) = normalize(alias) {
                table.index.insert(&key, name, number as u32);
            }
        }
    }
    table
}

/// `modules.softdep`: `softdep <module> pre: ... post: ...`.
pub fn format_softdep(modules: &ListedModules<'_>) -> String {
    let mut text = String::from("# Soft dependencies extracted from modules themselves.\n");
    for (name, listed) in by_place(modules) {
        for softdep in &listed.info.softdeps {
            text.push_str(&format!("softdep {name} {softdep}\n"));
        }
    }
    text
}

/// `modules.builtin`: what the kernel has built in (`text`), and files of modules that are loaded before this root is there.
/// Those are not in the root; modprobe says of both that they are present.
pub fn list_builtin<'a>(text: &'a str, loaded: impl Iterator<Item = &'a str>) -> Table {
    let mut table = Table::default();
    for path in text.lines().filter(|line| !line.is_empty()).chain(loaded) {
        table.index.insert(module_name(path).as_bytes(), "", 0);
        table.text.push_str(path);
        table.text.push('\n');
    }
    table
}

/// The index of what aliases modules have that [`list_builtin`] lists: pairs of a module and an alias.
pub fn index_builtin_alias<'a>(aliases: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut index = Index::default();
    for (name, alias) in aliases {
        if let Some(key) = normalize(alias) {
            index.insert(&key, name, 0);
        }
    }
    index.to_bytes()
}

/// `modules.sums`, which is ours: `<XXH64> <file>` a line, sorted by file.
pub fn format_sums(sums: &BTreeMap<&str, String>) -> String {
    sums.iter().map(|(path, xxh64)| format!("{xxh64} {path}\n")).collect()
}

fn by_place<'m, 'a>(modules: &'m ListedModules<'a>) -> Vec<(&'m String, &'m ListedModule<'a>)> {
    let mut sorted: Vec<_> = modules.iter().collect();
    sorted.sort_by_key(|(_, listed)| (listed.place, listed.path));
    sorted
}

/// What a module names that is in `modules`.
fn needs<'m>(listed: &'m ListedModule<'_>, modules: &'m ListedModules<'_>) -> impl Iterator<Item = &'m str> {
    listed.info.depends.iter().filter_map(|name| Some(modules.get_key_value(&module_name(name))?.0.as_str()))
}

fn collect_needed<'m>(name: &'m str, modules: &'m ListedModules<'_>, into: &mut BTreeSet<&'m str>) {
    let mut names = vec![name];
    while let Some(name) = names.pop() {
        names.extend(needs(&modules[name], modules).filter(|needed| into.insert(*needed)));
    }
}

/// Numbers modules so that each comes before what it needs, in depmod's way (`depmod_calculate_dependencies`): of those that
/// nothing without a number needs, the last one found is next. Modules that need each other in a ring have none.
fn by_need<'m>(modules: &'m ListedModules<'_>) -> BTreeMap<&'m str, usize> {
    let mut users: BTreeMap<&str, usize> = BTreeMap::new();
    modules.values().flat_map(|listed| needs(listed, modules)).for_each(|name| *users.entry(name).or_default() += 1);
    let sorted = by_place(modules).into_iter().map(|(name, _)| name.as_str());
    let mut ready: Vec<&str> = sorted.filter(|name| !users.contains_key(name)).collect();
    let mut numbers = BTreeMap::new();
    while let Some(name) = ready.pop() {
        numbers.insert(name, numbers.len());
        for needed in needs(&modules[name], modules) {
            let left = users.entry(needed).or_default();
            *left -= 1;
            if *left == 0 {
                ready.push(needed);
            }
        }
    }
    numbers
}
