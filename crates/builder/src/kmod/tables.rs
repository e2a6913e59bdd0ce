//! The lists that modprobe reads, as depmod(8) writes them (modules.dep(5)).

use super::modinfo::ModInfo;
use bootwright_contract::modalias::module_name;
use std::collections::{BTreeMap, BTreeSet};

/// A module in a segment: its file below the release's folder, and what it says of itself.
#[derive(Debug, Clone, Copy)]
pub struct ListedModule<'a> {
    pub path: &'a str,
    pub info: &'a ModInfo,
}

/// `modules.dep`: a line a module, sorted by path: its file, then every module that it needs, directly or not. A module
/// comes before what it needs itself, so that they are loaded from the last to the first. What is not in `modules`
/// (it is built in or loaded already) is left out.
pub fn format_dep(modules: &BTreeMap<String, ListedModule<'_>>) -> String {
    let mut lines: Vec<String> = modules
        .iter()
        .map(|(name, listed)| {
            let mut order = Vec::new();
            visit(name, modules, &mut BTreeSet::new(), &mut order);
            let needed = order.iter().rev().skip(1).map(|name| format!(" {}", modules[*name].path));
            format!("{}:{}\n", listed.path, needed.collect::<String>())
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// Adds what a module needs, then the module.
fn visit<'a>(
    name: &str,
    modules: &'a BTreeMap<String, ListedModule<'_>>,
    seen: &mut BTreeSet<&'a str>,
    order: &mut Vec<&'a str>,
) {
    let Some((name, listed)) = modules.get_key_value(name) else { return };
    if !seen.insert(name) {
        return;
    }
    for needed in listed.info.depends.iter().rev() {
        visit(&module_name(needed), modules, seen, order);
    }
    order.push(name);
}

/// `modules.alias`: `alias <pattern> <module>`, sorted by module; the order of a module's own aliases is kept.
pub fn format_alias(modules: &BTreeMap<String, ListedModule<'_>>) -> String {
    let mut text = String::from("# Aliases extracted from modules themselves.\n");
    for (name, listed) in modules {
        for alias in &listed.info.aliases {
            text.push_str(&format!("alias {alias} {name}\n"));
        }
    }
    text
}

/// `modules.softdep`: `softdep <module> pre: ... post: ...`.
pub fn format_softdep(modules: &BTreeMap<String, ListedModule<'_>>) -> String {
    let mut text = String::from("# Soft dependencies extracted from modules themselves.\n");
    for (name, listed) in modules {
        for softdep in &listed.info.softdeps {
            text.push_str(&format!("softdep {name} {softdep}\n"));
        }
    }
    text
}

/// `modules.sums`, which is ours: `<XXH64> <file>` a line, sorted by file.
pub fn format_sums(sums: &BTreeMap<&str, String>) -> String {
    sums.iter().map(|(path, xxh64)| format!("{xxh64} {path}\n")).collect()
}
