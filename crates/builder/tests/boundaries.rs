//! Who may import what: the flow goes one way, and the pure stages stay pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// (folder or file below the repository, text that must not appear in its code, why)
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("crates/contract/src", "std::fs", "the contract does no I/O"),
    ("crates/contract/src", "std::net", "the contract does no I/O"),
    ("crates/builder/src/recipe", "crate::fetch", "reading a recipe never touches the network"),
    ("crates/builder/src/recipe", "crate::source", "reading a recipe never touches the network"),
    ("crates/builder/src/recipe", "ureq", "reading a recipe never touches the network"),
    ("crates/builder/src/budget", "std::fs", "a budget is a pure function of sizes"),
    ("crates/builder/src/budget", "std::process", "a budget measures nothing"),
    ("crates/builder/src/segment", "std::fs", "grouping entries reads no files"),
    ("crates/builder/src/source", "crate::tree", "a source knows nothing of the tree"),
    ("crates/builder/src/source", "crate::pack", "a source knows nothing of packing"),
    ("crates/builder/src/fetch", "crate::source::deb", "fetching does not interpret"),
    ("crates/builder/src/fetch", "crate::tree", "fetching does not interpret"),
    ("crates/builder/src/elf", "std::process", "the target's loader is never run"),
    ("crates/builder/src/elf", "\"/usr/lib", "the host's libraries are never read"),
    ("crates/builder/src/kmod", "std::process", "depmod is never run"),
    ("crates/builder/src/tree", "crate::pack", "the tree does not know how it is packed"),
    ("crates/builder/src/pack", "SystemTime", "packing uses no clock"),
    ("crates/builder/src/segment", "SystemTime", "segments use no clock"),
    ("crates/builder/src/emit", "SystemTime", "what is emitted carries the lock's time only"),
    ("crates/builder/src/nodes", "crate::fetch", "reading nodes.toml never touches the network"),
    ("crates/builder/src/nodes", "crate::emit", "nodes.toml knows nothing of what is written"),
    ("crates/builder/src/chain", "SystemTime", "the same images and nodes give the same boot chain"),
    ("crates/builder/src/chain", "crate::serve", "what is written does not depend on who serves it"),
    ("crates/builder/src", "println!(\"", "libraries do not print: the Ui and src/cli do"),
    ("crates/builder/src", "process::exit", "libraries do not exit"),
];

/// Places where a rule of the whole tree does not hold, with the rule's text.
const ALLOWED: &[(&str, &str)] =
    &[("crates/builder/src/cli", "println!(\""), ("crates/builder/src/ui.rs", "println!(\"")];

