//! Who may import what: the flow goes one way, and the pure stages stay pure.

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