#[test]
fn no_module_imports_what_it_must_not() {
    let root = testkit::folders::project_root();
    let mut found = Vec::new();
    for (place, text, why) in FORBIDDEN {
        let files = rust_files(&root.join(place));
        assert!(!files.is_empty(), "`{place}` holds no Rust file: the rule about it is out of date");
        for file in files {
            let relative = file.strip_prefix(root).expect("below the root");
            if ALLOWED.iter().any(|(free, rule)| rule == text && relative.starts_with(free)) {
                continue;
            }
            for (number, line) in code_lines(&file) {
                if line.contains(text) {
                    found.push(format!("{}:{number}: `{text}`: {why}", relative.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_folders_of_the_builder_import_each_other_in_a_circle() {
    let source = testkit::folders::project_root().join("crates/builder/src");
    let mut imports = Imports::new();
    for file in rust_files(&source) {
        let relative = file.strip_prefix(&source).expect("below it");
        let room = relative.iter().next().and_then(|first| Path::new(first).file_stem()).expect("a name");
        let text: Vec<String> = code_lines(&file).into_iter().map(|(_, line)| line).collect();
        for other in imported(&text.join("\n")) {
            let from = imports.entry(room.to_string_lossy().into_owned()).or_default();
            from.entry(other).or_insert_with(|| relative.display().to_string());
        }
    }
    assert!(imports.len() > 20, "the folders are not found: {imports:?}");
    let circles = circles(&imports);
    assert!(circles.is_empty(), "these import each other, directly or by way of others:\n{}", circles.join("\n"));
}

/// What imports what, with a file that does.
type Imports = BTreeMap<String, BTreeMap<String, String>>;

/// Names behind `crate::`, those of a group too.
fn imported(text: &str) -> BTreeSet<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(name(rest));
            continue;
        };
        let deeper = |c: char| i32::from(c == '{') - i32::from(c == '}');
        let (mut depth, mut inner) = (0, 0);
        let end = group.find(|c: char| {
            depth += deeper(c);
            depth < 0
        });
        let parts = group[..end.unwrap_or(group.len())].split(|c: char| {
            inner += deeper(c);
            c == ',' && inner == 0
        });
        names.extend(parts.map(|part| name(part.trim())));
    }
    names.remove("");
    names
}

/// Imports from whose end a way leads back to their beginning.
fn circles(imports: &Imports) -> Vec<String> {
    let ahead = |from: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_string()]);
        while let Some(room) = next.pop() {
            let new = imports.get(&room).into_iter().flat_map(BTreeMap::keys).filter(|to| seen.insert((*to).clone()));
            next.extend(new.cloned().collect::<Vec<_>>());
        }
        seen
    };
    let mut found = Vec::new();
    for (from, others) in imports {
        let back = others.iter().filter(|(to, _)| *to != from && ahead(to).contains(from));
        found.extend(back.map(|(to, file)| format!("{from} -> {to} ({file})")));
    }
    found
}

#[test]
fn circles_are_found_and_named() {
    let text = "use crate::a::{B, c};\nuse crate::{d, e::{f, g},\n    h};\nuse std::x; fn y() { crate::z::y() }";
    assert_eq!(imported(text), ["a", "d", "e", "h", "z"].map(String::from).into());
    let import = |from: &str, to: &str| (from.to_string(), BTreeMap::from([(to.to_string(), format!("{from}.rs"))]));
    let mut imports = Imports::from([import("a", "b"), import("b", "c"), import("d", "d"), import("e", "a")]);
    assert!(circles(&imports).is_empty(), "{:?}", circles(&imports));
    imports.extend([import("c", "a")]);
    assert_eq!(circles(&imports), ["a -> b (a.rs)", "b -> c (b.rs)", "c -> a (c.rs)"]);
}

/// Numbered lines of code of a whole file, without comments and without what is compiled for tests alone.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(file).expect("a source file is readable");
    without_tests(&text).into_iter().filter(|(_, line)| !line.trim_start().starts_with("//")).collect()
}

/// Leaves out each item below `#[cfg(test)]`. As rustfmt writes it, an item ends with `;` on its first line or with a brace
/// that is indented as its attribute is.
fn without_tests(text: &str) -> Vec<(usize, String)> {
    let mut kept = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((i, line)) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push((i + 1, line.to_string()));
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        let item = lines.by_ref().map(|(_, line)| line).find(|line| !line.trim_start().starts_with("#["));
        let whole = |line: &str| line.ends_with(';') || line.ends_with("{}") || line.ends_with(',');
        if item.is_some_and(|line| !whole(line)) {
            assert!(lines.by_ref().any(|(_, line)| line == end), "an item for tests does not end");
        }
    }
    kept
}

#[test]
fn code_behind_tests_is_read_too() {
    let text = "use a;\n#[cfg(test)]\nmod tests;\nuse b;\n#[cfg(test)]\n#[path = \"x\"]\nmod t {\n    use c;\n    fn f() {\n    }\n}\nuse d;\n";
    let lines: Vec<(usize, String)> = without_tests(text);
    assert_eq!(lines, [(1, "use a;".into()), (4, "use b;".into()), (12, "use d;".into())]);
}

fn rust_files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.into()];
    }
    let mut files: Vec<PathBuf> = walkdir::WalkDir::new(place)
        .into_iter()
        .filter_map(Result::ok)
        .map(walkdir::DirEntry::into_path)
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        .filter(|p| {
            !p.strip_prefix(place)
                .unwrap_or(p)
                .iter()
                .any(|part| ["tests.rs", "tests", "fixture.rs"].iter().any(|tests| part == *tests))
        })
        .collect();
    files.sort();
    files
}
